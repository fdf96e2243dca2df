"""Steps taken inside `torch.autocast`: what is ours runs without it, forward passes of the caller's run under it."""

import contextlib

import pytest
import torch
from torch import nn

import mtl
from mtl.population import Population
from mtl.strategies import REGISTRY

CASTING = lambda: torch.autocast("cpu", torch.bfloat16)  # noqa: E731


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(12, 16), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(16, 1) for _ in range(3))
        self.seen = []

    def shared_parameters(self):
        return self.trunk.parameters()

    def losses(self, x, y):
        features = self.trunk(x)
        self.seen.append(features.dtype)
        return torch.stack(
            [(head(features)[:, 0].float() - y[:, k]).square().mean() for k, head in enumerate(self.heads)]
        )


def data(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(16, 12, generator=generator), 3 * torch.randn(16, 3, generator=generator)


def trained(spec, *, inside, steps=3):
    """A training loop whose forward passes are cast, with `backward` inside autocast or not."""
    torch.manual_seed(0)
    model = Network()
    balancer = mtl.Balancer(spec, model.shared_parameters(), steps_per_epoch=2)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    around = CASTING if inside else contextlib.nullcontext

    def read(seed):
        def losses():
            with contextlib.nullcontext() if inside else CASTING():
                return model.losses(*data(seed))

        return losses

    for step in range(steps):
        optimizer.zero_grad()
        with CASTING():
            losses = model.losses(*data(step))
        closures = {"recompute": read(step), "validation": read(step + 50), "fresh": read(step + 90)}
        with around():
            weights = balancer.backward(losses, **closures, lookahead_lr=0.05)
        optimizer.step()
    return weights, balancer.state_dict(), [parameter.detach() for parameter in model.parameters()], model.seen


@pytest.mark.parametrize("spec", REGISTRY)
def test_a_step_inside_autocast_is_that_outside_bit_for_bit(spec):
    inside, outside = (trained(spec, inside=inside) for inside in (True, False))
    assert torch.equal(inside[0], outside[0])
    for got, expected in zip(inside[1]["state"], outside[1]["state"], strict=True):
        torch.testing.assert_close(got, expected, rtol=0, atol=0, equal_nan=True)
    assert all(map(torch.equal, inside[2], outside[2]))


@pytest.mark.parametrize("spec", ["famo", "auto-lambda", "sdmgrad"])
def test_closures_run_under_the_autocast_of_their_call(spec):
    seen = trained(spec, inside=True)[3]
    assert len(seen) > 3
    assert set(seen) == {torch.bfloat16}


def test_a_lookahead_is_not_read_with_weights_cast_before_it():
    torch.manual_seed(0)
    model = Network()
    x, y = data()
    read = []
    with CASTING():
        losses = model.losses(x, y)  # autocast now has a copy of each weight

        def validation():
            found = model.losses(x, y)
            read.append(found.detach())
            return found

        balancer = mtl.Balancer("auto-lambda", model.shared_parameters())
        balancer.backward(losses, validation=validation, lookahead_lr=0.5)
    assert (read[0] - losses.detach()).abs().min() > 1e-3


def population(spec, *, inside, steps=4):
    def losses(model, batch):
        x, y = batch
        features = torch.tanh((x[:, :, None] * model.weight).sum(1))  # sums are not cast
        return torch.stack([(features[:, k] - y[:, k]).square().mean() for k in range(3)])

    class Small(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.randn(12, 3))

        def shared_parameters(self):
            return [self.weight]

    members = Population(Small, losses, spec, seeds=(1, 2), optimizer="adam", lr=0.01)

    def batch(seed):
        return tuple(torch.stack(parts) for parts in zip(data(seed), data(seed + 1), strict=True))

    for step in range(steps):
        with CASTING() if inside else contextlib.nullcontext():
            members.step(batch(10 * step), validation=lambda: batch(3), fresh=lambda: batch(4))
    return members.state_dict()


@pytest.mark.parametrize(
    "spec", ["upgrad", "imtl-g", "aligned", "config", "gradnorm", "famo", "auto-lambda", "graddrop"]
)
def test_a_population_inside_autocast_is_that_outside_bit_for_bit(spec):
    inside, outside = (population(spec, inside=inside) for inside in (True, False))
    for name in ("parameters", "weights", "optimizer"):
        torch.testing.assert_close(inside[name], outside[name], rtol=0, atol=0)


@pytest.mark.parametrize("spec", ["famo", "auto-lambda"])
def test_every_forward_pass_of_a_population_is_cast(spec):
    seen = []

    def losses(model, batch):
        seen.append(torch.is_autocast_enabled("cpu"))
        return model.losses(*batch)

    members = Population(Network, losses, spec, seeds=(1, 2), lr=0.01)
    batch = tuple(torch.stack((part, part)) for part in data())
    for _ in range(2):
        with CASTING():
            members.step(batch, validation=lambda: batch)
    members.state_dict()
    assert len(seen) > 3
    assert all(seen)
