"""How a time is written and spent."""

import pytest

from mtl.auto.clock import Clock, read_time, shown
from mtl.auto.parts import PARTS, part_of, read_parts
from mtl.auto.plan import FINALS, PAGE, RACE, Speed, make_plan, measure_speed
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


def plan_of(limit, *, step=1e-3, evaluation=0.0, recipe=1000, seeds=5, finalists=3, elapsed=0.0):
    speed = Speed(step, evaluation)
    return make_plan(limit, elapsed, recipe, speed, finalists=finalists, seeds=seeds, members=None)


def test_with_time_enough_runs_have_the_length_of_the_recipe_and_all_their_seeds():
    plan = plan_of(600)
    assert (plan.length, plan.seeds) == (1000, 5)
    assert plan.race_until > RACE * 600, "what the finals do not need goes to the race"
    assert plan.race_until < plan.finals_until <= plan.path_until == (1 - PAGE) * 600


def test_seeds_are_dropped_before_steps():
    long, less, short = plan_of(150), plan_of(120), plan_of(30)
    assert (long.seeds, long.length) == (5, 1000)
    assert less.seeds == 4 and less.length == 1000
    assert (short.seeds, short.finalists, less.finalists) == (4, 2, 3) and short.length < 1000


@pytest.mark.parametrize("limit", [20, 60, 300, 3600])
@pytest.mark.parametrize("evaluation", [0.0, 0.02])
def test_finals_fit_into_their_share_and_the_race_is_worth_its_runs(limit, evaluation):
    plan = plan_of(limit, evaluation=evaluation)
    run = Speed(plan.step, plan.evaluation).run(plan.length, 20)
    if plan.length > 27:
        assert (plan.finalists + 1) * plan.seeds * run <= FINALS * limit
        assert 16 * run <= RACE * limit
    assert plan.race_until >= RACE * limit
    assert plan.interval * plan.rungs <= plan.length or plan.length == 27


def test_where_evaluations_are_dear_there_are_fewer_of_them():
    cheap, dear = plan_of(600), plan_of(600, evaluation=0.5)
    assert (cheap.rungs, dear.rungs) == (27, 9) and cheap.members > dear.members
    assert plan_of(600, evaluation=0.5).interval * 9 <= dear.length


def test_time_that_is_added_later_goes_to_the_race():
    plan = plan_of(60)
    longer = plan.within(100)
    assert plan.within(60) == plan and longer.length == plan.length
    assert longer.race_until - plan.race_until == pytest.approx(38) and longer.path_until == pytest.approx(95)


def test_a_run_too_slow_for_its_time_has_the_fewest_steps_that_can_be_compared():
    plan = plan_of(1, step=1.0)
    assert (plan.length, plan.seeds, plan.interval) == (27, 4, 1)


def test_the_decisions_are_said():
    said = " ".join(plan_of(30).words(30))
    assert "in place of the recipe's 1000" in said and "2 finalists and the default" in said


class Counted:
    """A cohort that counts its steps."""

    def __init__(self, members):
        self.members, self.steps, self.evaluations = members, 0, 0

    def advance(self, steps, _should_stop):
        self.steps += steps

    def evaluate(self):
        self.evaluations += 1


def test_the_speed_is_that_of_one_run_beside_others():
    speed = measure_speed(Counted, [None] * 4, limit=10.0, now=Ticking(0.05))
    assert speed.step == pytest.approx(0.05 / 4 / 4) and speed.evaluation == pytest.approx(0.05 / 4)


def test_a_burst_of_other_work_does_not_count():
    class Busy(Ticking):
        def __call__(self):
            self.at += 5.0 if 1.0 < self.at < 1.1 else 0.0
            return super().__call__()

    calm = measure_speed(Counted, [None] * 4, limit=400.0, now=Ticking(0.05))
    assert measure_speed(Counted, [None] * 4, limit=400.0, now=Busy(0.05)) == pytest.approx(calm)


def test_every_dimension_belongs_to_a_part():
    names = ["loss.age", "loss.age.delta", "strategy", "strategy.famo.lr", "lr", "clip", "model", "noise", "schedule"]
    assert {part_of(name) for name in names} == {*PARTS}
    assert read_parts(None) == PARTS and read_parts("weights, losses") == ("losses", "weights")


def test_an_unknown_part_is_refused_with_what_may_have_been_meant():
    with pytest.raises(ValueError, match=r"--only loses: 'loses' is none of losses, .* did you mean losses"):
        read_parts("loses")
