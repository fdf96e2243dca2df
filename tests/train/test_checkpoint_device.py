"""What a balancer holds between steps is its own: on the device of its parameters, and shared with nobody."""

import copy

import pytest
import torch
from torch import nn

import mtl
from mtl.population import Population
from mtl.strategies import REGISTRY
from tests.problems import TwoLayers

SPECS = ["famo", "dwa", "gradnorm", "moco", "graddrop", "uncertainty+mgda"]


def stepped(model, balancer, steps=2):
    for _ in range(steps):
        read = model.losses
        weights = balancer.backward(read(), recompute=read, validation=read, fresh=read, lookahead_lr=0.01)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter -= 0.05 * parameter.grad
                parameter.grad = None
    return weights


def devices(balancer):
    saved = balancer.state_dict()
    held = [*saved["state"], saved["weights"], balancer.weights]
    return {leaf.device.type for leaf in held + [saved["after"]] * (saved["after"] is not None)}


@pytest.mark.parametrize("spec", SPECS)
def test_a_loaded_state_is_on_the_device_of_the_parameters(spec):
    model = TwoLayers()
    balancer = mtl.Balancer(spec, model.trunk.parameters(), steps_per_epoch=2)
    stepped(model, balancer)
    elsewhere = mtl.Balancer(spec, nn.Linear(5, 8, device="meta").parameters(), steps_per_epoch=2)
    elsewhere.load_state_dict(balancer.state_dict())
    assert devices(elsewhere) == {"meta"}


@pytest.mark.gpu
@pytest.mark.parametrize("spec", SPECS)
def test_a_checkpoint_read_to_the_host_goes_on_where_it_was(spec, tmp_path):
    def make():
        model = TwoLayers(dtype=torch.float64).cuda()
        model.x, model.y = model.x.cuda(), model.y.cuda()
        return model, mtl.Balancer(spec, model.trunk.parameters(), steps_per_epoch=2)

    model, balancer = make()
    stepped(model, balancer)
    torch.save((model.state_dict(), balancer.state_dict()), tmp_path / "state.pt")
    other, again = make()
    parameters, state = torch.load(tmp_path / "state.pt", map_location="cpu", weights_only=True)
    other.load_state_dict(parameters)
    again.load_state_dict(state)
    assert devices(again) == {"cuda"}
    torch.testing.assert_close(stepped(other, again), stepped(model, balancer), rtol=0, atol=0)


@pytest.mark.parametrize("scale", ["raw", "sum_to_k"])
@pytest.mark.parametrize("spec", REGISTRY)
def test_what_a_caller_changes_in_place_changes_no_state(spec, scale):
    results = []
    for meddle in (False, True):
        model = TwoLayers()
        balancer = mtl.Balancer(spec, model.trunk.parameters(), scale=scale, steps_per_epoch=1)
        for _ in range(3):
            losses = model.losses()
            read = model.losses
            weights = balancer.backward(losses, recompute=read, validation=read, fresh=read, lookahead_lr=0.01)
            if meddle:
                for tensor in (weights, losses.detach(), balancer.weights):
                    tensor.fill_(7)
        model.zero_grad()
        held = balancer.backward(
            torch.stack([loss * (torch.nan if k == 1 else 1) for k, loss in enumerate(losses_of(model))])
        )
        results.append((held, balancer.state_dict()["state"]))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0, equal_nan=True)


def losses_of(model):
    return model.losses().unbind()


def test_a_loaded_state_is_not_the_one_it_was_loaded_from():
    model = TwoLayers()
    balancer = mtl.Balancer("famo", model.trunk.parameters(), tasks=["a", "b", "c"])
    read = lambda: dict(zip("abc", model.losses(), strict=True))  # noqa: E731
    balancer.backward(read(), recompute=read)
    saved = balancer.state_dict()
    kept = copy.deepcopy(saved)
    again = mtl.Balancer("famo", model.trunk.parameters())
    again.load_state_dict(saved)
    for leaf in (*saved["state"], saved["weights"], saved["after"]):
        leaf.fill_(7)
    saved["tasks"].clear()
    torch.testing.assert_close(again.state_dict()["state"], kept["state"], rtol=0, atol=0)
    assert torch.equal(again.weights, kept["weights"])
    assert again.tasks == balancer.tasks == ["a", "b", "c"]


def test_a_population_that_has_begun_loads_whatever_it_was_about_to_read():
    def members():
        return Population(
            lambda: nn.Linear(3, 2),
            lambda model, x: model(x).square().mean(0),
            "famo",
            (1, 2),
            shared=nn.Module.parameters,
        )

    batch = torch.ones(2, 4, 3)
    first, second = members(), members()
    for population, steps in ((first, 3), (second, 2)):
        for _ in range(steps):
            population.step(batch * steps)
    second.load_state_dict(first.state_dict())
    for population in (first, second):
        population.step(batch)
    torch.testing.assert_close(second.state_dict()["parameters"], first.state_dict()["parameters"], rtol=0, atol=0)
    assert second.state_dict()["counts"] == first.state_dict()["counts"]
