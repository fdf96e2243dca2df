"""Checkpoints by minutes: when they are written, and that neither a run nor its resumption depends on it."""

import itertools

import pytest
import torch

from mtl.train import Cohort, Member, Settings, Stopped, train
from mtl.train.loop import train_to_the_end
from tests.population.problem import Normed, Three

pytestmark = pytest.mark.usefixtures("float64")


def saved_at(minutes, seconds_a_look):
    """The steps after which a run of 50 steps, 20 an epoch, is saved; each look at the clock takes some seconds."""
    settings = Settings(steps=50, batch_size=16, checkpoint_minutes=minutes)
    cohort = Cohort(Three(), Three().load(), [Member("equal")], settings)
    at, seconds = [], itertools.count(0, seconds_a_look)
    train_to_the_end(cohort, lambda: at.append(cohort.step), clock=lambda: float(next(seconds)))
    return at


def test_checkpoints_are_written_at_evaluations_and_where_the_last_is_too_old():
    assert saved_at(None, 100) == [20, 40]
    assert saved_at(100, 1) == [20, 40]
    assert saved_at(2, 10) == [12, 20, 32, 40]
    assert saved_at(0, 1) == list(range(1, 50))


@pytest.mark.parametrize("strategy", ["equal", "uncertainty", "mgda", "famo"])
def test_a_run_that_is_saved_after_each_step_is_the_same_and_resumes_from_the_last(strategy, tmp_path):
    chosen = {"steps": 30, "batch_size": 16, "lr": 1e-2, "accumulate": 2, "ema": 0.9}
    splits, path = Three().load(), tmp_path / "run.pt"
    whole = train(Normed(), splits, strategy, Settings(**chosen), seed=2)

    def dies(step, _length):
        if step == 24:
            raise KeyboardInterrupt

    often = Settings(**chosen, checkpoint_minutes=0)
    with pytest.raises(KeyboardInterrupt):
        train(Normed(), splits, strategy, often, seed=2, checkpoint_path=path, progress=dies)
    begun = []
    resumed = train(
        Normed(), splits, strategy, often, seed=2, checkpoint_path=path, progress=lambda step, _: begun.append(step)
    )
    assert begun[0] == 24  # the step that was not saved is made again
    assert resumed.metrics == whole.metrics and resumed.history == whole.history
    assert all(torch.equal(value, whole.weights[name]) for name, value in resumed.weights.items())


def test_a_stop_still_writes_a_checkpoint(tmp_path):
    settings = Settings(steps=30, batch_size=16, checkpoint_minutes=60)
    with pytest.raises(Stopped):
        train(Three(), Three().load(), "equal", settings, checkpoint_path=tmp_path / "run.pt", should_stop=lambda: True)
    assert (tmp_path / "run.pt").is_file()
