"""How a time is written and spent."""

import pytest

from mtl.auto.clock import Clock, read_time, shown
from mtl.auto.parts import PARTS, part_of, read_parts
from mtl.auto.plan import FINALS, MOST_FINALS, PAGE, make_plan, plan_finals
from mtl.auto.speed import Speed
from tests.auto.ticking import Ticking


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("10m", 600), ("1.5h", 5400), (".5m", 30)])
def test_a_time_is_a_number_with_its_unit(text, seconds):
    assert read_time(text) == seconds


@pytest.mark.parametrize("text", ["0", "ten", "10", "0s", "-5m", "10 min", "1e2s", ""])
def test_another_text_is_refused_in_a_line_that_names_it(text):
    with pytest.raises(ValueError, match=r"^--time ") as error:
        read_time(text)
    assert text in str(error.value) and "\n" not in str(error.value)


def test_times_are_shown_as_people_write_them():
    assert [shown(seconds) for seconds in (12.4, 90, 600, 5400)] == ["12 s", "1:30 min", "10:00 min", "1:30 h"]


def test_a_clock_goes_on_with_what_was_spent():
    now = Ticking(1.0)
    clock = Clock(60, spent=20, now=now)
    assert [clock.elapsed, clock.elapsed] == [21, 22]


SPACES = [
    ((), 90),
    (("architecture",), 30),
    (("architecture", "weights"), 3),
    (("architecture", "weights", "losses"), 1),
]


def plan_of(limit, *, speed=None, recipe=1000, seeds=5, finalists=3, elapsed=0.0, spaces=SPACES):
    speed = speed or Speed(1e-3, 1e-3, 0.0)
    return make_plan(limit, elapsed, recipe, speed, spaces, finalists=finalists, seeds=seeds, members=None)


def test_with_time_enough_all_is_decided_in_runs_of_the_recipes_length():
    plan = plan_of(600)
    assert (plan.length, plan.final_length, plan.seeds, plan.finalists, plan.dropped) == (1000, 1000, 5, 3, ())
    assert plan.race_until > 0.65 * 600, "what the finals do not need goes to the race"
    assert plan.race_until < plan.finals_until <= plan.path_until == (1 - PAGE) * 600


def test_seeds_and_finalists_are_dropped_before_steps_of_the_finals():
    speed = Speed(1e-3, 1e-3, 0.0)
    times = (60, 34, 30, 20, 16, 14, 9, 5)
    found = [plan_finals(seconds, 1000, speed, 3, 5) for seconds in times]
    assert [each[:2] for each in found] == [(3, 5), (3, 4), (2, 4), (2, 3), (1, 4), (1, 3), (1, 3), (1, 3)]
    assert [each.length for each in found[:6]] == [1000] * 6
    assert 300 < found[-1].length < found[-2].length < 1000
    assert all(each.seconds <= seconds for each, seconds in zip(found, times, strict=True))


def test_what_a_user_asks_of_the_finals_is_their_most():
    assert plan_finals(100.0, 1000, Speed(1e-3, 1e-3, 0.0), 1, 2)[:3] == (1, 2, 1000)
    assert plan_finals(1e-3, 1000, Speed(1e-3, 1e-3, 0.0), 2, 1)[:3] == (1, 1, 27)


def test_less_is_decided_where_runs_would_be_too_short():
    """With programs that are dear beside their members."""
    speed = Speed(20e-3, 1e-3, 0.0, 1.5)
    plans = [plan_of(limit, speed=speed) for limit in (600, 80, 60, 50)]
    assert [len(plan.dropped) for plan in plans] == [0, 1, 2, 3]
    assert all(plan.length >= 333 for plan in plans)
    said = plan_of(60, speed=speed).words(60)
    assert said[:2] == [
        "The architecture is left as it is: in 1:00 min there is no time to try more.",
        "Of the strategies three are tried at most: in 1:00 min there is no time to try more.",
    ]


def test_then_fewer_runs_are_made_and_only_then_shorter_ones_than_a_fifth():
    speed = Speed(0.0, 20e-3, 0.0)
    plans = [plan_of(limit, speed=speed) for limit in (80, 45, 34, 10)]
    assert [plan.length for plan in plans] == [250, 200, 200, 62] and {len(plan.dropped) for plan in plans} == {3}
    assert [plan.short for plan in plans] == [False, False, False, True]
    assert "only more --time helps" in " ".join(plans[-1].words(10))


