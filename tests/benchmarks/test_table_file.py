"""A table in a text file is a benchmark: kinds of columns, splits, missing values, and what is refused."""

from __future__ import annotations

import csv
import math
import random
from collections import Counter

import pytest
import torch

from mtl.benchmarks import find_benchmark, load_checked
from mtl.benchmarks.catalogue import resolved_name
from mtl.benchmarks.columns import read_table

ROWS = 200


def rows_of(seed=0):
    """Columns of every kind; `price` follows `size` and `town`."""
    draw = random.Random(seed)
    for number in range(ROWS):
        size, town = draw.uniform(20, 200), draw.choice(["Bonn", "Ulm", "Jena"])
        price = size * {"Bonn": 3, "Ulm": 2, "Jena": 1}[town]
        yield {
            "id": number,
            "size": f"{size:.3f}" if number % 10 else "",
            "town": town if number % 7 else "NA",
            "note": f"text {number}",
            "country": "DE",
            "price": f"{price:.2f}" if number % 20 else "?",
            "sold": "yes" if price > 200 else "no",
            "stars": draw.randint(1, 5),
            "class": town[0],
        }


@pytest.fixture
def table(tmp_path):
    def write(rows=None, name="homes.csv", delimiter=","):
        rows = list(rows_of()) if rows is None else rows
        path = tmp_path / name
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


def test_kinds_of_targets_are_told_from_their_values(table):
    found = find_benchmark(f"{table()}:price,sold,class,stars")
    losses = {task.name: (str(task.loss), task.outputs, task.metrics[0].name) for task in found.tasks}
    assert losses["price"] == ("mse", 1, "mae")
    assert losses["sold"] == ("binary-cross-entropy", 1, "auc")
    assert losses["class"][:2] == ("cross-entropy", 3)
    assert losses["stars"][:2] == ("cross-entropy", 5)
    assert any("stars:regression if that is wrong" in line for line in found.about)


def test_a_kind_that_is_given_decides(table):
    (task,) = find_benchmark(f"{table()}:stars:regression").tasks
    assert (task.loss.name, task.outputs) == ("mse", 1)


def test_columns_that_tell_nothing_are_left_out_and_said(table):
    found = find_benchmark(f"{table()}:price")
    left_out = {line.split(": ")[1].split(",")[0] for line in found.about if line.startswith("left out")}
    assert left_out == {"id", "note", "country"}
    inputs = load_checked(found).train.take(slice(None)).inputs
    assert inputs["codes"].shape[1] == 3  # town, sold, class
    assert inputs["numbers"].shape[1] == 3  # size, stars, whether the size is missing


def test_numbers_are_standardised_by_the_training_rows_and_missing_ones_are_the_mean(table):
    splits = load_checked(find_benchmark(f"{table()}:price"))
    numbers = splits.train.take(slice(None)).inputs["numbers"]
    size, absent = numbers[:, 0], numbers[:, 2]
    assert bool((size[absent > 0] == 0).all()) and 10 < int((absent > 0).sum()) < 20
    there = size[absent < 0]
    assert float(there.mean()) == pytest.approx(0, abs=1e-5) and float(there.std(correction=0)) == pytest.approx(1)


def test_missing_labels_stay_missing(table):
    splits = load_checked(find_benchmark(f"{table()}:price"))
    labels = torch.cat([split.targets["price"] for _, split in splits.items()])
    assert int(labels.isnan().sum()) == ROWS // 20


def test_errors_of_a_regression_are_in_its_unit(table):
    found = find_benchmark(f"{table()}:price")
    test, metric = load_checked(found).test, found.tasks[0].metrics[0]
    known = ~test.targets["price"].isnan()
    guess = torch.zeros(int(known.sum()))
    spread = metric(guess, test.targets["price"][known])
    prices = [float(row["price"]) for row in rows_of() if row["price"] != "?"]
    mean = sum(prices) / len(prices)
    assert spread == pytest.approx(sum(abs(price - mean) for price in prices) / len(prices), rel=0.3)


def test_rows_with_equal_inputs_are_in_one_split(table):
    rows = [{"a": k % 50, "b": (k * 7) % 50, "y": k / ROWS} for k in range(ROWS)]
    splits = load_checked(find_benchmark(f"{table(rows)}:y"))
    seen = [{tuple(row) for row in split.take(slice(None)).inputs.tolist()} for _, split in splits.items()]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert sum(len(split) for _, split in splits.items()) == ROWS
    assert len(splits.train) == pytest.approx(0.7 * ROWS, abs=4)


