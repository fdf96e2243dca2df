"""Averages of weights, against their definitions, in a population, after a resume and in moves of a search."""

import io

import pytest
import torch
from torch import nn
from torch.optim import swa_utils

from mtl.train import Cohort, Member, Settings, train
from mtl.train.average import decay
from mtl.train.batches import Batches
from tests.population.problem import Normed, Pictures, Three, assert_is_the_single_run

pytestmark = pytest.mark.usefixtures("float64")

STRATEGIES = ["equal", "uncertainty", "mgda", "famo"]
SETTINGS = Settings(steps=30, lr=1e-2, batch_size=16, ema=0.8)
SWA = Settings(steps=30, lr=1e-2, batch_size=16, swa=0.4)


def cohort(members, settings=SETTINGS, **options):
    return Cohort(Normed(), Three().load(), members, settings, **options)


def kept(made):
    """What is evaluated and kept of each member now, in one row."""
    found = {}
    for group in made._groups.all:
        for row, number in enumerate(group.ids):
            weights = group.stepper.weights(group.stepper.snapshot(row))
            found[number] = torch.cat([value.flatten().double() for value in weights.values()])
    return found


def test_the_decay_rises_to_what_was_asked_for():
    assert [decay(0.5, step) for step in (0, 2, 8, 100)] == [1 / 10, 3 / 12, 0.5, 0.5]


def test_the_average_of_weights_and_running_statistics_is_kept():
    benchmark, splits = Normed(), Three().load()
    found = train(benchmark, splits, "equal", Settings(steps=12, lr=1e-2, batch_size=16, ema=0.7), seed=1)

    torch.manual_seed(1)
    model = benchmark.model(benchmark.tasks, splits.train.inputs).train()
    average = {name: value.clone() for name, value in model.state_dict().items()}
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    batches = Batches(splits.train, 16, 1)
    for step in range(12):
        batch = batches[step]
        optimizer.zero_grad()
        predictions = model(batch.inputs)
        sum(task.loss(predictions[task.name], batch.targets[task.name]) for task in benchmark.tasks).backward()
        optimizer.step()
        stays = min(0.7, (1 + step) / (10 + step))
        average = {name: stays * average[name] + (1 - stays) * value for name, value in model.state_dict().items()}
    for name, value in found.weights.items():
        if name.endswith("num_batches_tracked"):
            assert int(value) == 12
        else:
            torch.testing.assert_close(value, average[name], atol=1e-10, rtol=0)


class NormedAlone(Normed):
    """Batch normalisation without dropout, which torch leaves on where it gathers statistics."""

    def model(self, tasks, inputs):
        model = super().model(tasks, inputs)
        model.trunk[3] = nn.Identity()
        return model


@pytest.mark.parametrize(("swa", "begins"), [(0.5, 6), (0.0, 0), (1.0, 11), (0.8, 9)])
def test_the_mean_of_weights_is_that_of_torch(swa, begins):
    benchmark, splits = NormedAlone(), Three().load()
    found = train(benchmark, splits, "equal", Settings(steps=12, lr=1e-2, batch_size=16, swa=swa), seed=1)

    torch.manual_seed(1)
    model = benchmark.model(benchmark.tasks, splits.train.inputs).train()
    optimizer, batches = torch.optim.Adam(model.parameters(), lr=1e-2), Batches(splits.train, 16, 1)
    averaged = swa_utils.AveragedModel(model)
    for step in range(12):
        batch = batches[step]
        optimizer.zero_grad()
        predictions = model(batch.inputs)
        sum(task.loss(predictions[task.name], batch.targets[task.name]) for task in benchmark.tasks).backward()
        optimizer.step()
        if step >= begins:
            averaged.update_parameters(model)
    if begins == 11:  # the mean is that of the last step alone, whose running statistics are those of training
        averaged.module.load_state_dict(model.state_dict())
    else:
        others = Batches(splits.train, 16, 0, stream=7)
        swa_utils.update_bn([others[number].inputs for number in range(others.per_epoch)], averaged)
    for name, value in averaged.module.state_dict().items():
        torch.testing.assert_close(found.weights[name], value, atol=1e-10, rtol=0)


def test_two_averages_are_refused():
    with pytest.raises(ValueError, match=r"ema=0\.9 and swa=0\.5 are both averages of weights; give one"):
        Settings(ema=0.9, swa=0.5)


def test_statistics_of_convolutions_are_gathered_for_all_members():
    settings = Settings.of(Pictures.recipe, {"swa": 0.3, "model": "conv:channels=2,width=8,batch_norm=true"})
    splits, told = Pictures().load(), []
    made = Cohort(Pictures(), splits, [Member("equal", 1), Member("equal", 2)], settings, tell=told.append)
    made.advance(1000)
    assert not told
    for member, found in zip(made.members, made.results(), strict=True):
        assert_is_the_single_run(found, Pictures(), splits, member, settings)


@pytest.mark.parametrize("settings", [SETTINGS, SWA], ids=["ema", "swa"])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_member_is_the_single_run(strategy, settings):
    told, splits = [], Three().load()
    own = {"ema": 0.5} if settings.swa is None else {"swa": 0.7}
    made = cohort([Member(strategy, 1), Member(strategy, 2, own)], settings, tell=told.append)
    made.advance(settings.steps)
    assert not told and len(made._groups.all) == 1
    for member, found in zip(made.members, made.results(), strict=True):
        assert_is_the_single_run(found, Normed(), splits, member, settings)


def test_the_steps_are_those_without_an_average_and_the_evaluations_are_not():
    splits = Three().load()
    with_one, without = (train(Normed(), splits, "famo", Settings(steps=30, batch_size=16, ema=e)) for e in (0.9, None))
    assert with_one.history["train_loss"] == without.history["train_loss"]
    assert with_one.history["validation_loss"] != without.history["validation_loss"]


@pytest.mark.parametrize("settings", [SETTINGS, SWA], ids=["ema", "swa"])
@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_saved_cohort_continues_bit_for_bit(strategy, vectorised, settings):
    members, file = [Member(strategy, 1), Member(strategy, 2)], io.BytesIO()
    whole = cohort(members, settings, vectorised=vectorised)
    whole.advance(13)
    torch.save(whole.state_dict(), file)
    file.seek(0)
    resumed = cohort(members, settings, vectorised=vectorised)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for one in (whole, resumed):
        one.advance(1000)
    for one, other in zip(whole.results(), resumed.results(), strict=True):
        assert one.metrics == other.metrics and one.history == other.history


@pytest.mark.parametrize("settings", [SETTINGS, SWA], ids=["ema", "swa"])
@pytest.mark.parametrize("vectorised", [True, False])
def test_the_average_moves_with_its_member(vectorised, settings):
    made = cohort([Member("equal", 0), Member("equal", 1), Member("mgda", 2)], settings, vectorised=vectorised)
    made.advance(17)
    before = kept(made)
    made.exploit({1: 0})
    assert torch.equal(kept(made)[1], before[0])
    made.replace({2: Member("equal", 2, {"lr": 0.1})})
    assert torch.equal(kept(made)[2], before[2])
    made.advance(1)
    assert not torch.equal(kept(made)[1], before[0]) and not torch.equal(kept(made)[2], before[2])
