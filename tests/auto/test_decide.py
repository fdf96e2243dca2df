"""A decision from its beginning to its end, by a clock that ticks at each look."""

import json

import pytest
import torch
from torch import nn

import mtl
from mtl.auto.clock import Clock
from mtl.auto.decide import Decider, Wanted
from mtl.auto.holdout import hold_out
from mtl.auto.page import write_decision
from mtl.auto.parts import PARTS
from mtl.auto.space import auto_space
from mtl.auto.state import read_state
from mtl.auto.winner import keep_best_so_far
from mtl.auto.words import verdict as in_words
from mtl.models import HardSharing
from mtl.search.objective import Objective
from mtl.study.described import described
from mtl.study.models import Models
from mtl.study.rundir import open_run_directory
from mtl.study.setup import StudySetup
from mtl.tracking import SearchTracker, Tracker
from mtl.train import Cohort, Settings, Stopped
from tests.auto.ticking import Ticking
from tests.tiny import OwnModel, Tiny
from tests.wandb_files import read_files

LIMIT, TICK = 20.0, 0.1
WHERE = "tests/tiny.py:Tiny"


class Here:
    """A decision in a directory, as the command makes it."""

    def __init__(
        self, path, *, seen=lambda _splits: None, benchmark=None, only=("regularization",), seeds=3, logged="disabled"
    ):
        self.path, self.said, self.logged = path, [], logged
        self.benchmark = benchmark or Tiny()
        self.splits = self.benchmark.load()
        self.settings = Settings.of(self.benchmark.recipe)
        self.held = hold_out(self.benchmark.tasks, self.splits, 0)
        seen(self.held)
        self.space = auto_space(self.benchmark, self.held.of_the_race, self.settings, only, ())
        self.seeds = seeds

    def carry_out(self, should_stop=lambda: False, limit=LIMIT, now=None):
        setting = StudySetup(self.benchmark, self.splits, self.settings, torch.device("cpu"), tell=self.said.append)
        objective = Objective(["selection"], self.benchmark)
        config = described(setting, WHERE, ["equal"], [0], "equal")
        config |= {"command": "auto", "options": {}}
        config["auto"] = {
            "objective": objective.higher_is_better(), "time": limit, "only": [*PARTS], "seeds": self.seeds,
            "finalists": 2, "members": 6, "space": self.space.space.describe(), "remarks": self.space.remarks,
            "holdout": {"from": self.held.source, "examples": len(self.held.holdout)},
        }  # fmt: skip
        with open_run_directory(self.path, resume=True) as directory:
            directory.write_config(config)
            directory.models = Models(self.path, "best", None)
            clock = Clock(limit, read_state(self.path).elapsed, now=now or Ticking(TICK))
            wanted = Wanted(0, self.seeds, 2, 6)
            with Tracker(self.logged, self.path, {"study": "decision", **config}, self.said.append) as tracker:
                log = SearchTracker(tracker, directory, self.benchmark.name)
                decider = Decider(
                    setting, self.held, self.space.space, objective, wanted, directory, clock, self.said.append, [log]
                )
                try:
                    decider.carry_out(should_stop)
                except Stopped:
                    return keep_best_so_far(self.path, decider.state.leader)
                log.close()
            summary = write_decision(self.path, self.path)
            return directory.models.settle(directory.records(), summary["chosen"])

    @property
    def records(self):
        return [json.loads(line) for line in (self.path / "results.jsonl").read_text().splitlines()]

    @property
    def summary(self):
        return json.loads((self.path / "summary.json").read_text())


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    here = Here(tmp_path_factory.mktemp("auto") / "run", logged="offline")
    assert here.carry_out().name == "best.pt"
    return here


def test_the_default_meets_the_best_of_the_race_under_seeds_that_the_race_has_not_seen(done):
    race = [record for record in done.records if record["phase"] == "search"]
    finals = [record for record in done.records if record["phase"] == "final"]
    assert len(race) >= 6 and {record["seed"] for record in race} == {0}
    seeds = {}
    for record in finals:
        seeds.setdefault(record["strategy"], []).append(record["seed"])
    assert {*seeds} == {"default", "found-1"} and all(sorted(s) == [1, 2, 3] for s in seeds.values())
    assert len({record["cost"]["steps"] for record in finals}) == 1
    best = max(race, key=lambda record: record["objective"]["selection"] or -9)
    values = next(record["hyperparameters"] for record in finals if record["strategy"] == "found-1")
    of_best = best["hyperparameters"]  # with what is as in the recipe, which a finalist has not
    assert of_best == {"strategy": "equal"} or (len(values) > 1 and values.items() <= of_best.items())


