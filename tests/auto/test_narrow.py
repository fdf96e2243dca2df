"""Smaller spaces for shorter times."""

from mtl.auto.narrow import narrowed, narrowings
from mtl.auto.parts import PARTS, part_of
from mtl.auto.space import auto_space
from mtl.search.methods import Problem
from mtl.search.methods.random import random_starts
from mtl.train import Settings
from tests.tiny import Tiny


def space_of(only=PARTS):
    benchmark = Tiny()
    return auto_space(benchmark, benchmark.load(), Settings.of(benchmark.recipe), only, ()).space


def test_what_splits_runs_into_programs_is_dropped_in_a_stated_order():
    spaces = narrowings(space_of())
    assert [each.dropped for each in spaces] == [
        ("architecture", "optimizer", "weights", "losses")[:count] for count in range(5)
    ]
    kinds = [each.kinds for each in spaces]
    assert kinds == sorted(kinds, reverse=True) and kinds[0] > 100 and kinds[-1] == 3
    kept = spaces[-1].space.dimensions
    assert {part_of(name) for name in kept} == {"weights", "regularization", "optimizer"}
    assert "schedule" in kept and "lr" in kept and "optimizer" not in kept


def test_no_parameter_of_what_was_dropped_is_left():
    for each in narrowings(space_of()):
        for name, dimension in each.space.dimensions.items():
            if dimension.condition is not None:
                assert dimension.condition.parent in each.space.dimensions, name
                choices = each.space.dimensions[dimension.condition.parent].parameter.grid(1)
                assert dimension.condition.choices <= {*choices}, name
        starts = random_starts(Problem(each.space, 10, 1, 0), 20)
        assert len({start.values["lr"] for start in starts}) == 20


def test_something_is_always_left_to_decide():
    assert [each.dropped for each in narrowings(space_of(["architecture"]))] == [()]
    assert [each.dropped for each in narrowings(space_of(["weights"]))] == [(), ("weights",)]
    (whole, smaller) = narrowings(space_of(["weights"]))
    assert narrowed(whole.space, ("weights",)).dimensions == smaller.space.dimensions
