"""What runs cost, by a clock that ticks."""

import pytest

from mtl.auto.speed import measure_alone, measure_speed
from mtl.benchmarks import load_checked
from mtl.train import Cohort, Member, Settings
from tests.auto.ticking import Ticking
from tests.tiny import Tiny


class Counted:
    """A cohort whose steps take a time: of its program, and of each of its members."""

    now, waiting = Ticking(0.0), 0

    def __init__(self, members):
        self.cost = sum(members) if len({*members}) > 1 else 0.02 + 0.001 * len(members)
        self.evaluation = 0.01 * len(members)

    def try_steps(self, steps):
        self.now.at += steps * self.cost

    def evaluate(self):
        self.now.at += self.evaluation


def measured(unlike, programs, limit, now):
    alone = measure_alone(Counted([0.5]), limit, now)
    return measure_speed(Counted, alone, 0.5, unlike, programs, limit, now)


def test_programs_and_their_members_are_told_apart_and_unlike_runs_from_both():
    speed = measured([0.04, 0.06, 0.026], 3, 10.0, Counted.now)
    assert speed == pytest.approx((0.02, 0.001, 0.01, 2.0, 0.0))
    assert speed.step(4) == pytest.approx(2 * 0.006) and speed.alike.step(4) == pytest.approx(0.006)
    assert speed.run(100, 5, 4) == pytest.approx(1.2 + 0.05)


def test_a_burst_of_other_work_does_not_count():
    calm = measured([0.02, 0.03], 1, 400.0, Ticking(0.05))

    class Busy(Ticking):
        def __call__(self):
            self.at += 5.0 if 1.0 < self.at < 1.1 else 0.0
            return super().__call__()

    assert measured([0.02, 0.03], 1, 400.0, Busy(0.05)) == pytest.approx(calm)


def test_losses_that_learn_before_training_are_not_learned_to_measure_and_count_all_the_same():
    built = []

    class Building(Tiny):
        def model(self, tasks, inputs):
            built.append(now.at)
            now.at += 0.01  # each of their steps makes a model
            return super().model(tasks, inputs)

    now, benchmark = Ticking(0.0), Building()
    splits, settings = load_checked(benchmark), Settings.of(benchmark.recipe, {"steps": 9})
    spec = "learned:hidden=4,start=random,offline_steps=500"
    member = Member("equal", 0, losses={"sign": {"name": spec}})

    def make(members):
        return Cohort(benchmark, splits, members, settings, told=True)

    alone = measure_alone(make([member]), 0.01, now)
    speed = measure_speed(make, alone, member, [member, Member("mgda", 0)], 2, 0.01, now)
    assert speed.learning == pytest.approx(500 * 0.01)
    assert speed.run(100, 5, 4) >= 5.0 and len(built) < 30
    assert make([member]).waiting == 500 and make([Member("equal", 0)]).waiting == 0
