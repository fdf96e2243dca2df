"""Objectives, the Pareto front and its hypervolume."""

import dataclasses
import math

import pytest

from mtl.search.objective import Objective
from mtl.stats.pareto import hypervolume, pareto_front, worst_corner
from tests.tiny import Tiny

METRICS = {"sign": {"accuracy": 0.75}, "product": {"mae": 0.5, "r2": 0.25}}


def test_scores_are_maximised_and_shown_with_their_own_sign():
    objective = Objective(["selection", "sign", "product/mae"], Tiny())
    scores = objective.scores(METRICS, 0.125)
    assert scores == (0.125, 0.75, -0.5)
    assert objective.natural(scores) == {"selection": 0.125, "sign/accuracy": 0.75, "product/mae": 0.5}
    assert objective.several and not Objective(["sign"], Tiny()).several


def test_delta_m_is_the_mean_gain_over_the_baseline_in_percent():
    objective = Objective(["delta_m"], Tiny())
    objective.baseline = {"sign": {"accuracy": 0.5}, "product": {"mae": 1.0, "r2": 0.5}}
    # sign: +50 %; product: mae halved is +50 %, r2 halved is -50 %, so 0; the mean of both tasks is 25.
    assert objective.scores(METRICS, 0.0) == (25.0,)
    assert objective.scores({**METRICS, "sign": {"accuracy": math.nan}}, 0.0) == (-math.inf,)


def test_what_is_absent_or_not_finite_is_the_worst():
    objective = Objective(["product/mae"], Tiny())
    for mae in (None, math.nan, math.inf):
        scores = objective.scores({"product": {"mae": mae}}, 0.0)
        assert scores == (-math.inf,) and objective.natural(scores) == {"product/mae": None}


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["sgin"], "'sgin': did you mean sign"),
        (["product/mea"], "did you mean product/mae"),
        (["sign", "sign/accuracy"], "each can be given once"),
    ],
)
def test_an_unknown_objective_is_refused(names, message):
    with pytest.raises(ValueError, match=message):
        Objective(names, Tiny())


def test_the_front_and_its_hypervolume_by_hand():
    points = [(1.0, 3.0), (2.0, 2.0), (3.0, 1.0), (1.0, 1.0), (math.nan, 9.0), (-math.inf, 9.0)]
    assert pareto_front(points) == [0, 1, 2]
    # Over (0, 0): columns of width 1 with heights 3, 2 and 1.
    assert hypervolume(points, (0.0, 0.0)) == pytest.approx(6.0)
    assert worst_corner(points) == (1.0, 1.0)
    assert pareto_front([(math.nan,)]) == [] and hypervolume([], (0.0,)) == 0.0 and worst_corner([]) is None


def test_a_task_with_a_slash_in_its_name_can_be_an_objective() -> None:
    class Slashed(Tiny):
        tasks = (dataclasses.replace(Tiny.tasks[0], name="left/sign"), Tiny.tasks[1])

    objective = Objective(["left/sign", "product/mae"], Slashed())
    assert objective.names == ["left/sign/accuracy", "product/mae"]
    assert objective.scores({"left/sign": {"accuracy": 0.5}, "product": {"mae": 0.25}}, 0.0) == (0.5, -0.25)