@pytest.mark.parametrize("limit", [20, 60, 300, 3600])
@pytest.mark.parametrize("evaluation", [0.0, 0.02])
def test_finals_fit_into_their_share_and_the_race_is_worth_its_runs(limit, evaluation):
    plan = plan_of(limit, speed=Speed(1e-3, 1e-3, evaluation))
    finals = (plan.finalists + 1) * plan.seeds * plan.final_run
    assert finals <= (FINALS if plan.final_length == 1000 and limit > 60 else MOST_FINALS) * limit
    assert 4 * plan.run <= plan.race_until and plan.race_until + finals < plan.path_until
    assert plan.race_until >= 0.499 * limit
    assert plan.interval * 9 <= plan.length


def test_the_race_has_half_of_what_measuring_has_left():
    """On a busy machine measuring may outlast what the race would have had."""
    soon, late, over = (plan_of(60, speed=Speed(5e-3, 5e-3, 0.0), elapsed=elapsed) for elapsed in (1.0, 35.0, 58.0))
    assert soon.race_until == pytest.approx((1 - PAGE - 0.04 - MOST_FINALS) * 60)
    assert late.race_until - 35 == pytest.approx(0.5 * (0.91 * 60 - 35)) and late.final_length < soon.final_length
    assert f"worth about {(late.race_until - 35) / late.run:.0f} whole runs" in late.words(60)[-1]
    assert over.race_until < 58 and over.words(60)[-1].startswith(
        "No time is left for a race: measuring what runs cost took until 58 s of 1:00 min."
    )


def test_the_finals_are_planned_again_at_the_pace_that_the_machine_has_then():
    plan = plan_of(120)
    same, slow = (plan.after_the_race(85.0, 3, 5, Speed(cost, cost, 0.0)) for cost in (1e-3, 2e-2))
    assert (same.final_length, same.seeds, same.finalists) == (1000, 4, 2)
    assert slow.final_length < 1000 and (slow.seeds, slow.finalists) == (3, 1)
    assert slow.finals_until == slow.path_until == plan.path_until
    assert "the recipe's 1000 steps under 4 fresh seeds" in same.words_of_finals()
    assert f"1 finalist and the default are trained for {slow.final_length} of the recipe's 1000 steps" in (
        slow.words_of_finals()
    )


def test_time_that_is_added_later_goes_to_the_race():
    plan = plan_of(60)
    longer = plan.within(100)
    assert plan.within(60) == plan and longer.length == plan.length
    assert longer.race_until - plan.race_until == pytest.approx(38) and longer.path_until == pytest.approx(95)


def test_a_run_too_slow_for_its_time_has_the_fewest_steps_that_can_be_compared():
    plan = plan_of(1, speed=Speed(0.5, 0.5, 0.0))
    assert (plan.length, plan.final_length, plan.seeds, plan.interval) == (27, 27, 3, 3)


def test_every_dimension_belongs_to_a_part():
    names = ["loss.age", "loss.age.delta", "strategy", "strategy.famo.lr", "lr", "clip", "model", "noise", "schedule"]
    assert {part_of(name) for name in names} == {*PARTS}
    assert read_parts(None) == PARTS and read_parts("weights, losses") == ("losses", "weights")


def test_an_unknown_part_is_refused_with_what_may_have_been_meant():
    with pytest.raises(ValueError, match=r"^--only loses: unknown part 'loses': did you mean losses\?$"):
        read_parts("loses")


def test_what_losses_learn_before_training_is_part_of_the_plan_and_said():
    """Each run pays for it, however short it is, and all of the first bracket at once."""
    speed = Speed(1e-3, 1e-3, 0.0, learning=8.0)
    without, plan = plan_of(200), plan_of(200, speed=speed)
    assert plan.members < without.members and plan_of(100, speed=speed).length < plan_of(100).length
    assert plan.members * 8.0 <= plan.race_until / 2
    assert plan.run > 8.0 and plan.final_run > 8.0 and plan.seeds * (plan.finalists + 1) * plan.final_run < 200
    assert "Of each run 8 s are its losses' steps before training." in plan.words(200)
    assert not [line for line in without.words(200) if "before training" in line]
    (line,) = [line for line in plan_of(30, speed=speed).words(30) if "before training" in line]
    assert line.endswith(": it takes more --time or fewer offline_steps.")
