"""BOHB on a known objective, without a population."""

import math
from itertools import pairwise

import pytest

from mtl.search.methods import MethodOptions, Problem, Report, find_method
from mtl.search.space import Space
from mtl.search.space.dimension import Condition, Dimension
from mtl.search.space.parameters import Choice, Number, Simplex

SPACE = Space(
    {
        "strategy": Dimension(Choice(("equal", "gradnorm", "famo"))),
        "strategy.gradnorm.alpha": Dimension(Number(0, 3), Condition("strategy", frozenset({"gradnorm"}))),
        "lr": Dimension(Number(1e-5, 1, log=True)),
        "warmup": Dimension(Number(0, 100, integer=True)),
        "schedule": Dimension(Choice(("cosine",))),
        "weights": Dimension(Simplex(3), Condition("strategy", frozenset({"equal"}))),
    }
)
LENGTH, INTERVAL = 90, 10


def distance(values):
    """From the optimum: gradnorm with alpha = 1, lr = 1e-2, warmup = 20."""
    away = (math.log10(values["lr"] / 1e-2) / 5) ** 2 + ((values["warmup"] - 20) / 100) ** 2
    return away + (0.3 if values["strategy"] != "gradnorm" else ((values["strategy.gradnorm.alpha"] - 1) / 3) ** 2)


def run(method, *, score=lambda values, step: -distance(values) - 0.02 / step, seed=0, saved_after=None, **options):
    """All runs of a search whose scores are a function of values and steps, and how often each was heard of."""
    options = MethodOptions(**{"members": 27, **options})
    problem = Problem(SPACE, LENGTH, INTERVAL, seed)
    made = find_method(method)(problem, options)
    trials = [start.values for start in made.begin()]
    alive, steps = dict.fromkeys(range(len(trials)), 0), dict.fromkeys(range(len(trials)), 0)
    decisions = 0
    while alive:
        alive = {number: step + INTERVAL for number, step in alive.items()}
        steps |= alive
        reports = [
            Report(number, step, trials[number], (score(trials[number], step),), step >= LENGTH)
            for number, step in alive.items()
        ]
        decision = made.decide(reports)
        decisions += 1
        if decisions == saved_after:
            state, made = made.state_dict(), find_method(method)(problem, options)
            made.load_state_dict(state)
        over = decision.stop | {report.trial for report in reports if report.finished}
        alive = {number: step for number, step in alive.items() if number not in over}
        for start in decision.start:
            alive[len(trials)] = 0
            trials.append(start.values)
    return trials, steps


def median(values):
    return sorted(values)[len(values) // 2]


@pytest.mark.parametrize("seed", range(3))
def test_proposals_concentrate_near_the_optimum(seed):
    """Once there is a model, half of the runs are nearer than all but few random ones, and others still explore."""
    trials, _ = run("bohb", seed=seed, trials=150)
    later = sorted(map(distance, trials[75:]))
    random = sorted(map(distance, run("random", seed=seed, trials=150)[0][75:]))
    assert median(later) < random[len(random) // 4]
    assert median(later) < 0.5 * median(random)
    assert 0.05 < sum(x > median(random) for x in later) / len(later) < 0.35, "half of a third, were the others good"


def test_the_largest_budget_with_enough_runs_is_believed():
    """Short runs mislead: they score best where long ones are worst."""
    trials, _ = run("bohb", score=lambda values, step: distance(values) * (-1 if step >= 30 else 1), trials=150)
    late = median([distance(values) for values in trials[100:]])
    assert late < median([distance(values) for values in trials[:27]]) / 2


def test_brackets_are_those_of_hyperband():
    expected = run("hyperband")[1]
    found = run("bohb")[1]
    assert sorted(found.values()) == sorted(expected.values()) and len(found) == 27 + 14 + 9


def test_seeds_decide_and_a_method_continues_from_its_state():
    whole = run("bohb", trials=80)
    assert all(run("bohb", trials=80, saved_after=after) == whole for after in (9, 20))
    assert run("bohb", trials=80, seed=1) != whole


def test_runs_that_break_are_avoided():
    def score(values, step):
        return -math.inf if values["lr"] > 1e-2 else -distance(values) - 0.02 / step

    trials, _ = run("bohb", score=score, trials=150)
    share = [sum(values["lr"] > 1e-2 for values in some) / len(some) for some in (trials[:27], trials[75:])]
    assert share[1] < 0.6 * share[0], share


def test_integers_and_conditions_hold():
    trials, _ = run("bohb", trials=100)
    for values in trials:
        assert isinstance(values["warmup"], int) and 0 <= values["warmup"] <= 100
        assert ("strategy.gradnorm.alpha" in values) == (values["strategy"] == "gradnorm")
        assert ("weights" in values) == (values["strategy"] == "equal")
        assert "weights" not in values or sum(values["weights"]) == pytest.approx(1)
    assert any(one != other for one, other in pairwise(trials[-10:]))
