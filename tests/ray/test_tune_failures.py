"""Trials of Ray Tune whose training raises, and what a search does that is told to stop."""

from __future__ import annotations

import io
import json
import math
import signal

import pytest

from tests.processes import finish, start, wait
from tests.tiny import Tiny
from tests.written import records_of, summary_of

pytest.importorskip("ray", reason="needs the extra ray")

SPEC, RAISES = "tests/tiny.py:Tiny", "tests/ray/raising.py:Raises"
COMMAND = ["--engine=tune", "--members=4", "--interval=8", "--wandb=disabled"]


def _trainable(members):
    import mtl.ray

    made = mtl.ray.trainable(RAISES, settings={"epochs": 1}, members=members)
    made.ends_on_failure = True
    return made


@pytest.mark.parametrize("members", [1, 4])
def test_a_trial_that_raises_ends_and_is_recorded_and_its_process_trains_the_next(members, tmp_path):
    import mtl.ray

    trial = _trainable(members)({"batch_size": 16, "interval": 4, "seed": 0})
    result = trial.step()
    assert result["done"] and result["objective"] == -math.inf and "a batch of 16" in result["failure"]
    (tmp_path / "failed").mkdir()
    trial.save_checkpoint(str(tmp_path / "failed"))
    assert trial.reset_config({"batch_size": 32, "interval": 4, "seed": 8})
    while not trial.step()["done"]:
        pass
    (tmp_path / "done").mkdir()
    trial.save_checkpoint(str(tmp_path / "done"))
    out = mtl.ray.result_dir([tmp_path / "failed", tmp_path / "done"], tmp_path / "run")
    records = records_of(out)
    assert [record["status"] for record in records] == ["failed"] * members + ["done"] * members
    assert "a batch of 16" in records[0]["error"] and "Trunk" not in records[0]["error"]
    assert "raise RuntimeError" in (out / records[0]["traceback"]).read_text()
    best = max(records[members:], key=lambda record: record["selection"])
    assert json.loads((out / "checkpoints/best.json").read_text())["run"] == best["run"]


def test_in_a_script_of_ones_own_a_trial_raises_as_ray_tune_expects():
    import mtl.ray

    trial = mtl.ray.trainable(RAISES)({"batch_size": 16})
    with pytest.raises(RuntimeError, match="a batch of 16"):
        trial.step()


@pytest.mark.parametrize("members", [1, 4])
def test_the_best_model_of_an_experiment_gives_what_was_recorded(members, tmp_path):
    import mtl.ray
    from mtl.benchmarks import load_checked
    from mtl.train.evaluate import evaluate

    made = mtl.ray.trainable(SPEC, strategy="gradnorm", settings={"epochs": 2}, members=members)
    for number in range(2):
        (tmp_path / str(number)).mkdir()
        trial = made({"lr": 0.01 * (1 + number), "interval": 8, "seed": 10 * number})
        while not trial.step()["done"]:
            pass
        trial.save_checkpoint(str(tmp_path / str(number)))
    out = mtl.ray.result_dir([tmp_path / "0", tmp_path / "1"], tmp_path / "run")
    records = records_of(out)
    best = max(records, key=lambda record: record["selection"])
    _, metrics = evaluate(mtl.load(out), Tiny.tasks, load_checked(Tiny()).test)
    for task, values in best["metrics"].items():
        assert metrics[task] == pytest.approx(values, abs=1e-5)


@pytest.mark.slow
def test_a_search_goes_on_without_the_trials_that_raise(on_cluster, tmp_path):
    out = tmp_path / "run"
    search = ["search", RAISES, *COMMAND, "--strategies=equal", "--steps=24", f"--out={out}"]
    errors = on_cluster(*search, "--search", "batch_size=16:32")
    records = records_of(out)
    failed = [record for record in records if record["status"] == "failed"]
    assert len(records) == 4 and 0 < len(failed) < 4
    assert all("is too" in record["error"] and (out / record["traceback"]).exists() for record in failed)
    assert f"{len(failed)} of 4 runs failed, the first, {failed[0]['run']}, with RuntimeError: a batch of" in errors
    assert str(out / failed[0]["traceback"]) in errors
    assert (out / "checkpoints/best.pt").exists()


@pytest.mark.slow
def test_a_search_of_which_every_trial_raises_fails_and_names_the_traceback(on_cluster, tmp_path):
    out = tmp_path / "run"
    search = ["search", RAISES, *COMMAND, "--strategies=equal", "--steps=24", f"--out={out}", "--batch-size=16"]
    errors = on_cluster(*search, "--search", "lr=1e-3:1e-2", code=1)
    assert "4 of 4 runs failed, the first, search-0000, with RuntimeError: a batch of 16" in errors
    assert str(out / "failures/search-0000.txt") in errors and "no run was trained to its end" in errors


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_search_that_is_told_to_stop_ends_with_75_and_goes_on(on_cluster, tmp_path, how):
    """And the winner by a metric of one task is the best by that metric."""
    out = tmp_path / "run"
    search = ["search", SPEC, *COMMAND, "--strategies", "equal", "gradnorm", "--steps=96", f"--out={out}"]
    search += ["--objective=product/mae"]
    process = start(*search)
    wait(process, lambda: len([*out.glob("tune/*/checkpoint_000002/state.pt")]) >= 2)
    process.send_signal(how)
    errors = finish(process, code=75)
    assert f"--resume --out {out} continues" in errors and not (out / "results.jsonl").exists()
    before = {path.parent.name: path.name for path in sorted(out.glob("tune/*/checkpoint_*"))}
    on_cluster(*search, "--resume")
    records = records_of(out)
    assert before and [record["cost"]["steps"] for record in records] == [96] * 4
    best = min(records, key=lambda record: record["objective"]["product/mae"])
    assert summary_of(out)["best"]["run"] == best["run"]
    assert json.loads((out / "checkpoints/best.json").read_text())["run"] == best["run"]


def test_the_terminal_says_where_trials_are_and_calls_shards_by_their_name():
    from types import SimpleNamespace

    from rich.console import Console

    from mtl.cli.search_table import Progress
    from mtl.ray.tune.about import About
    from mtl.ray.tune.mirror import Mirror
    from mtl.ray.tune.results import search_by_tune
    from mtl.search.objective import Objective
    from mtl.search.space import Space

    about = About(SPEC, "equal", {}, 4, "pbt", Objective(["selection"], Tiny()), "cpu")
    search = search_by_tune(about, about.setting(), "tune", 2, 8, Space({}), 0)
    search.unit = "shard"
    mirror, progress = Mirror(search), Progress(search)
    console = Console(width=100, record=True, file=io.StringIO())
    trials = [
        SimpleNamespace(trial_id=f"a_0000{number}", config={"seed": number}, status=status)
        for number, status in enumerate(["RUNNING", "PAUSED"])
    ]
    result = {"steps": 8, "exploits": 0, "objective": 0.5, "selection": 0.5, "metrics": {}, "finite": True}
    result["node_ip"] = "10.0.0.7"
    for trial in trials:
        mirror.on_trial_result(1, trials, trial, result)
    console.print(progress)
    shown = console.export_text()
    assert "2 of 2 shards" in shown and "this process" not in shown
    assert shown.count("10.0.0.7") == 2 and "training" in shown and "waiting" in shown
    search.standing = search.standing.ended({})
    console.print(progress)
    assert "starting" not in console.export_text()