def counts_of(found, target):
    splits = load_checked(found)
    return [Counter(split.targets[target].tolist()) for _, split in splits.items()]


def test_each_class_of_a_single_target_has_its_share_in_every_split(table):
    rows = [{"a": math.sin(k), "b": k % 7, "y": "usual" if k % 20 else "rare"} for k in range(ROWS)]  # ten rare ones
    found = find_benchmark(f"{table(rows)}:y")
    assert [counts[1.0] for counts in counts_of(found, "y")] == [7, 1, 2]
    assert [counts[0.0] for counts in counts_of(found, "y")] == pytest.approx([133, 28.5, 28.5], abs=1)
    assert "each class of y in these shares" in found.about[-1]
    assert counts_of(found, "y") == counts_of(find_benchmark(f"{table(rows)}:y"), "y")


@pytest.mark.parametrize(("count", "shares"), [(3, [1, 1, 1]), (4, [2, 1, 1]), (5, [3, 1, 1]), (7, [5, 1, 1])])
def test_a_class_of_three_rows_is_in_every_split(table, count, shares):
    rows = [{"a": math.sin(k), "y": "xyz"[k % 3] if k >= count else "rare"} for k in range(ROWS)]
    found = find_benchmark(f"{table(rows)}:y")
    assert [counts[0] for counts in counts_of(found, "y")] == shares  # "rare" is the first by name


def test_equal_inputs_stay_together_where_classes_have_shares(table):
    rows = [{"a": k % 60, "b": k % 30, "y": "u" if (k // 3) % 9 else "v"} for k in range(ROWS)]
    found = find_benchmark(f"{table(rows)}:y")
    seen = [{tuple(row) for row in split.take(slice(None)).inputs.tolist()} for _, split in load_checked(found).items()]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])
    assert sum(counts.total() for counts in counts_of(found, "y")) == ROWS
    assert all(counts[1.0] for counts in counts_of(found, "y"))


def test_how_rows_are_split_is_said(table):
    path = table()
    assert find_benchmark(f"{path}:price").about[-1] == "split 70/15/15 at random, rows with equal inputs together"
    assert "left to chance, as there are several targets" in find_benchmark(f"{path}:sold,class").about[-1]
    assert "each class of stars in these shares" in find_benchmark(f"{path}:stars").about[-1]


def test_a_column_split_decides(table):
    rows = [{**row, "split": ("train", "val", "test")[k % 3]} for k, row in enumerate(rows_of())]
    splits = load_checked(find_benchmark(f"{table(rows)}:price"))
    assert [len(split) for _, split in splits.items()] == [67, 67, 66]
    assert not any("split" in line for line in find_benchmark(f"{table(rows)}:price").about)


@pytest.mark.parametrize(("name", "delimiter"), [("homes.csv", ";"), ("homes.tsv", "\t")])
def test_other_marks_between_fields(table, name, delimiter):
    assert find_benchmark(f"{table(name=name, delimiter=delimiter)}:price").name == "homes"


def test_a_table_of_numbers_alone_has_a_plain_tensor_and_trunk(table):
    rows = [{"a": math.sin(k), "y": k % 3} for k in range(60)]
    found = find_benchmark(f"{table(rows)}:y")
    assert found.trunk.startswith("mlp") and load_checked(found).train.first(2).shape == (2, 1)


def test_the_name_holds_from_any_folder(table, monkeypatch, tmp_path):
    path = table()
    monkeypatch.chdir(tmp_path)
    name = resolved_name("homes.csv:price,stars:regression[price=mae]")
    assert name == f"{path.resolve()}:price,stars:regression[price=mae]"
    assert str(find_benchmark(name).tasks[0].loss) == "mae"


@pytest.mark.parametrize(
    ("targets", "message"),
    [
        ("", "say with --target which columns"),
        (":prize", "did you mean price"),
        (":price:number", "must be one of regression, count, binary, classes"),
        (":price,price", "given twice"),
        (":town:regression", "'Bonn' is no finite number|'Ulm' is no finite number|'Jena' is no finite number"),
        (":town:binary", "3 different values"),
        (":country", "1 different values"),
        (":note:classes", "are in no training row"),
    ],
)
def test_a_wrong_target_is_refused_in_one_line(table, targets, message):
    with pytest.raises(ValueError, match=message) as caught:
        find_benchmark(f"{table()}{targets}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a,b\n1,2,3\n", "row 2: 3 fields"),
        ("a,a\n1,2\n", "name of its own"),
        ("a,b\n", "1 lines"),
        ("a,b\n" + "1,2\n" * 10, "has no column left"),
        ("a,b\n" + "".join(f"{k % 3},{k}\n" for k in range(10)), "10 rows"),
    ],
)
def test_a_table_that_cannot_be_read_is_refused_in_one_line(tmp_path, text, message):
    path = tmp_path / "bad.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        find_benchmark(f"{path}:b:regression")


