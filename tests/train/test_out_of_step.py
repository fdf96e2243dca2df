"""Members whose strategies measure on some steps only, and not on the same ones: each is the run it would be alone."""

import pytest

from mtl.train import Cohort, Member, Settings
from tests.population.problem import Three, ThreeMissing, assert_is_the_single_run, close

pytestmark = pytest.mark.usefixtures("float64")

#: One for each thing that is read: noise, a coordinate's noise, a Gramian, losses after the step, and other batches.
SPECS = ["rlw", "graddrop", "pcgrad", "mgda", "famo", "auto-lambda", "modo"]
SETTINGS = Settings.of(Three.recipe, {"steps": 14, "dropout": 0.2})


def cohort(benchmark, members, settings):
    return Cohort(benchmark, benchmark.load(), members, settings)


@pytest.mark.parametrize("spec", SPECS)
def test_members_that_began_at_unlike_times(spec):
    benchmark, members = Three(), [Member(f"{spec}+every:n=3", seed) for seed in range(2)]
    made = cohort(benchmark, members[:1], SETTINGS)
    made.advance(4)
    made.add(members[1:])
    made.advance(1000)
    for member, result in zip(members, made.results(), strict=True):
        assert_is_the_single_run(result, benchmark, benchmark.load(), member, SETTINGS, 1e-9)


@pytest.mark.parametrize("spec", SPECS)
def test_members_that_lacked_a_task_unlike_often(spec):
    benchmark, members = ThreeMissing(), [Member(f"{spec}+every:n=2", seed) for seed in range(3)]
    settings = Settings.of(benchmark.recipe, {"steps": 14, "dropout": 0.2})
    made = cohort(benchmark, members, settings)
    made.advance(1000)
    for member, result in zip(members, made.results(), strict=True):
        assert_is_the_single_run(result, benchmark, benchmark.load(), member, settings, 1e-9)


@pytest.mark.parametrize("spec", ["mgda", "famo", "auto-lambda"])
def test_every_second_of_every_second_step_is_every_fourth(spec):
    curves = []
    for written in (f"{spec}+every:n=4", f"{spec}+every:n=2+every:n=2"):
        made = cohort(Three(), [Member(written, 1)], SETTINGS)
        made.advance(1000)
        curves.append(made.results()[0].history["weights"])
    close(curves[1], curves[0], 1e-9)


def test_parts_that_hold_their_weights_do_not_hold_those_of_others():
    benchmark, member = Three(), Member("[uncertainty:lr=0.1+[mgda+every:n=2]]+every:n=3", 1)
    made = cohort(benchmark, [member], SETTINGS)
    made.advance(1000)
    (result,) = made.results()
    assert_is_the_single_run(result, benchmark, benchmark.load(), member, SETTINGS, 1e-9)
    changes = [step for step in range(1, 14) if result.history["weights"][step] != result.history["weights"][step - 1]]
    assert changes == [3, 6, 9, 12]  # at steps 3 and 9 by uncertainty alone


@pytest.mark.parametrize("spec", ["sdmgrad+auto-lambda", "modo+auxilearn", "[modo+every:n=2]+moml"])
def test_a_lookahead_goes_by_weights_that_other_training_batches_decide(spec):
    benchmark, member = Three(), Member(spec, 1)
    made = cohort(benchmark, [member], SETTINGS)
    made.advance(1000)
    assert_is_the_single_run(made.results()[0], benchmark, benchmark.load(), member, SETTINGS, 1e-9)


def test_a_member_whose_new_length_is_reached_makes_no_further_step():
    members = [Member("equal", seed, {"steps": 12}) for seed in range(2)]
    made = cohort(Three(), members, SETTINGS)
    made.advance(8)
    made.replace({0: Member("equal", 0, {"steps": 5})})
    made.advance(1000)
    assert [result.cost["steps"] for result in made.results()] == [8, 12]
