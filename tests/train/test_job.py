"""The rules of a run that follow from its settings alone."""

import pytest

from mtl.strategies import make
from mtl.train import Member, Settings
from mtl.train.job import CURVE_POINTS, Job


def job(per_epoch, **settings):
    return Job(Member("equal"), make("equal"), Settings(**settings), (), {}, per_epoch)


@pytest.mark.parametrize("per_epoch", [1, 3, 8])
@pytest.mark.parametrize("steps", [1, 7, 450, 1001])
@pytest.mark.parametrize("evaluate_every", [1, 5])
def test_between_two_points_nothing_is_due_and_after_them_something_is(per_epoch, steps, evaluate_every):
    made = job(per_epoch, steps=steps, evaluate_every=evaluate_every)
    for step in range(steps):
        due = [each for each in range(step, steps) if made.draws(each) or made.evaluates(each + 1)]
        assert step + made.quiet(step) == due[0]


def test_curves_have_points_at_the_beginning_and_so_many_at_most():
    made = job(10, steps=1999)
    points = [step for step in range(1999) if made.draws(step)]
    assert points[0] == 0 and CURVE_POINTS <= len(points) <= 2 * CURVE_POINTS


def test_the_length_is_that_of_the_epochs_unless_steps_are_given():
    assert job(7, epochs=3).length == 21 and job(7, epochs=3, steps=5).length == 5
    assert job(7, epochs=3).evaluates(21) and not job(7, epochs=3).evaluates(20)


def test_patience_counts_evaluations():
    assert [job(7, patience=2).gives_up(since) for since in (0, 1, 2, 3)] == [False, False, True, True]
    assert not job(7).gives_up(1000)
