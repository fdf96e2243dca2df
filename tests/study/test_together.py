"""`mtl compare` trains the seeds of a strategy as one population, with the files of one run at a time."""

import json

import pytest
import torch

from mtl.benchmarks import load_checked
from mtl.study import RunDirectory, compare_plan, execute
from mtl.study.plan import parse_strategies
from mtl.study.setup import StudySetup
from mtl.train import Settings, Stopped
from tests.population.problem import Three, close
from tests.tiny import Diverging

pytestmark = pytest.mark.usefixtures("float64")

SPECS = ["equal", "famo", "mgda"]


class Watcher:
    """Notes who was told what."""

    def __init__(self):
        self.told = []

    def begin(self, run, hyperparameters):
        self.told.append(("begin", run.name, hyperparameters["spec"]))

    def progress(self, runs, done, total):
        self.told.append(("progress", len(runs), done, total))

    def row(self, run, step, values):
        self.told.append(("row", run.name, step, sorted(values)))

    def end(self, run, record):
        self.told.append(("end", run.name, record["status"]))


def study(path, benchmark, *, seeds=3, stop_after=None, watching=(), single=True, specs=SPECS, **options):
    path.mkdir(exist_ok=True)
    settings = Settings.of(benchmark.recipe, {"steps": 40})
    setting = StudySetup(benchmark, load_checked(benchmark), settings, torch.device("cpu"), **options)
    plan = compare_plan(benchmark, parse_strategies(specs, benchmark), range(seeds), single=single)
    watcher, asked = Watcher(), [0]

    def should_stop():
        asked[0] += 1
        return stop_after is not None and asked[0] > stop_after

    records = execute(plan, setting, RunDirectory(path), [*watching, watcher], should_stop)
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
    assert [{entry[1] for entry in entries if entry[0] == "progress"} for entries in (told, told_alone)] == [{3}, {1}]
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
    from mtl.train import Cohort

    advance = Cohort.advance

    def fail(cohort, *arguments):
        if len(cohort.members) > 1:
            raise RuntimeError("broken")
        advance(cohort, *arguments)

    monkeypatch.setattr(Cohort, "advance", fail)
    said = []
    records, _ = study(tmp_path / "run", Three(), tell=said.append)
    assert {record["status"] for record in records} == {"done"} and len(said) == 6
    assert all("one at a time" in text for text in said)


def test_a_task_that_breaks_is_counted_for_every_member(tmp_path):
    torch.set_default_dtype(torch.float32)
    records, _ = study(tmp_path / "run", Diverging(), tell=lambda _text: None)
    assert all(record["skipped"]["nonfinite_loss"] > 0 for record in records if record["task"] != "sign")


def stopped_at(path, steps, **options):
    """A study of one strategy whose three runs made so many steps together; the bytes of their checkpoint."""
    with pytest.raises(Stopped):
        study(path, Three(), stop_after=steps, single=False, specs=["famo"], **options)
    (saved,) = path.glob("checkpoints/*-together.pt")
    return saved


def test_more_seeds_join_runs_that_were_begun_together_without_starting_them_over(tmp_path):
    whole, _ = study(tmp_path / "whole", Three(), single=False, specs=["famo"])
    stopped_at(tmp_path / "run", 25)
    records, told = study(tmp_path / "run", Three(), seeds=5, single=False, specs=["famo"])
    same(whole, records[:3], 0)
    assert [entry[1:3] for entry in told if entry[0] == "progress"][:15] == [(3, step) for step in range(26, 41)]
    assert [record["seed"] for record in records] == [0, 1, 2, 3, 4]
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_checkpoint_of_seeds_is_not_overwritten_by_that_of_added_ones(tmp_path):
    saved = stopped_at(tmp_path / "run", 25)
    before = saved.read_bytes()
    with pytest.raises(Stopped):
        study(tmp_path / "run", Three(), seeds=5, stop_after=0, single=False, specs=["famo"])
    assert torch.load(saved, weights_only=True)["runs"] == ["final-famo-0", "final-famo-1", "final-famo-2"]
    assert len(saved.read_bytes()) == len(before)


def test_fewer_seeds_go_on_and_the_others_are_named(tmp_path):
    whole, _ = study(tmp_path / "whole", Three(), single=False, specs=["famo"])
    stopped_at(tmp_path / "run", 25)
    said = []
    records, told = study(tmp_path / "run", Three(), seeds=2, single=False, specs=["famo"], tell=said.append)
    same(whole[:2], records, 1e-6)
    assert ("progress", 2, 26, 40) in told and "final-famo-2: begun and not asked for any more" in said[0]


def test_a_damaged_checkpoint_of_several_is_said(tmp_path):
    saved = stopped_at(tmp_path / "run", 25)
    saved.write_bytes(saved.read_bytes()[:-100])
    said = []
    study(tmp_path / "run", Three(), single=False, specs=["famo"], tell=said.append)
    assert said == [f"checkpoint {saved} cannot be read: its runs start over"]


