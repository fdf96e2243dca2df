"""A search's runs, and what was done so far, as values."""

import dataclasses
from types import SimpleNamespace

import pytest

from mtl.search.methods import Decision, Exploit
from mtl.search.shards.placement import Placement
from mtl.search.standing import Standing
from mtl.search.takeover import take_over
from mtl.search.trial import Trial, better_of

EQUAL = {"strategy": "equal", "lr": 0.1}


def evaluation(selection=0.0):
    return SimpleNamespace(selection=selection, metrics={"a": {"mae": 1.0}}, finite=True, curves={}, failure="")


def standing(*scores):
    """After a segment of ten steps each."""
    begun = Standing().begun(Trial(number, number, dict(EQUAL)) for number in range(len(scores)))
    trials = [
        trial.evaluated(10, evaluation(), (score,), 30) for trial, score in zip(begun.trials, scores, strict=True)
    ]
    return begun.trained(trials, 30)


def test_a_run_is_never_changed_in_place():
    before = Trial(0, 0, dict(EQUAL))
    after = before.evaluated(10, evaluation(0.5), (1.0,), 30)
    assert (before.step, before.curve, before.best) == (0, (), None)
    assert (after.step, after.curve, after.best.selection) == (10, ((10, 30, (1.0,)),), 0.5)
    with pytest.raises(dataclasses.FrozenInstanceError):
        after.step = 20


def test_a_standing_comes_back_from_its_checkpoint():
    now = standing(1.0, 2.0, float("-inf")).counted(exploits=2, replaced_nonfinite=1).without({0})
    assert Standing.restored(now.state_dict()) == now
    assert now.living == (1, 2) and now.totals.best == ((30, 2.0),) and now.totals.exploits == 2
    assert now.best[0].number == 1 and now.trials[2].broken and now.trials[2].best is None


def test_a_run_that_takes_over_another_keeps_the_better_best_evaluation():
    now = standing(1.0, 3.0, 2.0).without({1})
    decision = Decision([Exploit(2, 0, {**EQUAL, "lr": 0.2})], changes={0: {**EQUAL, "lr": 0.3}})
    change = take_over(now, decision, broken=[], forgets=False, search="search")
    after = change.standing
    assert change.sources == {1: 0} and change.keeping == (1,), "members are numbered as in the cohort"
    assert after.trials[2].best == now.trials[2].best and after.trials[2].values["lr"] == 0.2
    assert {index: member.settings["lr"] for index, member in change.members.items()} == {1: 0.2, 0: 0.3}
    (event,) = change.events
    assert (event.target, event.source, event.before["lr"], event.after["lr"]) == (2, 0, 0.1, 0.2)
    assert event.scores == {"target": 2.0, "source": 1.0} and event.spent == 30
    forgetful = take_over(now, decision, broken=[2], forgets=True, search="search")
    assert forgetful.keeping == () and forgetful.standing.trials[2].best == now.trials[0].best
    assert forgetful.standing.totals.replaced_nonfinite == 1


def test_of_two_equal_best_evaluations_a_run_keeps_its_own():
    own, other = (trial.best for trial in standing(1.0, 1.0).trials)
    assert better_of(own, other) is own and better_of(None, other) is other and better_of(own, None) is own


def test_a_placement_spreads_new_members_and_numbers_those_that_are_kept_anew():
    first = Placement().added(Placement().spread(5, 2))
    assert first.members == {0: [0, 2, 4], 1: [1, 3]}
    kept = first.kept([4, 3, 0])
    assert kept.places == ((0, 0), (1, 0), (0, 1)) and first.apart([4, 3, 0]) == {0: [2, 0], 1: [1]}
    assert kept.added(kept.spread(2, 2)).members == {0: [0, 2, 4], 1: [1, 3]}
    assert Placement.of({0: 1, 1: 0, 2: 1}).places == ((1, 0), (0, 0), (1, 1))