def test_an_infinite_label_is_named(table):
    rows = [{"a": k / 3, "y": "inf" if k == 50 else k / 7} for k in range(ROWS)]
    with pytest.raises(ValueError, match="target 'y' cannot be a regression: 'inf' is no finite number"):
        find_benchmark(f"{table(rows)}:y:regression")


def test_a_wrong_split_names_the_row(table):
    rows = [{**row, "split": "train" if k else "trian"} for k, row in enumerate(rows_of())]
    with pytest.raises(ValueError, match="row 2: split 'trian' must be one of"):
        find_benchmark(f"{table(rows)}:price")


def test_a_decimal_comma_is_read_where_semicolons_part_the_fields(table):
    rows = [{"a": f"{k % 17},5", "y": f"{k},25"} for k in range(ROWS)]
    found = find_benchmark(f"{table(rows, delimiter=';')}:y")
    assert found.about[0].startswith("y: regression") and "inputs that are numbers: a" in found.about


def test_commas_in_quoted_names_do_not_part_the_fields(tmp_path):
    path = tmp_path / "quoted.csv"
    path.write_text(
        '"a, b, c";"x;1";y\n' + "".join(f"{k % 7};{k % 5};{k / 3}\n" for k in range(ROWS)), encoding="utf-8"
    )
    assert "inputs that are numbers: a, b, c, x;1" in find_benchmark(f"{path}:y").about