def test_memory_that_is_short_while_a_checkpoint_is_read_does_not_cost_it(tmp_path, monkeypatch):
    saved = stopped_at(tmp_path / "run", 25)
    before = saved.read_bytes()

    def short(*_arguments, **_options):
        raise MemoryError

    with monkeypatch.context() as patched:
        patched.setattr(torch, "load", short)
        with pytest.raises(MemoryError):
            study(tmp_path / "run", Three(), single=False, specs=["famo"])
    assert saved.read_bytes() == before


class Faulty(Watcher):
    """Raises once."""

    def __init__(self, when):
        super().__init__()
        self.when = when

    def _maybe(self, when):
        if when == self.when:
            self.when = ""
            raise RuntimeError("cannot watch")

    def progress(self, runs, done, total):
        self._maybe("progress")
        super().progress(runs, done, total)

    def end(self, run, record):
        self._maybe("end")
        super().end(run, record)

    def row(self, run, step, values):
        self._maybe("row")
        super().row(run, step, values)


@pytest.mark.parametrize("when", ["progress", "row", "end"])
@pytest.mark.parametrize("alone", [False, True])
def test_an_observer_that_raises_is_left_out_and_costs_no_training(when, alone, tmp_path):
    said, faulty = [], Faulty(when)
    options = {"single": False, "specs": ["famo"], "one_at_a_time": alone}
    whole, told = study(tmp_path / "whole", Three(), **options)
    records, watched = study(tmp_path / "run", Three(), watching=[faulty], tell=said.append, **options)
    same(whole, records, 0)
    assert watched == told
    assert len(said) == 1 and "Faulty failed and is left out, the study goes on: RuntimeError: cannot watch" in said[0]
    assert "in row" in (tmp_path / "run" / "failures" / "observer-Faulty.txt").read_text() or when != "row"


def test_a_run_that_fails_leaves_its_traceback_in_a_file_that_is_named(tmp_path, monkeypatch):
    from mtl.strategies import REGISTRY

    def broken(*_called):
        raise ValueError("no luck\nat all")

    monkeypatch.setattr(REGISTRY["famo"], "__call__", broken)
    said = []
    records, _ = study(tmp_path / "run", Three(), single=False, specs=["famo", "equal"], seeds=1, tell=said.append)
    assert [record["status"] for record in records] == ["failed", "done"]
    assert records[0]["traceback"] == "failures/final-famo-0.txt" and records[1]["traceback"] is None
    assert said == [f"final-famo-0 failed: ValueError: no luck (traceback: {tmp_path}/run/failures/final-famo-0.txt)"]
    assert "in broken" in (tmp_path / "run" / records[0]["traceback"]).read_text()


ALONE = {"seeds": 1, "single": False, "specs": ["famo"]}


def test_a_run_by_itself_is_gone_on_with_like_several(tmp_path):
    whole, _ = study(tmp_path / "whole", Three(), **ALONE)
    with pytest.raises(Stopped):
        study(tmp_path / "run", Three(), stop_after=25, **ALONE)
    assert [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()] == ["final-famo-0.pt"]
    records, told = study(tmp_path / "run", Three(), **ALONE)
    same(whole, records, 0)
    assert [entry[1:3] for entry in told if entry[0] == "progress"] == [(1, step) for step in range(26, 41)]
    assert told[0][0] == "begin" and not list((tmp_path / "run" / "checkpoints").iterdir())


def test_a_checkpoint_of_another_version_is_said_and_the_run_starts_over(tmp_path):
    path = tmp_path / "run" / "checkpoints" / "final-famo-0.pt"
    path.parent.mkdir(parents=True)
    torch.save({"model": {}, "record": {}}, path)
    said = []
    whole, _ = study(tmp_path / "whole", Three(), **ALONE)
    records, _ = study(tmp_path / "run", Three(), tell=said.append, **ALONE)
    same(whole, records, 0)
    assert len(said) == 1 and f"checkpoint {path}" in said[0] and "the run starts over" in said[0]


def test_several_runs_that_failed_and_are_tried_again_are_written_again(tmp_path):
    directory = RunDirectory(tmp_path / "run")
    study(tmp_path / "run", Three(), single=False, specs=["famo"])
    lines = directory.results_path.read_text().splitlines()
    failed = [json.dumps({**json.loads(line), "status": "failed"}) for line in lines]
    directory.results_path.write_text("\n".join(failed) + "\n")
    records, _ = study(tmp_path / "run", Three(), single=False, specs=["famo"])
    assert [record["status"] for record in records] == ["done"] * 3
    assert [record["status"] for record in directory.records()] == ["done"] * 3
