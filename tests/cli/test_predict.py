"""`mtl predict`: what a model says of new rows is what it was measured by, and what does not fit is refused."""

import csv
import random

import pytest
import torch

import mtl
from mtl.benchmarks import find_benchmark
from mtl.cli.main import main
from tests.written import records_of

ROWS = 240


def call(*arguments):
    return main([str(argument) for argument in arguments])


def write(path, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def read(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def rows_of(seed=0):
    draw = random.Random(seed)
    for number in range(ROWS):
        size, town = draw.uniform(20, 200), draw.choice(["Bonn", "Ulm", "Jena"])
        yield {
            "name": f"home {number}",
            "town": town,
            "size": "" if number % 11 == 0 else f"{size:.2f}",
            "built": f"{draw.randint(1950, 2020)}-05-01",
            "price": f"{1000 * size:.1f}",
            "sold": "yes" if size > 90 else "no",
            "class": town[0],
        }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A table, and the directory of a model that was trained on it."""
    folder = tmp_path_factory.mktemp("predict")
    path, out = write(folder / "homes.csv", list(rows_of())), folder / "run"
    targets = ["--target", "price", "sold", "class"]
    assert call("train", path, *targets, "--epochs=4", "--wandb=disabled", "--quiet", f"--out={out}") == 0
    return path, out


def test_predictions_give_the_metrics_that_were_recorded(trained, tmp_path, capsys):
    path, out = trained
    assert call("predict", out, path, f"--out={tmp_path / 'all.csv'}") == 0
    assert "240 rows with predicted price, predicted sold, sold is yes, predicted class" in capsys.readouterr().out
    rows = read(tmp_path / "all.csv")
    assert [row["name"] for row in rows] == [f"home {k}" for k in range(ROWS)]
    test = [rows[k] for k in find_benchmark(f"{path}:price,sold,class")._parts[2].tolist()]
    recorded = records_of(out)[0]["metrics"]
    error = sum(abs(float(row["predicted price"]) - float(row["price"])) for row in test) / len(test)
    assert error == pytest.approx(recorded["price"]["mae"], rel=1e-4)
    for name in ("sold", "class"):
        right = sum(row[f"predicted {name}"] == row[name] for row in test) / len(test)
        assert right == pytest.approx(recorded[name]["accuracy"])
    for row in test:
        assert row["predicted sold"] == ("yes" if float(row["sold is yes"]) > 0.5 else "no")
        shares = {word: float(row[f"class is {word}"]) for word in "BJU"}
        assert sum(shares.values()) == pytest.approx(1, abs=1e-5)
        assert row["predicted class"] == max(shares, key=shares.get)


def test_new_rows_need_no_targets_and_no_order_of_columns(trained, tmp_path):
    path, out = trained
    kept = ("built", "size", "town")
    some = write(tmp_path / "new.csv", [{name: row[name] for name in kept} for row in rows_of()][:5])
    assert call("predict", out, some) == 0
    assert call("predict", out, path, f"--out={tmp_path / 'all.csv'}") == 0
    for few, whole in zip(read(out / "predictions.csv"), read(tmp_path / "all.csv"), strict=False):
        # How many rows are predicted together changes the order of sums.
        assert float(few["predicted price"]) == pytest.approx(float(whole["predicted price"]), rel=1e-5)
        assert few["town"] == whole["town"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": None}, "has no column 'size', from which it is predicted"),
        ({"size": "large"}, "column 'size': 'large' is no number, and there were numbers alone where the model was"),
        ({"built": "once"}, "column 'built': 'once' is no date"),
        ({"sold is yes": "1"}, "has a column 'sold is yes', as the predictions have"),
    ],
)
def test_rows_that_do_not_fit_are_refused_in_one_line(trained, tmp_path, capsys, change, message):
    rows = [{**row, **change} for row in rows_of()][:3]
    rows = [{name: value for name, value in row.items() if value is not None} for row in rows]
    assert call("predict", trained[1], write(tmp_path / "new.csv", rows)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_table_that_has_changed_since_is_not_taken_for_the_one_that_was_trained_on(tmp_path, capsys):
    rows = list(rows_of())
    path, out = write(tmp_path / "homes.csv", rows), tmp_path / "run"
    assert call("train", path, "--target", "price", "--steps=2", "--wandb=disabled", "--quiet", f"--out={out}") == 0
    assert isinstance(mtl.load(out), torch.nn.Module)
    write(path, [{**row, "price": float(row["price"]) ** 2} for row in rows])
    with pytest.warns(UserWarning, match="is not what the model was trained on: it differs in the data of the train"):
        mtl.load(out)
    capsys.readouterr()
    assert call("predict", out, path, f"--out={tmp_path / 'new.csv'}") == 2
    assert "put the table back as it was" in capsys.readouterr().err
    write(path, [{**row, "size": row["size"] or "7"} for row in rows])  # so that no column says where it is missing
    with pytest.raises(ValueError, match="the model made for it has other weights"):
        mtl.load(out)


def test_the_model_of_another_benchmark_predicts_no_table(trained, tmp_path, capsys):
    assert call("train", "multidigits", "--steps=1", "--wandb=disabled", "--quiet", f"--out={tmp_path / 'run'}") == 0
    capsys.readouterr()
    assert call("predict", tmp_path / "run", trained[0]) == 2
    assert "was trained on multidigits, which is no table in a text file" in capsys.readouterr().err
