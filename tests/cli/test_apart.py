"""`--loss TASK=apart:...`: the commands give the parts of a loss to the strategy, and report by task."""

import json
from pathlib import Path

import pytest

from mtl.cli.main import main
from tests.written import records_of, summary_of

TINY = str(Path(__file__).parents[1] / "tiny.py") + ":Tiny"
LOSS = ("--loss", "product=apart:mse+0.1*mae")
LOSSES = ["sign", "product.mse", "product.mae"]


def call(command, out, *arguments):
    return main([command, TINY, *arguments, "--wandb=disabled", "--quiet", f"--out={out}"])


def history_of(out, record):
    return json.loads((out / record["history"]).read_text(encoding="utf-8"))


@pytest.mark.slow
def test_a_comparison_weighs_parts_and_judges_tasks(tmp_path):
    strategies = ["equal", "uncertainty", "mgda", "famo"]
    assert call("compare", tmp_path, *LOSS, "--strategies", *strategies, "--seeds=2", "--epochs=1") == 0
    records, summary = records_of(tmp_path), summary_of(tmp_path)
    assert [record["status"] for record in records] == ["done"] * 12
    assert all(
        record["metrics"].keys() == {record["task"] or "sign", record["task"] or "product"} for record in records
    )
    for record in records:
        if record["phase"] == "final":
            history = history_of(tmp_path, record)
            assert list(history["losses"]) == LOSSES and len(history["weights"][0]) == 3
            assert len(history["validation_loss"][0]) == 2
    assert list(summary["tasks"]) == ["sign", "product"] and summary["losses"] == LOSSES
    assert summary["baseline"] == "single_task" and len(summary["ranking"]) == 4
    drawn = {name: (tmp_path / f"figures/{name}.svg").read_text(encoding="utf-8") for name in ("weights", "training")}
    assert all("product.mae" in text for text in drawn.values()) and ">product<" in drawn["training"]
    assert "each part that is weighed apart" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "product=apart:mse+0.1*mae" in (tmp_path / "best.yaml").read_text(encoding="utf-8")


def test_the_sum_is_compared_with_its_parts(tmp_path):
    vary = ["--vary", "loss.product=mse+0.1*mae,apart:mse+0.1*mae", "--strategies", "equal", "uncertainty"]
    assert call("compare", tmp_path, *vary, "--no-single-task", "--seeds=1", "--steps=8", "--keep-models=none") == 0
    metrics = {record["strategy"]: record["metrics"] for record in records_of(tmp_path)}
    whole, parts = ("loss.product=mse+0.1*mae", "loss.product=apart:mse+0.1*mae")
    assert metrics[f"equal, {whole}"]["product"] == pytest.approx(metrics[f"equal, {parts}"]["product"], abs=1e-6)
    assert summary_of(tmp_path)["losses"] == ["sign", "product", "product.mse", "product.mae"]


def test_with_one_task_there_are_its_parts_to_weigh(tmp_path):
    one = str(Path(__file__).with_name("test_vary.py")) + ":OneTask"
    arguments = [one, *LOSS, "--strategies", "equal", "mgda", "--seeds=1", "--steps=4", "--keep-models=none"]
    assert main(["compare", *arguments, "--wandb=disabled", "--quiet", f"--out={tmp_path}"]) == 0
    assert summary_of(tmp_path)["losses"] == LOSSES[1:]
    assert 'id="weights"' in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_search_weighs_them_and_is_replayed(tmp_path):
    searched = ["--search", "loss.product.weight2=0.01:1:log", "--members=3", "--steps=12", "--interval=4"]
    assert call("search", tmp_path, *LOSS, "--strategies", "static", "gradnorm", "--method=pbt", *searched) == 0
    records = records_of(tmp_path)
    assert all(history_of(tmp_path, record)["losses"].keys() == {*LOSSES} for record in records)
    static = [record for record in records if "strategy.static.weights" in record["hyperparameters"]]
    assert static and all(len(record["hyperparameters"]["strategy.static.weights"]) == 3 for record in static)
    assert main(["replay", str(tmp_path)]) == 0


def test_a_run_of_the_sum_is_another_study(tmp_path, capsys):
    assert call("train", tmp_path, *LOSS, "--strategy=gradnorm", "--steps=4") == 0
    capsys.readouterr()
    assert call("train", tmp_path, "--loss=product=mse+0.1*mae", "--strategy=gradnorm", "--steps=4", "--resume") == 2
    assert "apart:mse+0.1*mae" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("train", ["--loss=product=apart:mse"], "it has one part, and nothing to weigh it against"),
        ("train", ["--loss=product=apart:mse+0*mae"], "weight2=0 of mae must be above 0 to be weighed"),
        ("compare", [*LOSS, "--strategies", "static:weights=1/2/3/4"], "weights has 4 numbers, one a loss would be 3"),
        (
            "compare",
            ["--vary", "loss.product=mse,apart:mse+mae", "--strategies", "static:weights=1/2"],
            "loss.product=apart:mse+mae: static: weights has 2 numbers, one a loss would be 3",
        ),
        (
            "search",
            ["--search", "loss.product=mse+mae,apart:mse+mae"],
            "loss.product: a search has as many losses to weigh in all its trials (mse+mae: 1, apart:mse+mae: 2)",
        ),
    ],
)
def test_what_does_not_fit_is_refused_before_training(command, arguments, said, tmp_path, capsys):
    assert call(command, tmp_path / "out", *arguments) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out" / "results.jsonl").exists()
