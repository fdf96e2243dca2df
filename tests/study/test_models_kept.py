"""The weights that a finished study leaves, and the model made of them."""

import json

import pytest
import torch

import mtl
from mtl.benchmarks import load_checked
from mtl.cli.main import main
from mtl.train.evaluate import evaluate
from tests.processes import finish, start
from tests.tiny import Tiny
from tests.written import records_of, summary_of

TINY = "tests/tiny.py:Tiny"
COMMANDS = {
    "train": ["train", TINY, "--strategy=famo", "--steps=24"],
    "alone": ["compare", TINY, "--strategies", "equal", "rlw", "--seeds=2", "--no-single-task", "--steps=16"],
    "together": ["compare", TINY, "--strategies", "equal", "--seeds=3", "--no-single-task", "--steps=16"],
    "search": ["search", TINY, "--members=4", "--interval=4", "--steps=16", "--quantile=0.5"],
}


def call(out, *arguments):
    return main([*arguments, "--wandb=disabled", "--quiet", "--out", str(out)])


@pytest.mark.parametrize("kind", COMMANDS)
def test_the_best_model_is_kept_and_gives_what_was_recorded(kind, tmp_path):
    assert call(tmp_path, *COMMANDS[kind]) == 0
    assert sorted(path.name for path in (tmp_path / "checkpoints").glob("*") if path.stem != "search") == [
        "best.json",
        "best.pt",
    ]
    about = json.loads((tmp_path / "checkpoints" / "best.json").read_text())
    records = {r["run"]: r for r in records_of(tmp_path)}
    summary = summary_of(tmp_path)
    if kind == "search":
        assert about["run"] == summary["best"]["run"]
    else:
        first = [r for r in records.values() if r["strategy"] == summary["ranking"][0]]
        assert about["run"] == max(first, key=lambda r: r["selection"])["run"]
    model = mtl.load(tmp_path)
    assert not model.training
    _, metrics = evaluate(model, Tiny.tasks, load_checked(Tiny()).test)
    for task, values in records[about["run"]]["metrics"].items():
        assert metrics[task] == pytest.approx(values, abs=1e-5)
    state = torch.load(tmp_path / "checkpoints" / "best.pt", weights_only=True)
    assert state.keys() == model.state_dict().keys()


def test_all_are_kept_where_asked_for_and_none(tmp_path):
    command = COMMANDS["alone"]
    assert call(tmp_path / "all", *command, "--keep-models=all") == 0
    names = {path.stem for path in (tmp_path / "all" / "checkpoints").glob("*.pt")}
    assert names == {"best", "final-equal-0", "final-equal-1", "final-rlw-0", "final-rlw-1"}
    assert mtl.load(tmp_path / "all", "final-rlw-1") is not None
    assert call(tmp_path / "none", *command, "--keep-models=none") == 0
    assert not list((tmp_path / "none").glob("checkpoints/*"))
    with pytest.raises(ValueError, match="--keep-models"):
        mtl.load(tmp_path / "none")


def test_the_model_of_a_single_task_run_is_loaded(tmp_path):
    arguments = ["compare", TINY, "--strategies", "equal", "rlw", "--seeds=1", "--steps=12", "--keep-models=all"]
    assert call(tmp_path, *arguments) == 0
    records = records_of(tmp_path)
    alone = [record for record in records if record["phase"] == "single_task"]
    assert len(alone) == len(Tiny.tasks)
    for record in alone:
        tasks = [task for task in Tiny.tasks if task.name == record["task"]]
        _, metrics = evaluate(mtl.load(tmp_path, record["run"]), tasks, load_checked(Tiny()).test)
        assert metrics[record["task"]] == pytest.approx(record["metrics"][record["task"]], abs=1e-5)


def check_best(out):
    """The model that is kept gives what was recorded of its run."""
    name = json.loads((out / "checkpoints" / "best.json").read_text())["run"]
    lines = records_of(out)
    record = next(record for record in lines if record["run"] == name)
    _, metrics = evaluate(mtl.load(out), Tiny.tasks, load_checked(Tiny()).test)
    for task, values in record["metrics"].items():
        assert metrics[task] == pytest.approx(values, abs=1e-5)


@pytest.mark.slow
def test_the_best_model_of_a_tuned_comparison_is_kept(tmp_path):
    options = ["--tune=random", "--budget=2", "--seeds=1", "--steps=8"]
    assert call(tmp_path, "compare", TINY, "--strategies", "equal", "gradnorm", *options) == 0
    check_best(tmp_path)


@pytest.mark.slow
def test_the_best_model_of_a_search_in_processes_of_ray_is_kept(tmp_path):
    search = ["search", TINY, "--members=4", "--interval=4", "--steps=8", "--engine=ray", "--shards=2"]
    # In a process of its own, whose Ray knows nothing of that of other tests.
    finish(start(*search, "--wandb=disabled", "--quiet", f"--out={tmp_path}"))
    check_best(tmp_path)
