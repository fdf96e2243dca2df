"""Brackets of runs that are compared with each other and with all before, beginning with the default."""

import pytest

from mtl.auto.race import Race
from mtl.auto.space import USUAL
from mtl.auto.usual import usual_point
from mtl.search.methods import Problem, Report
from mtl.search.space.build import build_space
from mtl.search.space.grammar import Bounds, Listed
from mtl.train import Settings
from tests.tiny import Tiny

LENGTH = 9


def race_of(members=9, over=lambda: False, strategies=("equal", "uncertainty"), ranges=None):
    space = build_space(Tiny(), [*strategies], ranges or {"lr": Bounds("1e-4", "1e-2", log=True)})
    usual = usual_point(space, Settings.of(Tiny().recipe))
    return Race(Problem(space, LENGTH, 1, 0), members, USUAL, usual, over)


def segments(race, count, score):
    """Let a race go on for some segments.

    Returns:
        The steps of each run, those that were stopped and those that came to their end.
    """
    values = dict(enumerate(start.values for start in race.begin()))
    steps, alive, stopped, finished = dict.fromkeys(values, 0), [*values], set(), set()
    for _ in range(count):
        for run in alive:
            steps[run] += 1
        reports = [
            Report(run, steps[run], values[run], (score(run, values[run], steps[run]),), steps[run] >= LENGTH)
            for run in alive
        ]
        decision = race.decide(reports)
        ended = {report.trial for report in reports if report.finished}
        finished, stopped = finished | ended, stopped | (decision.stop - ended)
        alive = [run for run in alive if run not in ended | decision.stop]
        for start in decision.start:
            alive.append(len(values))
            steps[len(values)] = 0
            values[len(values)] = start.values
        if not alive:
            break
    return steps, stopped, finished


def by_number(run, values, step):  # noqa: ARG001
    return float(run)


def test_it_begins_with_the_default_which_is_trained_to_its_end_however_bad_it_is():
    race = race_of()
    assert race_of().begin()[0].values == USUAL
    _, stopped, finished = segments(race, LENGTH, by_number)
    assert finished == {0, 7, 8} and stopped == {*range(1, 7)}


def test_runs_end_after_a_third_and_five_ninths_of_their_steps():
    steps, *_ = segments(race_of(members=12), LENGTH, by_number)
    assert [steps[run] for run in range(12)] == [9, 3, 3, 3, 3, 3, 3, 3, 5, 5, 9, 9]


def test_nothing_is_left_of_a_bracket_that_is_worse_than_those_before():
    steps, stopped, _ = segments(race_of(), LENGTH + 3, lambda run, *_: 1.0 if run < 9 else 0.0)
    later = {run for run in steps if 9 <= run < 13}
    assert len(later) == 4 and later <= stopped and {steps[run] for run in later} == {3}


def test_of_a_bracket_that_is_better_some_are_left():
    _, _, finished = segments(race_of(), 2 * LENGTH, by_number)
    assert max(finished) == 12


def test_runs_that_break_end_and_leave_the_others_alone():
    def score(run, values, step):  # noqa: ARG001
        return float("-inf") if run in (0, 3) and step > 1 else float(run)

    steps, stopped, finished = segments(race_of(), LENGTH, score)
    assert {0, 3} <= stopped and steps[0] == steps[3] == 2 and finished == {8}


def test_a_bracket_of_which_all_break_is_followed_by_the_next():
    steps, *_ = segments(race_of(), 4, lambda run, *_: float("-inf") if run < 9 else float(run))
    assert [*steps.values()][:9] == [1] * 9 and len(steps) == 13 and steps[12] == 3


def test_brackets_follow_each_other_until_time_is_over():
    looks = iter([False] * 40 + [True] * 10)
    race = race_of(over=lambda: next(looks))
    steps, stopped, finished = segments(race, 200, lambda _, values, __: -abs(values.get("lr", 1e-3) - 3e-3))
    assert {*steps} == stopped | finished and len(finished) >= 2 and len(steps) > 13


def test_nothing_begins_when_time_is_over():
    race = race_of(over=lambda: True)
    assert race.begin() == [] == race.more()


def test_later_runs_are_proposed_by_a_forest_that_has_seen_the_others():
    race = race_of()
    first = race.begin()
    race.decide([Report(run, 3, start.values, (float(run),), False) for run, start in enumerate(first)])
    assert {start.informed for start in first} == {False} and any(start.informed for start in race.more())


def test_what_it_finds_gets_better():
    """A rate of 3e-3 is the best, under another strategy than the default's."""

    def score(run, values, step):  # noqa: ARG001
        return -abs(values.get("lr", 1e-3) - 3e-3) * 1e3 + (values["strategy"] == "famo")

    race = race_of(members=12, strategies=("equal", "uncertainty", "famo", "dwa"))
    found = []
    segments(race, 90, lambda run, values, step: found.append((run, score(run, values, step))) or found[-1][1])
    scores = dict(found)
    early, late = (sorted(scores[run] for run in runs) for runs in (range(12), range(len(scores) - 12, len(scores))))
    assert late[6] > early[6] + 0.5 and max(late) > max(early), (early, late)


@pytest.mark.parametrize("count", [1, 5, 20])
def test_a_race_that_is_loaded_goes_on_in_the_same_way(count):
    race, again = race_of(), race_of()
    segments(race, count, lambda run, values, _: values.get("lr", 0.0) + run * 1e-6)
    again.load_state_dict(race.state_dict())
    assert again.state_dict() == race.state_dict()
    assert [start.values for start in again.more()] == [start.values for start in race.more()]


def test_points_share_their_structure_in_threes_and_differ_in_their_numbers():
    choices = {"lr": Bounds("1e-4", "1e-2", log=True), "optimizer": Listed(("adam", "sgd", "adamw"))}
    race = race_of(28, strategies=("equal", "uncertainty", "famo"), ranges=choices)
    starts = [start.values for start in race.begin()][1:]
    threes = [starts[k : k + 3] for k in range(0, 27, 3)]
    kinds = [{(values["strategy"], values["optimizer"]) for values in three} for three in threes]
    assert all(len(kind) == 1 for kind in kinds) and len(set.union(*kinds)) > 3
    assert all(one not in three[:k] for three in threes for k, one in enumerate(three))