def test_race_finals_and_path_are_logged_as_one_group(done):
    pytest.importorskip("wandb")
    files = {name: found for name, [found] in read_files(done.path).items()}
    assert {file.about["run_group"] for file in files.values()} == {"decision"}
    kinds = {}
    for record in done.records:
        kind = {"search": "member"}.get(record["phase"], record["phase"])
        name = f"{record['phase']}-{record['strategy']}-{record['seed']}"
        kinds.setdefault(kind, set()).add(name)
        if kind != "member":
            file = files[name]
            assert file.about["job_type"] == kind and file.exit == 0 and file.about["tags"][1] == record["strategy"]
            assert all("validation/selection" in row for row in [*file.rows.values()][1:])
            reached = {f"holdout/{task}/{key}": x for task, m in record["holdout"].items() for key, x in m.items()}
            assert file.summary.items() >= reached.items() and reached
    assert {*kinds} >= {"member", "final"}
    logged = [file.about["job_type"] for file in files.values()]
    for kind, runs in kinds.items():
        assert kind == "member" or logged.count(kind) == len(runs)


def test_it_ends_in_time_and_says_how_the_time_was_spent(done):
    state = read_state(done.path)
    assert state.elapsed <= 1.05 * LIMIT and [*state.ended][:2] == ["race", "final"]
    said = " ".join(done.said)
    assert "The race lasts until" in said and "The race is over" in said
    assert [at for at, _ in state.pace] == sorted(at for at, _ in state.pace)


def test_finals_are_measured_on_holdout_and_test_and_the_race_on_neither(done):
    for record in done.records:
        if record["phase"] == "search":
            assert record["metrics"] == record["validation"] and "holdout" not in record
        else:
            three = [record["validation"], record["holdout"], record["metrics"]]
            assert all(metrics["product"]["mae"] > 0 for metrics in three)
            assert three[0] != three[1] != three[2]
            assert record["holdout_score"] is not None


@pytest.mark.slow
def test_what_is_left_is_used_by_other_commands(done, tmp_path):
    model = mtl.load(done.path)
    predicted = model(done.splits.test.inputs)
    chosen = done.summary["chosen"]
    finals = [record for record in done.records if record["strategy"] == chosen and record["phase"] == "final"]
    best = max(finals, key=lambda record: record["selection"])
    mae = (predicted["product"].reshape(-1) - done.splits.test.targets["product"]).abs().mean().item()
    assert mae == pytest.approx(best["metrics"]["product"]["mae"], rel=1e-5)

    from mtl.cli.main import main

    out = tmp_path / "trained"
    config = done.path / "best.yaml"
    assert main(["train", f"--config={config}", f"--out={out}", "--wandb=disabled", "--quiet"]) == 0
    scope = {}
    exec(compile(done.summary["train"]["python"], "s", "exec"), scope)
    assert scope["result"].status == "done"


def test_the_page_says_who_won_and_how_to_train_it(done):
    page, found = (done.path / "report.html").read_text(), done.summary
    assert 'id="figure-race"' in page and 'id="figure-finalists"' in page and "http://" not in page
    assert found["train"]["line"].startswith(f"mtl train {WHERE} --strategy ") and found["train"]["line"] in page
    assert found["winner"] in {each["label"] for each in found["finalists"]}
    assert (done.path / "tables" / "finalists.csv").read_text().count("\n") == 1 + len(found["finalists"])


class Slow(Tiny):
    """Learns hardly anything by its recipe."""

    recipe = {**Tiny.recipe, "lr": 1e-3, "epochs": 6}  # noqa: RUF012


@pytest.mark.slow
def test_the_way_from_the_default_to_the_winner_is_trained_a_part_at_a_time(tmp_path):
    here = Here(tmp_path / "run", benchmark=Slow(), only=("optimizer", "regularization"), seeds=9)
    here.carry_out(limit=150.0)
    found = here.summary
    assert found["winner"] != "default" and found["chosen"] == found["winner"], "the default is a straw man"
    labels = [point["label"] for point in found["path"]]
    assert len(labels) == 3 and labels[0] == "default" and labels[1].startswith("+ ") and labels[2] == found["winner"]
    assert {point["part"] for point in found["path"]} == {"", "optimizer", "regularization"}
    gains = [point["gain"]["mean"] for point in found["path"][1:]]
    winner = next(each for each in found["finalists"] if each["label"] == found["winner"])
    if found["path"][0]["holdout"]["n"] == len(found["seeds"]):
        assert sum(gains) == pytest.approx(winner["against_default"]["mean"])
    assert found["importance"]["parts"].keys() == {"optimizer", "regularization"}
    page = (here.path / "report.html").read_text()
    assert 'id="table-path"' in page and 'id="figure-importance"' in page and 'id="figure-time"' in page


class Asked:
    """Stops a decision when it was asked so often whether to stop."""

    def __init__(self, times):
        self.left = times

    def __call__(self):
        self.left -= 1
        return self.left < 0