def test_one_number_in_two_writings_is_one_input_and_one_class(table):
    rows = [
        {"a": ("1", "1.0", "2", "3.50", "3.5")[k % 5], "b": k // 5, "y": ("0", "1", "1.0")[k % 3]} for k in range(ROWS)
    ]
    found = find_benchmark(f"{table(rows)}:y")
    assert found.about[0].startswith("y: binary")
    splits = load_checked(found)
    seen = [{tuple(row) for row in split.take(slice(None)).inputs.tolist()} for _, split in splits.items()]
    assert not (seen[0] & seen[1] or seen[0] & seen[2] or seen[1] & seen[2])


def test_words_that_python_alone_takes_for_numbers_stay_words(table):
    rows = [{"code": f"{k % 3}_{k % 2}", "a": math.sin(k), "y": k / 7} for k in range(ROWS)]
    assert "inputs that are words: code" in find_benchmark(f"{table(rows)}:y").about


def test_a_column_may_be_named_as_the_marker_of_missing_values_would_be(table):
    rows = [{"a": "" if k % 5 else k, "a is missing": math.sin(k), "y": k / 7} for k in range(ROWS)]
    assert load_checked(find_benchmark(f"{table(rows)}:y")).train.first(2).shape == (2, 3)


def test_a_single_word_among_numbers_is_named(table):
    rows = [
        {"a": "n.v." if k == 3 else k / 3, "b": k % 7, "c": math.sin(k), "y": "inf" if k == 50 else k / 7}
        for k in range(ROWS)
    ]
    path = table(rows)
    assert any("all but 'n.v.' are numbers" in line for line in find_benchmark(f"{path}:b").about)
    with pytest.raises(ValueError, match="all but 'inf' are numbers"):
        find_benchmark(f"{path}:y")


def test_classes_that_differ_in_capitals_alone_are_said(table):
    rows = [{"a": math.sin(k), "y": ("Yes", "yes", "no")[k % 3]} for k in range(ROWS)]
    assert "'Yes' and 'yes' differ in capitals alone" in find_benchmark(f"{table(rows)}:y").about[0]


def test_what_a_target_of_words_that_all_differ_lacks_is_said(table):
    rows = [{"a": math.sin(k), "y": f"{k} EUR"} for k in range(ROWS)]
    with pytest.raises(ValueError, match="for a regression, values have to be numbers, and '0 EUR' is none"):
        find_benchmark(f"{table(rows)}:y")


def test_a_table_whose_equal_rows_leave_a_split_empty_is_refused(table):
    with pytest.raises(ValueError, match="2 different inputs"):
        find_benchmark(f"{table([{'a': 'uv'[k % 2], 'y': k / 3} for k in range(ROWS)])}:y")


def test_labels_whose_spread_is_no_number_are_refused(table):
    rows = [{"a": math.sin(k), "y": f"{k}e200"} for k in range(ROWS)]
    with pytest.raises(ValueError, match="too large"):
        find_benchmark(f"{table(rows)}:y:regression")


def test_why_no_column_is_left_is_said(table):
    with pytest.raises(ValueError, match="left out: a, the same everywhere"):
        find_benchmark(f"{table([{'a': 1, 'y': k / 3} for k in range(ROWS)])}:y")


def test_dates_are_inputs_as_numbers_of_days(table):
    rows = [{"day": f"2024-{k % 12 + 1:02d}-{k % 28 + 1:02d}", "y": k / 7} for k in range(ROWS)]
    rows[5]["day"], rows[6]["day"] = "", "2024-01-01 12:00"
    found = find_benchmark(f"{table(rows)}:y")
    assert "inputs that are dates, as numbers of days: day" in found.about
    new = table([{"day": day} for day in ("2024-01-01", "2024-01-02", "2024-01-01T06:00")], name="new.csv")
    first, second, quarter = found.inputs_of(read_table(new))[:, 0].tolist()
    assert (quarter - first) / (second - first) == pytest.approx(0.25, abs=1e-4)


def test_a_column_without_a_name_and_lines_of_blanks_are_no_fault(tmp_path):
    path = tmp_path / "of_pandas.csv"
    path.write_text(",a,y\n" + "".join(f"{k},{k % 9},{k / 7}\n" for k in range(ROWS)) + " \n,,\n", encoding="utf-8")
    found = find_benchmark(f"{path}:y")
    assert "left out: column 1, numbers of rows" in found.about
    assert sum(len(split) for _, split in load_checked(found).items()) == ROWS


@pytest.mark.parametrize("name", ["", "Unnamed: 0", "index", "ID", "row", "row_id"])
def test_a_column_named_as_numbers_of_rows_are_is_left_out_where_nearly_all_differ(table, name):
    def about(numbers):
        rows = [{name: number, "a": math.sin(k), "y": k / 7} for k, number in enumerate(numbers)]
        return find_benchmark(f"{table(rows)}:y").about

    said = f"left out: {name or 'column 1'}, named as numbers of rows are, and 199 different ones in 200 different rows"
    assert said in about([k + k // 9 for k in range(ROWS - 1)] + [5])  # rows were dropped; one number is there twice
    assert f"inputs that are numbers: {name or 'column 1'}, a" in about([k // 2 for k in range(ROWS)])


def test_numbers_of_rows_of_which_some_are_there_twice_are_left_out(table):
    rows = [{"number": k, "a": math.sin(k // 4), "y": k // 4} for k in range(ROWS)]
    found = find_benchmark(f"{table([*rows, *rows[:30]])}:y")
    assert "left out: number, numbers of rows, some of which are there twice" in found.about
    assert "inputs that are numbers: a" in found.about
    seen = [set(split.take(slice(None)).inputs.flatten().tolist()) for _, split in load_checked(found).items()]
    assert sum(map(len, seen)) == len(set().union(*seen)) == ROWS // 4  # rows that differ in their number alone are one
    aged = [{**row, "number": 20 + k % 60} for k, row in enumerate(rows)]  # an age
    assert "inputs that are numbers: number, a" in find_benchmark(f"{table(aged)}:y").about


def test_long_ids_are_words_and_not_taken_for_one_number(table):
    rows = [{"id": 10**18 + k, "a": math.sin(k), "big": f"{k}e30", "y": k / 7} for k in range(ROWS)]
    found = find_benchmark(f"{table(rows)}:y")
    assert f"left out: id, {ROWS} different words in {ROWS} rows" in found.about
    assert "inputs that are numbers: a, big" in found.about


def test_another_encoding_than_utf_8_is_named(tmp_path):
    path = tmp_path / "latin.csv"
    path.write_bytes("a,y\nKöln,1\n".encode("latin-1"))
    with pytest.raises(ValueError, match="byte 5 is not UTF-8; save it in this encoding"):
        find_benchmark(f"{path}:y")


def test_a_folder_may_have_brackets_in_its_name(table, tmp_path):
    folder = tmp_path / "data [old]"
    folder.mkdir()
    path = table().rename(folder / "homes.csv")
    name = resolved_name(f"{path}:price[price=mae]")
    assert name == f"{path}:price[price=mae]" and str(find_benchmark(name).tasks[0].loss) == "mae"
