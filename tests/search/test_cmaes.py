"""CMA-ES: a wave is a generation, and the distribution follows from what was told."""

import math

import numpy as np
import pytest
from cmaes import CMA

from mtl.search.methods import MethodOptions, Problem, Report, find_method
from mtl.search.methods.cmaes import _Coordinates
from mtl.search.space import Space
from mtl.search.space.dimension import Condition, Dimension
from mtl.search.space.parameters import Choice, Number, Simplex
from mtl.search.tune import tuning_options

BEST = {"lr": 0.8, "clip": 0.1, "momentum": 0.4}
NUMBERS = {"lr": Number(1e-4, 1.0, log=True), "clip": Number(0.0, 10.0), "momentum": Number(0.0, 1.0)}


def distance(values):
    return math.dist([NUMBERS[name].share(values[name]) for name in BEST], BEST.values())


def search(members=8, trials=8, space=None, score=lambda values: -distance(values)):
    space = space or Space({name: Dimension(number) for name, number in NUMBERS.items()})
    method = find_method("cmaes")(Problem(space, 10, 10, 0), MethodOptions(members=members, trials=trials))
    starts, waves = method.begin(), []
    while starts:
        first = sum(map(len, waves))
        waves.append([start.values for start in starts])
        reports = [Report(first + k, 10, start.values, (score(start.values),), True) for k, start in enumerate(starts)]
        starts = method.decide(reports).start
    return method, waves


def test_it_closes_in_on_the_optimum():
    _, waves = search(trials=240)
    assert [len(wave) for wave in waves] == [8] * 30
    far, near = (np.mean([distance(values) for values in wave]) for wave in (waves[0], waves[-1]))
    assert near < 0.02 < 0.3 < far


def test_it_asks_what_one_distribution_asks_that_is_told_generation_after_generation():
    method, waves = search(trials=40)
    one = CMA(np.full(3, 0.5), 0.3, bounds=np.tile([0.0, 1.0], (3, 1)), population_size=8, seed=0)
    for number, wave in enumerate(waves):
        one.reseed_rng(int(method.problem.rng(6, 8 * number).integers(2**31)))
        points = [one.ask() for _ in wave]
        for point, values in zip(points, wave, strict=True):
            assert {name: NUMBERS[name].at(share) for name, share in zip(NUMBERS, point, strict=True)} == values
        one.tell([(point, distance(values)) for point, values in zip(points, wave, strict=True)])


def test_runs_that_broke_are_the_worst():
    _, waves = search(trials=240, score=lambda values: -math.inf if values["clip"] > 5 else -distance(values))
    assert np.mean([distance(values) for values in waves[-1]]) < 0.05
    _, waves = search(trials=24, score=lambda _values: -math.inf)
    assert len(waves) == 3


def test_choices_weights_integers_and_conditions_have_coordinates():
    space = Space(
        {
            "strategy": Dimension(Choice(("equal", "static"))),
            "strategy.static.weights": Dimension(Simplex(3), Condition("strategy", frozenset({"static"}))),
            "warmup": Dimension(Number(1, 100, log=True, integer=True)),
            "batch_size": Dimension(Choice((64,))),
        }
    )

    def score(values):
        return values.get("strategy.static.weights", (0, 0, 0))[2] - abs(math.log(values["warmup"] / 50))

    _, waves = search(trials=200, space=space, score=score)
    for wave in waves:
        for values in wave:
            assert ("strategy.static.weights" in values) == (values["strategy"] == "static")
            assert isinstance(values["warmup"], int) and values["batch_size"] == 64
    last = waves[-1]
    assert all(values["strategy"] == "static" and 35 <= values["warmup"] <= 70 for values in last)
    assert min(values["strategy.static.weights"][2] for values in last) > 0.6


def test_a_coordinate_is_cut_into_equal_parts_for_choices():
    shares = np.linspace(0, 1, 301)
    picked = [_Coordinates({"x": share}).suggest_categorical("x", "abc") for share in shares]
    assert picked == sorted(picked) and [picked.count(c) for c in "abc"] == [100, 100, 101]


def test_one_number_is_enough():
    space = Space({"momentum": Dimension(NUMBERS["momentum"])})
    _, waves = search(trials=120, space=space, score=lambda values: -abs(values["momentum"] - 0.4))
    assert all(abs(values["momentum"] - 0.4) < 0.05 for values in waves[-1])


def test_nothing_to_vary_is_drawn():
    _, waves = search(space=Space({"lr": Dimension(Choice((0.1,)))}), score=lambda _values: 0.0)
    assert waves == [[{"lr": 0.1}] * 8]


def test_a_generation_has_four_at_least():
    with pytest.raises(ValueError, match="--members 3: cmaes needs at least 4"):
        search(members=3)
    assert tuning_options("cmaes", 8).members == 4 and tuning_options("cmaes", 40).members == 10
    with pytest.raises(ValueError, match="--budget 3: cmaes needs at least 4"):
        tuning_options("cmaes", 3)
