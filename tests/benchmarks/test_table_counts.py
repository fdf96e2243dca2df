"""A column of counts is learned by the logarithm of its mean, and told of in its own unit."""

import csv
import math
import re

import numpy as np
import pytest
import torch

from mtl.auto.space import auto_space
from mtl.benchmarks import find_benchmark, load_checked
from mtl.cli.main import main
from mtl.train import Settings, train
from tests.written import records_of

ROWS = 400
QUIET = ("--wandb=disabled", "--quiet")


def rows_of(scale=1.0):
    """Visits whose logarithm of the mean follows `age`; they vary more than a Poisson distribution has it."""
    draw = np.random.default_rng(0)
    age, smoker = draw.uniform(-1, 1, ROWS), draw.random(ROWS) < 0.3
    mean = scale * np.exp(1 + age + 0.7 * smoker)
    visits = draw.negative_binomial(4, 4 / (4 + mean))
    return [
        {
            "age": f"{age[k]:.3f}",
            "smoker": "yes" if smoker[k] else "no",
            "visits": "" if k % 20 == 3 else str(visits[k]),
            "score": f"{age[k] + draw.normal():.3f}",
        }
        for k in range(ROWS)
    ]


@pytest.fixture
def table(tmp_path):
    def write(rows=None):
        path = tmp_path / "clinic.csv"
        rows = rows_of() if rows is None else rows
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return path

    return write


def visits_of(rows, k, value):
    """The rows with another value of one."""
    return [{**row, "visits": value} if number == k else row for number, row in enumerate(rows)]


def test_a_count_stays_in_its_unit_and_missing_ones_stay_missing(table):
    found = find_benchmark(f"{table()}:visits:count")
    (task,) = found.tasks
    assert (str(task.loss), task.outputs) == ("poisson", 1)
    assert [metric.name for metric in task.metrics] == ["poisson_deviance", "count_mae"]
    assert not any(metric.higher_is_better for metric in task.metrics)
    labels = torch.cat([split.targets["visits"] for _, split in load_checked(found).items()])
    given = [row["visits"] for row in rows_of()]
    assert int(labels.isnan().sum()) == given.count("") == ROWS // 20
    assert sorted(labels[~labels.isnan()].tolist()) == sorted(float(value) for value in given if value)
    assert found.about[0].startswith("visits: count, from 0 to ") and "times the mean" in found.about[0]


def test_no_column_is_taken_for_a_count_without_a_word_but_it_is_said_what_may_be_one(table):
    found = find_benchmark(f"{table()}:visits,score")
    assert [str(task.loss) for task in found.tasks] == ["mse", "mse"]
    assert found.about[0].endswith("--target visits:classes if that is wrong, visits:count if it counts something")
    assert "count" not in found.about[1]
    few = [{"a": math.sin(k), "y": k % 5} for k in range(ROWS)]
    (about, *_) = find_benchmark(f"{table(few)}:y").about
    assert "5 classes" in about and about.endswith("y:regression if that is wrong, y:count if it counts something")
    parts = ["test", "validation", *["train"] * (ROWS - 2)]
    rare = [{"a": math.sin(k), "y": k % 5 if k else 8, "split": part} for k, part in enumerate(parts)]
    with pytest.raises(ValueError, match="; or take y:regression, or y:count if it counts something"):
        find_benchmark(f"{table(rare)}:y")


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("-1", "row 9 has '-1', below 0; whole numbers from 0 to 16,777,216 are allowed"),
        ("2.5", "row 9 has '2.5', no whole number; whole numbers from 0 to 16,777,216 are allowed"),
        ("1e300", "row 9 has '1e300', too large; whole numbers from 0 to 16,777,216 are allowed"),
        ("16777217", "row 9 has '16777217', too large;"),
        ("inf", "row 9 has 'inf', no finite number; whole numbers"),
        ("many", "row 9 has 'many', no finite number; whole numbers"),
    ],
)
def test_what_is_no_count_is_named_with_its_row(table, value, said):
    with pytest.raises(ValueError, match="target 'visits' cannot be a count: ") as refused:
        find_benchmark(f"{table(visits_of(rows_of(), 7, value))}:visits:count")
    assert said in str(refused.value) and "\n" not in str(refused.value)


def test_dates_and_counts_that_are_all_the_same_are_refused(table):
    dates = [{"a": math.sin(k), "y": f"2024-01-{k % 28 + 1:02d}"} for k in range(ROWS)]
    with pytest.raises(ValueError, match="target 'y' cannot be a count: row 2 has '2024-01-01', a date"):
        find_benchmark(f"{table(dates)}:y:count")
    with pytest.raises(ValueError, match="target 'y' cannot be a count: its training labels are all the same"):
        find_benchmark(f"{table([{'a': math.sin(k), 'y': 0} for k in range(ROWS)])}:y:count")
    (task,) = find_benchmark(f"{table([{'a': math.sin(k), 'y': k % 2} for k in range(ROWS)])}:y:count").tasks
    assert str(task.loss) == "poisson"
    assert load_checked(find_benchmark(f"{table(visits_of(rows_of(), 7, '16777216'))}:visits:count"))


