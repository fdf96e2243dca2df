"""Architectures that take too long for the time."""

import pytest

from mtl.auto.dear import dear_choices, without
from mtl.auto.space import USUAL
from mtl.search.methods import Problem
from mtl.search.methods.random import random_starts
from tests.auto.test_narrow import space_of

LENGTH = 100


def cost(values):
    """Seconds of a step: `mmoe` takes three times as long, the others as long as the default or less."""
    return 0.03 if str(values.get("architecture")).startswith("mmoe") else 0.005 if "model" in values else 0.01


@pytest.mark.parametrize(("seconds", "names"), [(4 * LENGTH * 0.03, []), (4 * LENGTH * 0.03 - 1, ["architecture"])])
def test_a_choice_is_left_out_where_there_is_no_time_for_four_runs_of_it(seconds, names):
    dear = dear_choices(space_of(), USUAL, 0.01, cost, LENGTH, seconds)
    assert [each.name for each in dear] == names
    for each in dear:
        assert each.times == pytest.approx(3.0)
        assert each.words(60.0).startswith(f"Architecture {each.choice} is not tried: its steps take 3.0 times as long")


def test_what_costs_no_more_than_the_default_stays_however_short_the_time_is():
    space = space_of()
    smaller = without(space, dear_choices(space, USUAL, 0.01, cost, LENGTH, 1.0))
    assert smaller.dimensions["model"] == space.dimensions["model"]
    drawn = [start.values for start in random_starts(Problem(smaller, 10, 1, 0), 30)]
    assert {each.get("architecture", "hard-sharing") for each in drawn} == {"hard-sharing"}
    assert len({each["model"] for each in drawn}) == len(space.dimensions["model"].parameter.choices)
