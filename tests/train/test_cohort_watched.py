"""Who watches a cohort is told of every point of every member's curves."""

import pytest

from mtl.train import Cohort, Member, Settings
from tests.tiny import Tiny

MEMBERS = [Member("equal", 0, {"lr": 0.0}), Member("famo", 1), Member("famo", 2, {"lr": 0.0})]


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("told", [True, False])
def test_all_points_are_told_of_although_some_members_stop_early(vectorised, told):
    points = []
    settings = Settings.of(Tiny.recipe, {"steps": 48, "patience": 2})
    watch = lambda number, step, values: points.append((number, step, values))  # noqa: E731
    cohort = Cohort(Tiny(), Tiny().load(), MEMBERS, settings, told=told, observe=watch, vectorised=vectorised)
    for _ in range(4):
        cohort.advance(12)
        if told:
            cohort.evaluate()
    steps = [state.step for state in cohort.states]
    assert steps == ([48] * 3 if told else [24, 48, 24])
    for number, result in enumerate(cohort.results()):
        trained = [(step, values) for who, step, values in points if who == number and "weight/sign" in values]
        judged = [(step, values) for who, step, values in points if who == number and "validation/selection" in values]
        assert [step for step, _ in trained] == result.history["step"]
        assert [values["weight/sign"] for _, values in trained] == [row[0] for row in result.history["weights"]]
        assert [step for step, _ in judged] == result.history["eval_step"]
        assert [values["validation/selection"] for _, values in judged] == result.history["validation_selection"]


def test_numbers_are_those_after_some_members_were_dropped():
    points = set()
    cohort = Cohort(Tiny(), Tiny().load(), MEMBERS, Settings(steps=9), observe=lambda number, *_: points.add(number))
    cohort.keep([2])
    cohort.advance(9)
    assert points == {0}


def test_a_state_of_another_version_is_told():
    cohort = Cohort(Tiny(), Tiny().load(), MEMBERS, Settings(steps=9))
    with pytest.raises(ValueError, match="saved by another version"):
        cohort.load_state_dict({"members": [], "parts": []})
