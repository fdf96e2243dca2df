"""Mixed precision of the trainer: where it is in force, and that it is the same in a population and after a resume."""

import dataclasses
import io

import pytest
import torch
from torch import nn

from mtl.models import HardSharing
from mtl.train import Cohort, Member, Settings, train
from tests.population.problem import close
from tests.tiny import Tiny

STRATEGIES = ["equal", "uncertainty", "mgda", "famo"]
SETTINGS = Settings(steps=24, lr=1e-2, batch_size=32, amp="bf16")


class Seen(Tiny):
    """Batch normalisation and dropout; what type the trunk gives is written down, by whether it trains."""

    name = "seen"

    def __init__(self) -> None:
        self.types: dict[bool, set[torch.dtype]] = {True: set(), False: set()}

    def model(self, tasks, inputs):
        layers = [nn.Linear(inputs.shape[1], 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2)]
        trunk = nn.Sequential(*layers, nn.Linear(8, 8, bias=False))
        model = HardSharing(trunk, {task.name: nn.Linear(8, task.outputs) for task in tasks})
        trunk[-1].register_forward_hook(lambda layer, _, out: self.types[layer.training].add(out.dtype))
        return model


def cohort(strategy, benchmark=None, settings=SETTINGS, **options):
    benchmark = benchmark or Seen()
    return Cohort(benchmark, benchmark.load(), [Member(strategy, 1), Member(strategy, 2)], settings, **options)


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("strategy", [*STRATEGIES, "auto-lambda", "sdmgrad"])
def test_training_goes_forward_in_bfloat16_and_evaluations_do_not(strategy, vectorised):
    told, benchmark = [], Seen()
    made = cohort(strategy, benchmark, vectorised=vectorised, tell=told.append)
    made.advance(3)
    made.evaluate()
    assert benchmark.types == {True: {torch.bfloat16}, False: {torch.float32}} and not told
    assert all(value.dtype != torch.bfloat16 for value in made.weights(0).values())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_member_is_the_single_run_to_the_precision_of_the_type(strategy):
    """`vmap` adds a bias after the product was rounded, and in float32: 2 ** -8 of a number is the difference."""
    made = cohort(strategy)
    made.advance(SETTINGS.steps)
    for member, found in zip(made.members, made.results(), strict=True):
        alone = train(Seen(), Tiny().load(), member.strategy, SETTINGS, seed=member.seed)
        full = train(Seen(), Tiny().load(), member.strategy, dataclasses.replace(SETTINGS, amp="off"), seed=member.seed)
        close(found.history["train_loss"], alone.history["train_loss"], 0.01)
        assert alone.history["train_loss"] != full.history["train_loss"]


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_saved_cohort_continues_bit_for_bit(strategy, vectorised):
    whole, file = cohort(strategy, vectorised=vectorised), io.BytesIO()
    whole.advance(13)
    torch.save(whole.state_dict(), file)
    file.seek(0)
    resumed = cohort(strategy, vectorised=vectorised)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for one in (whole, resumed):
        one.advance(1000)
    for one, other in zip(whole.results(), resumed.results(), strict=True):
        assert one.metrics == other.metrics and one.history == other.history


class Flat(Tiny):
    """Batch normalisation right after a layer without bias."""

    name = "flat"

    def model(self, tasks, inputs):
        trunk = nn.Sequential(nn.Linear(inputs.shape[1], 8, bias=False), nn.BatchNorm1d(8))
        return HardSharing(trunk, {task.name: nn.Linear(8, task.outputs) for task in tasks})


def test_a_model_that_cannot_be_vectorised_in_bfloat16_is_trained_one_at_a_time_and_that_is_said():
    told = []
    made = cohort("equal", Flat(), tell=told.append)
    made.advance(SETTINGS.steps)
    assert len(told) == 1 and "equal on this model cannot be vectorised" in told[0]
    for member, found in zip(made.members, made.results(), strict=True):
        assert found.metrics == train(Flat(), Tiny().load(), "equal", SETTINGS, seed=member.seed).metrics


def test_it_goes_together_with_micro_batches():
    benchmark = Seen()
    settings = Settings(steps=3, batch_size=32, amp="bf16", accumulate=4)
    found = train(benchmark, Tiny().load(), "famo", settings)
    assert benchmark.types[True] == {torch.bfloat16} and found.status == "done"


def test_other_types_are_refused():
    with pytest.raises(ValueError, match=r"^training: amp='fp8' must be one of off, bf16, fp16$"):
        Settings(amp="fp8")