@pytest.mark.parametrize("architecture", ["hard-sharing", "mmoe:experts=2", "cross-stitch"])
def test_a_new_model_begins_about_the_mean(table, architecture):
    found = find_benchmark(f"{table(rows_of(scale=10_000))}:visits:count,score")
    splits = load_checked(found)
    found.architecture = architecture
    torch.manual_seed(0)
    model = found.model(found.tasks, splits.train.first(2))
    with torch.no_grad():
        said = model(splits.train.take(slice(None)).inputs)
    labels = splits.train.targets["visits"]
    assert float(said["visits"].mean()) == pytest.approx(math.log(float(labels.nanmean())), abs=1.0)
    assert float(said["score"].mean()) == pytest.approx(0, abs=1.0)


def test_large_counts_are_learned_and_their_metrics_are_in_their_unit(table):
    found = find_benchmark(f"{table(rows_of(scale=100_000))}:visits:count")
    splits = load_checked(found)
    settings = Settings.of(found.recipe, {"steps": 200})
    metrics = train(found, splits, "equal", settings).metrics["visits"]
    labels = splits.test.targets["visits"]
    spread = float((labels - labels.nanmean()).abs().nanmean())
    assert 1e4 < metrics["count_mae"] < 0.8 * spread


def test_losses_of_counts_are_compared_and_predictions_are_what_is_expected(table, tmp_path, capsys):
    path, out = table(), tmp_path / "run"
    vary = "loss.visits=poisson,negative-binomial,tweedie,exp:of=mse"
    shared = (
        "--target",
        "visits:count",
        "score",
        "--steps=60",
        "--strategies",
        "uncertainty",
        "--no-single-task",
        "--seeds=1",
    )
    assert main(["compare", str(path), *shared, "--vary", vary, *QUIET, f"--out={out}"]) == 0
    records = records_of(out)
    assert [record["status"] for record in records] == ["done"] * 4
    assert {*records[0]["metrics"]["visits"]} == {"poisson_deviance", "count_mae"}
    columns = re.sub(r"\s+", " ", (out / "tables/metrics.md").read_text(encoding="utf-8"))
    assert "visits poisson_deviance ↓ | visits count_mae ↓" in columns
    assert main(["predict", str(out), str(path)]) == 0
    with (out / "predictions.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert "more is expected" not in capsys.readouterr().err
    far = tmp_path / "far.csv"
    far.write_text("age,smoker\n0.1,no\n900,yes\n", encoding="utf-8")
    assert main(["predict", str(out), str(far), f"--out={tmp_path / 'said.csv'}"]) == 0
    said = capsys.readouterr().err
    assert "visits: of 1 of 2 rows more is expected than any training row had, 26;" in said and "score" not in said
    expected = [float(row["predicted visits"]) for row in rows]
    given = [float(row["visits"]) for row in rows if row["visits"]]
    assert min(expected) > 0 and sum(expected) / len(expected) == pytest.approx(sum(given) / len(given), rel=0.25)
    old = [value for value, row in zip(expected, rows, strict=True) if float(row["age"]) > 0.5]
    young = [value for value, row in zip(expected, rows, strict=True) if float(row["age"]) < -0.5]
    assert sum(old) / len(old) > 1.5 * sum(young) / len(young)


@pytest.mark.parametrize(
    "arguments", [("train", "--loss", "visits=mse"), ("compare", "--vary", "loss.visits=poisson,mse")]
)
def test_a_loss_of_errors_is_refused_with_the_one_that_does_it(table, tmp_path, capsys, arguments):
    command, *others = arguments
    out = tmp_path / "run"
    assert main([command, str(table()), "--target", "visits:count", *others, *QUIET, f"--out={out}"]) == 2
    (said,) = [line for line in capsys.readouterr().err.splitlines() if "mse compares" in line]
    assert (
        "task 'visits'" in said and "exp:of=mse compares that number" in said and "poisson, negative-binomial" in said
    )


def test_a_race_tries_the_losses_of_counts(table):
    rows = [{**row, "rare": k % 2} for k, row in enumerate(rows_of())]
    found = find_benchmark(f"{table(rows)}:visits:count,rare:count")
    space = auto_space(found, load_checked(found), Settings.of(found.recipe), ("losses",), ()).space
    for task in ("visits", "rare"):  # of the second the labels alone would be yes or no
        choices = space.dimensions[f"loss.{task}"].parameter.grid(1)
        assert choices[0] == "poisson" and {*choices} == {"poisson", "negative-binomial", "tweedie"}
