"""EPBT: who is kept, who is replaced, whose state and values a child has."""

import math

import numpy as np
import pytest

from mtl.files.lineage import read_events
from mtl.search.methods import MethodOptions, Problem, Report, find_method
from mtl.search.methods.epbt import crossed
from mtl.search.space import Space
from mtl.search.space.dimension import Condition, Dimension
from mtl.search.space.parameters import Choice, Number, Simplex

SPACE = Space({"x": Dimension(Number(-2.0, 2.0)), "y": Dimension(Number(1e-4, 1.0, log=True))})
PULSE = 30  # steps of an interval of 10 after which novelty chooses


def reports(points, step=10, scores=None):
    scores = scores or [-number for number in range(len(points))]
    return [
        Report(number, step, {"x": x, "y": 0.01}, (float(score),), finished=False)
        for number, (x, score) in enumerate(zip(points, scores, strict=True))
    ]


def decide(given, members=None, **options):
    problem = Problem(SPACE, 100, 10, 0)
    method = find_method("epbt")(problem, MethodOptions(members=members or len(given), **options))
    return {exploit.target: exploit for exploit in method.decide(given).exploits}


def kept(given, **options):
    return {report.trial for report in given} - decide(given, **options).keys()


def test_the_best_quarter_goes_on_as_it_is_and_the_others_become_children_of_sound_runs():
    given = reports(np.linspace(-2, 2, 16), scores=[*range(15), -math.inf])
    found = decide(given)
    assert kept(given) == {11, 12, 13, 14} and 15 not in {exploit.source for exploit in found.values()}
    sources = [exploit.source for exploit in found.values()]
    assert np.mean(sources) > 10.5  # of three drawn the best, and of two parents the better one: 12.2 on average
    for exploit in found.values():
        assert -2 <= exploit.values["x"] <= 2 and 1e-4 <= exploit.values["y"] <= 1


def test_in_every_third_generation_novel_runs_are_kept():
    points = [0.0, 0.01, 0.02, 0.03, 1.0, 1.9, -1.9, 0.04, *np.linspace(-2, 2, 8)]
    assert kept(reports(points, step=20)) == {0, 1, 2, 3} == kept(reports(points, step=40))
    assert kept(reports(points, step=PULSE)) == {0, 4, 5, 6}  # the best, and of the better half those far from others
    assert kept(reports([0.5] * 16, step=PULSE)) == {0, 1, 2, 3}


def test_during_the_burn_in_only_runs_that_broke_are_replaced():
    given = reports([0.1, 0.2, 0.3, 0.4], scores=[3, -math.inf, 1, 0])
    assert kept(given, burn_in=20) == {0, 2, 3} and kept(given, burn_in=10) == {0}
    assert decide(reports([0.1, 0.2], scores=[-math.inf] * 2)) == {}


def test_a_childs_values_come_from_both_parents_or_are_mutated():
    space = Space(
        {
            **{f"x{number}": Dimension(Number(0.0, 1.0)) for number in range(400)},
            "name": Dimension(Choice(("a", "b"))),
            "own": Dimension(Number(0.0, 1.0), Condition("name", frozenset({"b"}))),
        }
    )
    first = {f"x{number}": 0.25 for number in range(400)} | {"name": "a"}
    second = {f"x{number}": 0.75 for number in range(400)} | {"name": "b", "own": 0.5}
    child = crossed(space, first, second, np.random.default_rng(0))
    values = np.array([child[f"x{number}"] for number in range(400)])
    moved = ~np.isin(values, [0.25, 0.75])
    assert 0.2 < moved.mean() < 0.4 and 0.4 < (values[~moved] == 0.25).mean() < 0.6
    away = np.minimum(abs(values - 0.25), abs(values - 0.75))[moved]
    assert 0.06 < away.std() + away.mean() < 0.2
    names = {crossed(space, first, second, np.random.default_rng(seed))["name"] for seed in range(20)}
    assert names == {"a", "b"}
    for seed in range(20):
        made = crossed(space, first, second, np.random.default_rng(seed))
        assert ("own" in made) == (made["name"] == "b")


@pytest.mark.parametrize(
    ("parameter", "value"),
    [
        (Number(1e-4, 1.0, log=True), 0.9),
        (Number(-1.0, 1.0), 0.0),
        (Number(1, 5, integer=True), 1),
        (Choice(("a", "b", "c")), "b"),
        (Simplex(3), (0.2, 0.3, 0.5)),
    ],
)
def test_mutations_stay_inside_and_places_are_at_most_one_apart(parameter, value):
    rng = np.random.default_rng(0)
    found = [parameter.mutated(value, rng, 0.2) for _ in range(200)]
    assert len(set(found)) > 1
    places = np.array([parameter.place(each) for each in found])
    apart = np.abs(places[:, None] - places).sum(-1)
    assert 0 < apart.max() <= 1 + 1e-9 and np.isfinite(places).all()
    for each in found:
        if isinstance(parameter, Number):
            assert parameter.low <= each <= parameter.high and isinstance(each, type(value))
        elif isinstance(parameter, Simplex):
            assert sum(each) == pytest.approx(1)
        else:
            assert each in parameter.choices


def test_a_value_of_zero_leaves_zero_and_changes_sign():
    """What factors of 0.8 and 1.2 cannot do, and coefficients need."""
    rng = np.random.default_rng(1)
    signs = {math.copysign(1, Number(-5.0, 5.0).mutated(0.0, rng, 0.1)) for _ in range(20)}
    assert signs == {-1.0, 1.0}


def test_the_search_improves_on_what_it_began_with(toy_search):
    search, records, directory = toy_search("epbt", members=12, ranges=["lr=1e-3:0.4:log", "strategy=equal"])
    exploits = [event for event in read_events(directory.schedule_path) if event.source is not None]
    assert len(exploits) == 9 * 5 == search.totals.exploits
    first = [event.after["lr"] for event in read_events(directory.schedule_path) if event.source is None]
    last = [record["hyperparameters"]["lr"] for record in records]
    assert np.median(last) > 2 * np.median(first)  # the larger rate descends faster
