"""Random runs, a fixed number of draws: what is trained together, changed midway or stopped is the run by itself."""

import random

import pytest

from mtl.train import Cohort
from tests.population.problem import close
from tests.train.any_run import BENCHMARKS, draw_member, settings_of
from tests.train.shown import shown
from tests.written import through_disk

pytestmark = pytest.mark.usefixtures("float64")


def allowed(benchmark, shape, numbers, seed):
    """The first member from these seeds on that is not refused."""
    for more in range(50):
        member = draw_member(benchmark, shape, numbers + more, seed)
        try:
            Cohort(benchmark, benchmark.load(), [member], settings_of(benchmark), vectorised=False, tell=str)
        except ValueError as refusal:
            assert "\n" not in str(refusal)
            shape += 1000
            continue
        return member
    raise AssertionError("nothing that was drawn is allowed")


def cohort(benchmark, members, **options):
    return Cohort(benchmark, benchmark.load(), members, settings_of(benchmark), tell=str, **options)


def resumed(made, benchmark):
    again = cohort(benchmark, made.members[:1])
    again.load_state_dict(through_disk(made.state_dict()))
    return again


@pytest.mark.parametrize("seed", range(6))
def test_each_member_is_the_run_by_itself(seed):
    benchmark = BENCHMARKS[seed]()
    members = [
        allowed(benchmark, shape, numbers, numbers % 3) for shape, numbers in ((seed, 1), (seed, 2), (seed + 9, 3))
    ]
    for member, together in zip(members, shown(cohort(benchmark, members)), strict=True):
        close(together, shown(cohort(benchmark, [member], vectorised=False))[0], 1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_members_that_come_go_and_copy_are_the_same_together_and_alone(seed):
    benchmark, draw, found = BENCHMARKS[seed](), random.Random(seed), []
    members = [allowed(benchmark, seed + 60, numbers, numbers % 3) for numbers in range(100, 500, 100)]
    first, second, third = (draw.randint(1, 4) for _ in range(3))
    for vectorised in (True, False):
        made = cohort(benchmark, members[:3], vectorised=vectorised)
        made.advance(first)
        made.add(members[3:])
        made.exploit({0: 1})
        made.advance(second)
        made.replace({0: allowed(benchmark, seed + 60, 900, members[0].seed)})
        made.keep([3, 0])
        made.advance(third)
        found.append(shown(made))
    close(*found, 1e-8)


@pytest.mark.parametrize("seed", range(6))
def test_members_that_were_stopped_and_go_on_are_the_same_bit_for_bit(seed):
    benchmark = BENCHMARKS[seed]()
    members = [allowed(benchmark, seed + 70, numbers, numbers) for numbers in (1, 2)]
    whole, parts = cohort(benchmark, members), cohort(benchmark, members)
    for steps in (1, 3):
        parts.advance(steps)
        parts = resumed(parts, benchmark)
    assert shown(parts) == shown(whole)
