"""What runs cost, by a clock that ticks."""

import pytest

from mtl.auto.speed import measure_speed
from tests.auto.ticking import Ticking


class Counted:
    """A cohort whose steps take a time: of its program, and of each of its members."""

    now = Ticking(0.0)

    def __init__(self, members):
        self.cost = sum(members) if len({*members}) > 1 else 0.02 + 0.001 * len(members)
        self.evaluation = 0.01 * len(members)

    def advance(self, steps, _should_stop):
        self.now.at += steps * self.cost

    def evaluate(self):
        self.now.at += self.evaluation


def test_programs_and_their_members_are_told_apart_and_unlike_runs_from_both():
    speed = measure_speed(Counted, 0.5, [0.04, 0.06, 0.026], 3, limit=10.0, now=Counted.now)
    assert speed == pytest.approx((0.02, 0.001, 0.01, 2.0))
    assert speed.step(4) == pytest.approx(2 * 0.006) and speed.alike.step(4) == pytest.approx(0.006)
    assert speed.run(100, 5, 4) == pytest.approx(1.2 + 0.05)


def test_a_burst_of_other_work_does_not_count():
    calm = measure_speed(Counted, 0.5, [0.02, 0.03], 1, limit=400.0, now=Ticking(0.05))

    class Busy(Ticking):
        def __call__(self):
            self.at += 5.0 if 1.0 < self.at < 1.1 else 0.0
            return super().__call__()

    assert measure_speed(Counted, 0.5, [0.02, 0.03], 1, limit=400.0, now=Busy(0.05)) == pytest.approx(calm)
