"""`mtl compare` trains the seeds of a strategy as one population, with the files of one run at a time."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from mtl.benchmarks import load_checked
from mtl.study import RunDirectory, compare_plan, execute
from mtl.study.plan import parse_strategies
from mtl.study.setting import Setting
from mtl.train import Settings, Stopped
from tests.population.problem import Three, close
from tests.tiny import Diverging

ROOT = Path(__file__).parent.parent.parent
SPECS = ["equal", "famo", "mgda"]


class Watcher:
    """Notes who was told what."""

    def __init__(self):
        self.told = []

    def begin(self, run, hyperparameters):
        self.told.append(("begin", run.name, hyperparameters["spec"]))

    def progress(self, run, done, total):
        self.told.append(("progress", run.name, done, total))

    def progress_together(self, runs, done, total):
        self.told.append(("together", len(runs), done, total))

    def row(self, run, step, values):
        self.told.append(("row", run.name, step, sorted(values)))

    def end(self, run, record):
        self.told.append(("end", run.name, record["status"]))


def study(path, benchmark, *, seeds=3, stop_after=None, **options):
    path.mkdir(exist_ok=True)
    settings = Settings.of(benchmark.recipe, {"steps": 40})
    setting = Setting(benchmark, load_checked(benchmark), settings, torch.device("cpu"), **options)
    plan = compare_plan(benchmark, parse_strategies(SPECS, benchmark), range(seeds), single=True)
    watcher, asked = Watcher(), [0]

    def should_stop():
        asked[0] += 1
        return stop_after is not None and asked[0] > stop_after

    records = execute(plan, setting, RunDirectory(path), [watcher], should_stop)
    return records, watcher.told


def same(one, other, tolerance):
    assert [record["run"] for record in one] == [record["run"] for record in other]
    for a, b in zip(one, other, strict=True):
        assert a.keys() == b.keys()
        assert [a[k] for k in ("status", "best_step", "skipped", "seed", "phase", "hyperparameters")] == [
            b[k] for k in ("status", "best_step", "skipped", "seed", "phase", "hyperparameters")
        ]
        for task, values in a["metrics"].items():
            for metric, value in values.items():
                close(value, b["metrics"][task][metric], tolerance)
        for cost in ("steps", "forwards", "backwards"):
            assert a["cost"][cost] == b["cost"][cost]


def test_the_same_records_and_the_same_curves_as_one_at_a_time(tmp_path):
    together, told = study(tmp_path / "together", Three())
    alone, told_alone = study(tmp_path / "alone", Three(), one_at_a_time=True)
    same(together, alone, 1e-5)
    assert ("together", 3, 40, 40) in told and not any(entry[0] == "progress" for entry in told)
    curves = [sorted(e for e in entries if e[0] in ("begin", "row", "end")) for entries in (told, told_alone)]
    assert curves[0] == curves[1]
    for record in together:
        curves = [json.loads((tmp_path / name / record["history"]).read_text()) for name in ("together", "alone")]
        close(curves[0]["weights"], curves[1]["weights"], 1e-5)
    assert not list((tmp_path / "together" / "checkpoints").glob("*"))


@pytest.mark.parametrize("asked", [70, 95])
def test_a_stopped_population_continues_bit_for_bit(tmp_path, asked):
    whole, _ = study(tmp_path / "whole", Three())
    with pytest.raises(Stopped):
        study(tmp_path / "stopped", Three(), stop_after=asked)
    assert list((tmp_path / "stopped" / "checkpoints").glob("*-together.pt"))
    resumed, told = study(tmp_path / "stopped", Three())
    same(whole, resumed, 0)
    ended = [entry[1] for entry in told if entry[0] == "end"]
    assert len(ended) == len(set(ended))


def test_runs_that_fail_together_are_tried_by_themselves(tmp_path, monkeypatch):
    from mtl.population import Cohort

    def fail(*_):
        raise RuntimeError("broken")

    monkeypatch.setattr(Cohort, "advance", fail)
    said = []
    records, _ = study(tmp_path / "run", Three(), tell=said.append)
    assert {record["status"] for record in records} == {"done"} and len(said) == 6
    assert all("one at a time" in text for text in said)


def test_a_task_that_breaks_is_counted_for_every_member(tmp_path):
    torch.set_default_dtype(torch.float32)
    records, _ = study(tmp_path / "run", Diverging(), tell=lambda _text: None)
    assert all(record["skipped"]["nonfinite_loss"] > 0 for record in records if record["task"] != "sign")


@pytest.mark.slow
def test_kill_9_then_resume_equals_an_uninterrupted_comparison(tmp_path):
    def command(out, *extra):
        options = ["--seeds=3", "--epochs=60", "--wandb=disabled", "--no-single-task", f"--out={out}"]
        arguments = ["compare", "tests/tiny.py:TinyWithDropout", "--strategies", *SPECS, *options, *extra]
        return [sys.executable, "-m", "mtl", *arguments]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    subprocess.run(command(whole), cwd=ROOT, check=True, capture_output=True)
    process = subprocess.Popen(command(killed), cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    results = killed / "results.jsonl"
    while not (results.exists() and len(results.read_text().splitlines()) >= 3) and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)  # somewhere inside the next population
    process.kill()
    process.wait()
    before = results.read_bytes()
    assert 3 <= len(before.splitlines()) < 9
    subprocess.run([*command(killed), "--resume"], cwd=ROOT, check=True, capture_output=True)
    assert results.read_bytes().startswith(before) and len(results.read_text().splitlines()) == 9
    assert (killed / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()
