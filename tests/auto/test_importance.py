"""What each choice brought."""

import math

import numpy as np
import pytest

from mtl.auto.finals import Finalist
from mtl.auto.importance import importance_of
from mtl.auto.path import last_part, path_between
from mtl.auto.space import USUAL


def runs_of(count, score, seed=0):
    """Runs with values drawn at random."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        values = {
            "strategy": "equal",
            "lr": float(10 ** rng.uniform(-4, -2)),
            "dropout": float(rng.random()),
            "optimizer": ["adam", "sgd"][int(rng.integers(2))],
            "loss.age": ["mse", "huber"][int(rng.integers(2))],
        }
        if values["loss.age"] == "huber":
            values["loss.age.delta"] = float(rng.random())
        found.append((values, {9: score(values), 3: 0.0}))
    return found


def rate(values):
    return math.log10(values["lr"]) + 3


def test_what_decides_alone_has_all_of_the_importance():
    found = importance_of(runs_of(60, rate))
    assert found.parts["optimizer"] > 0.9 and found.dimensions["lr"] > 0.9 and found.explained > 0.7
    assert max(found.parts["regularization"], found.parts["losses"], *found.pairs.values()) < 0.1
    assert (found.runs, found.step) == (60, 9)


def test_what_decides_together_is_an_interaction():
    found = importance_of(runs_of(120, lambda v: (1 if v["loss.age"] == "mse" else -1) * (v["dropout"] - 0.5)))
    assert max(found.pairs, key=found.pairs.get) == "losses × regularization"
    assert found.pairs["losses × regularization"] > 0.5 > found.parts["losses"] + found.parts["regularization"]


def test_a_parameter_that_exists_beside_a_choice_counts_for_its_part():
    found = importance_of(runs_of(80, lambda v: v.get("loss.age.delta", 0.5)))
    assert found.parts["losses"] > 0.8


def test_what_explains_nothing_is_said_to():
    rng = np.random.default_rng(1)
    assert importance_of(runs_of(60, lambda _: float(rng.normal()))).explained < 0.2


def test_runs_are_compared_where_half_of_them_have_come_to():
    some = runs_of(60, rate)
    for _, scores in some[:40]:
        del scores[9]
    for _, scores in some:
        scores[3] = 0.0
    assert importance_of(some) is None, "at the step that all have come to they are all the same"
    assert importance_of(some[:10]) is None


def test_the_most_important_part_comes_first_on_the_way():
    winner = {**USUAL, "lr": 0.01, "dropout": 0.2, "loss.age": "huber", "loss.age.delta": 0.5}
    path = path_between(USUAL, winner, {"regularization": 0.5, "optimizer": 0.3, "losses": 0.1})
    assert [each.label for each in path] == ["+ regularization", "+ optimizer"]
    assert path[0].values == {**USUAL, "dropout": 0.2} and path[1].values == {**USUAL, "dropout": 0.2, "lr": 0.01}
    assert last_part(USUAL, winner, path) == "losses"


def test_one_part_leaves_nothing_between():
    assert path_between(USUAL, {"strategy": "famo"}, {}) == []
    assert last_part(USUAL, {"strategy": "famo"}, []) == "weights"
    assert last_part(USUAL, {**USUAL, "lr": 1.0}, [Finalist("x", {**USUAL})]) == "optimizer"


@pytest.mark.parametrize("count", [0, 5])
def test_few_runs_say_nothing(count):
    assert importance_of(runs_of(count, rate)) is None
