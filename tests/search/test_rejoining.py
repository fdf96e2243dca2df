"""Searches whose runs break, or are unlike each other, and that are stopped after each segment."""

import json
from pathlib import Path

import pytest
import torch

from mtl.benchmarks import Task
from mtl.metrics import mae
from mtl.search.methods import MethodOptions, Problem
from mtl.search.methods.epbt import EPBT
from mtl.search.methods.pb2 import PB2
from mtl.search.methods.pbt import PBT
from mtl.search.objective import Objective
from mtl.search.search import Search
from mtl.search.shards.inline import InlineHosts
from mtl.search.shards.sharded import ShardedCohort
from mtl.search.space.build import build_space
from mtl.search.space.grammar import read_options
from mtl.study.rundir import open_run_directory
from mtl.train import Cohort, Member, Settings, Stopped
from tests.population.problem import Three
from tests.written import events_of, through_disk

pytestmark = pytest.mark.usefixtures("float64")

LENGTH, INTERVAL = 12, 3
USERS = Path(__file__).parent.parent / "losses" / "user_losses.py"
SETTINGS = Settings.of(Three.recipe, {"steps": LENGTH, "nan_limit": 1})


def drawing(prediction, target):
    """Draws for all members of a program together, so that who is in it counts."""
    return (prediction - target + 0.1 * torch.randn_like(target)).square().mean()


class Drawing(Three):
    """One of the losses draws random numbers."""

    tasks = (*Three.tasks[:2], Task("square", drawing, (mae,)))


def cohort(members):
    return Cohort(Drawing(), Drawing().load(), members, SETTINGS, told=True)


def in_shards(members):
    return ShardedCohort(InlineHosts(cohort, 2), members, str)


class After:
    """Stops a search after so many segments."""

    def __init__(self, segments):
        self.left = segments

    def __call__(self):
        self.left -= 1
        if self.left == 0:
            raise Stopped


BROKEN = ["lr=1e-2,2e-2,1e200"]
UNLIKE = [f"loss.product=mse,{USERS}:branching", "optimizer=adam,sgd,muon", "ema=none,0.5", "dropout=none,0.3"]


def carried_out(path, make, ranges, segments=0, method=PBT):
    """The records, curves and schedule of a search, stopped after each so many segments; and how often runs broke."""
    space = build_space(Drawing(), ["rlw", "equal"], read_options(ranges))
    problem = Problem(space, LENGTH, INTERVAL, 1)
    while True:
        made = method(problem, MethodOptions(members=8, resample=0.5))
        search = Search("search", "", made, problem, Objective(["product/mae"], Drawing()), make, tell=str)
        try:
            with open_run_directory(path, resume=True) as directory:
                records = search.run(directory, "drawing", between=After(segments))
        except Stopped:
            continue
        runs = [{**record, "cost": record["cost"]["steps"]} for record in records]
        curves = [json.loads((path / run["history"]).read_text()) for run in runs]
        broken = sum(run["status"] == "diverged" for run in runs) + search.totals.replaced_nonfinite
        return repr([runs, curves, events_of(path)]), broken


@pytest.mark.parametrize("make", [cohort, in_shards])
def test_a_search_with_runs_that_break_is_the_same_bit_for_bit_when_it_is_stopped_after_each_segment(make, tmp_path):
    whole, broken = carried_out(tmp_path / "whole", make, BROKEN)
    assert broken > 1
    assert carried_out(tmp_path / "stopped", make, BROKEN, 1)[0] == whole


@pytest.mark.parametrize("method", [PBT, PB2, EPBT])
def test_states_pass_between_runs_that_are_trained_together_and_by_themselves(method, tmp_path):
    whole, _ = carried_out(tmp_path / "whole", in_shards, UNLIKE, method=method)
    exploits = [event for event in events_of(tmp_path / "whole") if event["source"] is not None]
    kinds = [("branching" in str(each["before"]), "branching" in str(each["after"])) for each in exploits]
    assert {(True, False), (False, True)} <= {*kinds}
    assert carried_out(tmp_path / "stopped", in_shards, UNLIKE, 2, method)[0] == whole


def test_a_member_that_recovers_is_trained_with_its_like_in_a_cohort_that_was_made_with_another():
    members = [Member("equal", 0), *(Member("famo", seed, {"optimizer": "sgd"}) for seed in (1, 2))]
    broken = Member("famo", 3, {"optimizer": "sgd", "lr": 1e200})
    whole = cohort([*members, broken])
    whole.advance(4)
    assert [found.finite for found in whole.evaluate()] == [True, True, True, False]
    resumed = cohort(members[:1])
    resumed.load_state_dict(through_disk(whole.state_dict()))
    for made in (whole, resumed):
        made.exploit({3: 2})
        made.replace({3: Member("famo", 3, {"optimizer": "sgd", "lr": 0.01})})
        assert [group["ids"] for group in made.state_dict()["groups"]] == [[0], [1, 2, 3]]
        made.advance(LENGTH)
    one, other = ([result.history for result in made.results()] for made in (whole, resumed))
    assert repr(one) == repr(other)
