"""Float16 of the trainer: scaled gradients, steps that are left out, and that it is the same after a resume."""

import dataclasses
import io

import pytest
import torch
from torch import nn

from mtl.benchmarks import Task
from mtl.losses import MSE
from mtl.models import HardSharing
from mtl.train import Cohort, Member, Settings, train
from tests.population.problem import close
from tests.tiny import MissingLabels, Tiny

SETTINGS = Settings(steps=20, lr=1e-2, batch_size=32, amp="fp16")
STRATEGIES = ["equal", "mgda", "graddrop", "famo", "auto-lambda"]


class Seen(Tiny):
    """What type the trunk gives is written down, by whether it trains."""

    name = "seen-fp16"

    def __init__(self) -> None:
        self.types: dict[bool, set[torch.dtype]] = {True: set(), False: set()}

    def model(self, tasks, inputs):
        trunk = nn.Sequential(nn.Linear(inputs.shape[1], 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 8))
        trunk[-1].register_forward_hook(lambda layer, _, out: self.types[layer.training].add(out.dtype))
        return HardSharing(trunk, {task.name: nn.Linear(8, task.outputs) for task in tasks})


class Large(Tiny):
    """Targets of a thousand, so that the gradients of the first steps are too large once they are scaled."""

    name = "large"
    tasks = (Tiny.tasks[0], Task("product", MSE(), Tiny.tasks[1].metrics))

    def load(self):
        splits = super().load()
        for split in (splits.train, splits.validation, splits.test):
            split.targets["product"] *= 1000
        return splits


class LargeMissing(MissingLabels):
    """The same, where the first batch alone has every task."""

    name = "large-missing"

    def load(self):
        splits = super().load()
        splits.train.targets["product"][:] *= 3000
        return splits


class Endless(Tiny):
    """A gradient that is never finite, whatever the scale."""

    name = "endless"

    def __init__(self) -> None:
        def loss(prediction, target):
            return (prediction.reshape(-1) - target).square().mean() + (prediction.sum() * 0).sqrt()

        self.tasks = (Tiny.tasks[0], Task("product", loss, Tiny.tasks[1].metrics))


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_training_goes_forward_in_float16_near_the_numbers_of_full_precision(strategy):
    benchmark = Seen()
    found = train(benchmark, benchmark.load(), strategy, SETTINGS)
    full = train(Seen(), benchmark.load(), strategy, dataclasses.replace(SETTINGS, amp="off"))
    assert benchmark.types == {True: {torch.float16}, False: {torch.float32}}
    assert found.status == "done" and not found.skipped
    close(found.history["train_loss"], full.history["train_loss"], 0.02)
    assert found.history["train_loss"] != full.history["train_loss"]


@pytest.mark.parametrize("strategy", ["equal", "mgda", "graddrop"])
def test_steps_that_the_scale_overflows_are_left_out_counted_and_not_held_against_the_run(strategy):
    settings = dataclasses.replace(SETTINGS, nan_limit=1)
    found = train(Large(), Large().load(), strategy, settings)
    assert found.status == "done" and set(found.skipped) == {"fp16_overflow"}
    assert 2 <= found.skipped["fp16_overflow"] < 20


@pytest.mark.parametrize("vectorised", [True, False])
def test_steps_that_the_scale_overflowed_are_not_held_against_a_run_that_goes_on_without_or_again(vectorised):
    settings = dataclasses.replace(SETTINGS, nan_limit=1)
    cohort = Cohort(Large(), Large().load(), [Member("mgda", 0)], settings, tell=str, vectorised=vectorised)
    cohort.advance(8)
    overflows = cohort.results()[0].skipped["fp16_overflow"]
    for amp in ("off", "fp16"):
        cohort.replace({0: Member("mgda", 0, {"amp": amp})})
        cohort.advance(6)
        (result,) = cohort.results()
        assert result.status == "done" and "nonfinite_gradient" not in result.skipped
    assert vectorised or result.skipped["fp16_overflow"] >= overflows > 1


def test_where_labels_are_missing_the_scale_falls_as_well():
    benchmark = LargeMissing()
    settings = Settings(steps=40, batch_size=4, lr=1e-3, amp="fp16", nan_limit=1)
    found = train(benchmark, benchmark.load(), "mgda", settings)
    assert found.status == "done" and set(found.skipped) == {"fp16_overflow", "absent_task"}


def test_a_gradient_that_no_scale_makes_finite_ends_the_run():
    settings = dataclasses.replace(SETTINGS, steps=60, nan_limit=5)
    found = train(Endless(), Endless().load(), "equal", settings)
    assert found.status == "diverged" and found.skipped["fp16_overflow"] == 17  # from 2 ** 16 down to 1
    assert found.skipped["nonfinite_gradient"] > 5


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_run_resumes_to_the_same_numbers_scale_included(strategy):
    settings = dataclasses.replace(SETTINGS, steps=24, clip=1.0)

    def cohort():
        return Cohort(Large(), Large().load(), [Member(strategy, 1)], settings, vectorised=False)

    whole, resumed, file = cohort(), cohort(), io.BytesIO()
    whole.advance(13)
    torch.save(whole.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for one in (whole, resumed):
        one.advance(1000)
    (one,), (other,) = whole.results(), resumed.results()
    assert one.metrics == other.metrics and one.history == other.history and one.skipped == other.skipped


def test_clipping_sees_gradients_without_the_scale():
    """A limit that no gradient reaches changes nothing."""
    high = dataclasses.replace(SETTINGS, clip=1e4)
    found, clipped = (train(Tiny(), Tiny().load(), "equal", settings) for settings in (SETTINGS, high))
    assert found.history == clipped.history


def test_members_are_trained_one_at_a_time_which_is_said():
    told = []
    made = Cohort(Tiny(), Tiny().load(), [Member("equal", 1), Member("equal", 2)], SETTINGS, tell=told.append)
    made.advance(SETTINGS.steps)
    assert told == ["amp=fp16: each run has a scale of its own, and those with equal are trained one at a time"]
    for member, found in zip(made.members, made.results(), strict=True):
        assert found.metrics == train(Tiny(), Tiny().load(), "equal", SETTINGS, seed=member.seed).metrics
