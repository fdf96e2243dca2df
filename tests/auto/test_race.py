"""Successive halving that begins with the default and ends when time is over."""

import pytest

from mtl.auto.race import Race
from mtl.auto.space import USUAL
from mtl.search.methods import Problem, Report
from mtl.search.space.build import build_space
from mtl.search.space.grammar import Listed
from tests.tiny import Tiny


def problem_of(length=27):
    return Problem(build_space(Tiny(), ["equal", "uncertainty"], {}), length, 1, 0)


def race_until(race, segments, score):
    """Let a race go on for some segments; gives the runs that were stopped and those that came to their end."""
    alive = {number: start.values for number, start in enumerate(race.begin())}
    step, count, stopped, finished = dict.fromkeys(alive, 0), len(alive), set(), set()
    for _ in range(segments):
        interval = race.problem.interval
        for number in alive:
            step[number] += interval
        reports = [
            Report(number, step[number], values, (score(number, values),), step[number] >= race.problem.length)
            for number, values in alive.items()
        ]
        decision = race.decide(reports)
        ended = {report.trial for report in reports if report.finished}
        stopped |= decision.stop - ended
        finished |= ended
        for number in ended | decision.stop:
            del alive[number]
        for start in decision.start:
            alive[count], step[count] = start.values, 0
            count += 1
        if not alive:
            break
    return stopped, finished, alive


def test_it_begins_with_the_default_which_is_trained_to_its_end_however_bad_it_is():
    race = Race(problem_of(), 9, [USUAL])
    stopped, finished, _ = race_until(race, 27, lambda number, _: float(number))
    assert 0 in finished and len(stopped) == 7, "one of the nine is left, and the default"


def test_bad_runs_are_stopped_and_good_ones_are_not():
    _, finished, _ = race_until(Race(problem_of(), 9, [USUAL]), 27, lambda number, _: float(number))
    assert finished == {0, 8}


def test_a_default_that_breaks_is_given_up():
    race = Race(problem_of(), 9, [USUAL])
    stopped, *_ = race_until(race, 3, lambda number, _: float("nan") if number == 0 else float(number))
    assert 0 in stopped


def test_brackets_follow_each_other_until_time_is_over():
    looks = iter([False] * 60 + [True] * 10)
    race = Race(problem_of(), 9, [USUAL], over=lambda: next(looks))
    stopped, finished, alive = race_until(race, 200, lambda _, values: -abs(values.get("lr", 1e-3) - 3e-3))
    assert not alive and len(finished) >= 3 and len(stopped) > 9


def test_nothing_begins_when_time_is_over():
    assert Race(problem_of(), 9, [USUAL], over=lambda: True).more() == []


def test_later_runs_are_proposed_by_a_model_that_has_seen_the_others():
    race = Race(problem_of(), 27, [USUAL])
    assert next(start.values for start in race.begin()) == USUAL
    reports = [Report(n, 1, {**USUAL}, (float(n),), False) for n in range(27)]
    race.decide(reports)
    starts = race.propose(6)
    assert len(starts) == 6 and any(start.informed for start in starts)


@pytest.mark.parametrize("segments", [1, 5, 20])
def test_a_race_that_is_loaded_goes_on_in_the_same_way(segments):
    def score(number, values):
        return values.get("lr", 0.0) + number * 1e-6

    race = Race(problem_of(), 9, [USUAL])
    race_until(race, segments, score)
    again = Race(problem_of(), 9, [USUAL])
    again.load_state_dict(race.state_dict())
    assert again.state_dict() == race.state_dict()
    assert [start.values for start in again.propose(4)] == [start.values for start in race.propose(4)]


def test_points_share_their_structure_in_threes_and_differ_in_their_numbers():
    space = build_space(Tiny(), ["equal", "uncertainty", "famo"], {"optimizer": Listed(("adam", "sgd", "adamw"))})
    starts = [start.values for start in Race(Problem(space, 27, 1, 0), 28, [USUAL]).begin()][1:]
    threes = [starts[k : k + 3] for k in range(0, 27, 3)]
    kinds = [{(values["strategy"], values["optimizer"]) for values in three} for three in threes]
    assert all(len(kind) == 1 for kind in kinds) and len(set.union(*kinds)) > 3
    assert len({values["lr"] for values in starts}) == 27
