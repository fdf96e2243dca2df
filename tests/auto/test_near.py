"""Points near the best runs, and what a race begins with."""

import pytest

from mtl.auto.near import Ranked, good_starts, proposed
from mtl.auto.parts import PARTS
from mtl.auto.space import auto_space
from mtl.auto.usual import changes, usual_point
from mtl.benchmarks import load_checked
from mtl.search.methods import Problem
from mtl.search.space.build import build_space
from mtl.search.space.grammar import Bounds, Listed, Word
from mtl.search.space.refusals import Refusals
from mtl.train import Settings
from tests.tiny import Tiny

RATES = {"lr": Bounds("1e-4", "1e-2", log=True)}


def space_of(strategies=("equal", "famo"), ranges=None):
    return build_space(Tiny(), [*strategies], {**RATES, **(ranges or {})})


def test_the_point_of_the_default_has_the_values_of_the_recipe_and_changes_nothing_else():
    benchmark, settings = Tiny(), Settings.of(Tiny().recipe)
    space = auto_space(benchmark, load_checked(benchmark), settings, PARTS, ()).space
    point = usual_point(space, settings)
    assert point["lr"] == pytest.approx(settings.lr) and point["strategy"] == "equal"
    assert point["clip"] == 10 and point["schedule"] == settings.schedule
    assert {name for name, _ in space.active(point)} == {*point}, "complete, and no more than that"


def test_what_a_point_changes_is_what_the_recipe_does_not_say():
    benchmark, settings = Tiny(), Settings.of(Tiny().recipe)
    space = auto_space(benchmark, load_checked(benchmark), settings, PARTS, ()).space
    usual = usual_point(space, settings)
    nothing = {"strategy", "clip", "noise", "dropout", "weight_decay", "loss.sign", "loss.sign.label_smoothing"}
    assert changes(space, settings, benchmark.tasks, usual).keys() <= nothing, (
        "a loss stays where a number of it is searched"
    )
    doubled = changes(space, settings, benchmark.tasks, {**usual, "lr": 2 * usual["lr"], "schedule": "cosine"})
    assert (doubled["lr"], doubled["schedule"]) == (2 * usual["lr"], "cosine")


def test_a_race_begins_with_a_rate_that_rises_and_falls():
    space = space_of(ranges={"schedule": Listed(("constant", "cosine", "one-cycle")), "dropout": Bounds("0", "0.5")})
    usual = {"strategy": "equal", "lr": 1e-3, "schedule": "constant", "dropout": 0.0}
    plain, dropped = good_starts(space, usual)
    assert plain == {**usual, "schedule": "one-cycle", "lr": pytest.approx(3e-3)}
    assert dropped == {**plain, "dropout": pytest.approx(0.2)}
    assert good_starts(space, {**usual, "lr": 9e-3})[0]["lr"] == pytest.approx(1e-2), "no higher than its range"
    assert good_starts(space_of(), usual) == []


def test_points_are_complete_and_lie_in_the_space_whatever_choices_they_have():
    space = space_of(
        ("equal", "famo", "static"),
        {"loss.product": Listed(("huber", "mse")), "strategy.static.weights": Word("simplex")},
    )
    problem = Problem(space, 9, 1, 3)
    starts = [start.values for start in proposed(problem, usual_point(space, Settings()), [], 0, 60)]
    for values in starts:
        assert {name for name, _ in space.active(values)} == {*values}
        assert 1e-4 <= values["lr"] <= 1e-2 and values["lr"] == float(f"{values['lr']:.4g}")
    assert {values["strategy"] for values in starts} == {"equal", "famo", "static"}


def test_half_of_what_is_not_known_yet_is_as_in_the_default():
    space = space_of(ranges={"optimizer": Listed(("adam", "sgd", "adamw", "nadam", "radam"))})
    usual = {**usual_point(space, Settings()), "optimizer": "radam"}
    starts = [start.values["optimizer"] for start in proposed(Problem(space, 9, 1, 0), usual, [], 0, 300)][::3]
    assert 0.35 < sum(each == "radam" for each in starts) / len(starts) < 0.75


def test_a_refused_point_is_not_proposed():
    space = space_of()
    space.refusals = Refusals(lambda values: "no" if values["strategy"] == "famo" else None)
    seen = [Ranked({"strategy": "equal", "lr": 1e-3}, 3, float(k)) for k in range(12)]
    for known in ([], seen):
        starts = proposed(Problem(space, 9, 1, 0), usual_point(space, Settings()), known, 0, 12)
        assert {start.values["strategy"] for start in starts} == {"equal"}


def test_points_are_drawn_near_those_that_got_furthest():
    """Of runs with equal scores, those with a high rate were trained longer."""
    space = space_of()
    rates = [10 ** (-4 + 2 * k / 29) for k in range(30)]
    seen = [Ranked({"strategy": "equal", "lr": rate}, 9 if rate > 5e-3 else 3, 0.0) for rate in rates]
    starts = proposed(Problem(space, 9, 1, 0), usual_point(space, Settings()), seen, 0, 60)
    informed = [start.values["lr"] for start in starts if start.informed]
    assert len(informed) > 30 and sorted(informed)[len(informed) // 4] > 3e-3


def test_no_point_is_tried_twice():
    space = build_space(Tiny(), ["equal", "uncertainty"], {"optimizer": Listed(("adam", "sgd", "adamw"))})
    usual = usual_point(space, Settings())
    starts = [start.values for start in proposed(Problem(space, 9, 1, 0), usual, [], 0, 4)]
    assert usual not in starts and all(one not in starts[:k] for k, one in enumerate(starts)), starts