def test_one_that_is_stopped_has_a_best_so_far_and_goes_on_where_it_was(tmp_path):
    here = Here(tmp_path / "run")
    best = here.carry_out(Asked(15))
    assert best is not None and best.name == "best.pt" and mtl.load(here.path) is not None
    state = read_state(here.path)
    assert state.plan is not None and not state.ended and state.leader is not None
    summary = write_decision(here.path, here.path)
    assert summary["winner"] is None and "best.yaml" in {path.name for path in here.path.iterdir()}
    # The first of a race are said too, of which none has ended.
    assert f"The best candidate so far is {state.leader.run}, with" in in_words(summary)
    spent = state.elapsed
    assert here.carry_out().name == "best.pt"
    after = read_state(here.path)
    assert (after.plan.length, after.plan.race_until) == (state.plan.length, state.plan.race_until)
    assert spent < after.elapsed <= LIMIT + 1.5 and "final" in after.ended
    names = [record["run"] for record in here.records]
    assert len(names) == len({*names})


@pytest.mark.slow
def test_one_that_has_ended_does_not_race_again(tmp_path):
    here = Here(tmp_path / "run")
    assert here.carry_out().name == "best.pt"
    races = [record["run"] for record in here.records if record["phase"] == "search"]
    (here.path / "summary.json").unlink()
    here.carry_out()
    assert [record["run"] for record in here.records if record["phase"] == "search"] == races
    assert here.summary["winner"] is not None


class Spied(Tiny):
    """Has a validation split large enough to be cut."""

    def load(self):
        generator = torch.Generator().manual_seed(0)
        from mtl.benchmarks import Splits

        return Splits(*(self._split(size, generator) for size in (256, 256, 64)))


@pytest.mark.slow
def test_neither_holdout_nor_test_labels_change_what_the_race_finds(tmp_path):
    def spoiled(held):
        held.holdout.targets["product"].mul_(-3.0)
        held.test.targets["product"].mul_(5.0)

    plain = Here(tmp_path / "plain", benchmark=Spied())
    other = Here(tmp_path / "other", benchmark=Spied(), seen=spoiled)
    assert plain.held.source == "validation"
    for here in (plain, other):
        here.carry_out()
    kept = [
        [{k: v for k, v in r.items() if k not in ("cost", "digests")} for r in h.records if r["phase"] == "search"]
        for h in (plain, other)
    ]
    assert kept[0] == kept[1] and plain.summary["finalists"] != other.summary["finalists"]


def test_no_runs_are_tried_twice_before_the_race(tmp_path, monkeypatch):
    """Neither those of the default, beside which choices of architecture are measured too."""
    tried, try_steps = [], Cohort.try_steps

    def noted(cohort, steps):
        if not tried or tried[-1] is not cohort:
            tried.append(cohort)
        try_steps(cohort, steps)

    monkeypatch.setattr(Cohort, "try_steps", noted)

    Here(tmp_path, only=("architecture",)).carry_out(should_stop=lambda: True)
    each = [[member.plain() for member in cohort.members] for cohort in tried]
    assert len(each) > 3 and not [one for place, one in enumerate(each) if one in each[:place]]


def test_the_speed_of_runs_that_are_shorter_than_the_looks_at_it_is_measured_all_the_same(tmp_path):
    now = Ticking(0.0)

    class Layer(nn.Linear):
        def forward(self, x):
            now.at += 0.02 * self.training
            return super().forward(x)

    class Short(OwnModel):
        recipe = {"steps": 9, "batch_size": 32}  # noqa: RUF012

        def model(self, tasks, inputs):
            return HardSharing(Layer(inputs.shape[1], 4), {task.name: nn.Linear(4, task.outputs) for task in tasks})

    here = Here(tmp_path / "run", benchmark=Short())
    assert here.carry_out(lambda: read_state(here.path).plan is not None, 600.0, now) is None
    plan = read_state(here.path).plan
    assert plan.length == 9 and plan.run >= 9 * 0.02 / 12


def test_finals_that_a_slow_machine_ends_early_are_judged_by_the_steps_that_they_had(tmp_path):
    here = Here(tmp_path / "run")

    class Slowing(Ticking):
        def __call__(self):
            self.at += self.tick * (10 if "race" in read_state(here.path).ended else 1)
            return self.at

    here.carry_out(now=Slowing(TICK))
    finals = [record for record in here.records if record["phase"] == "final"]
    plan, (steps,) = read_state(here.path).plan, {record["cost"]["steps"] for record in finals}
    assert plan.telling(plan.final_length) and not plan.telling(steps)
    assert {record["status"] for record in finals} == {"done"} and all(record["holdout"] for record in finals)
    assert here.summary["final_steps"] == steps and not here.summary["telling"]
    assert here.summary["chosen"] == "default"
