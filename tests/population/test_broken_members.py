"""Members whose gradients or measured signals are not finite, against the balancer in the same loop."""

import pytest
import torch
from torch import nn

import mtl
from mtl.population import Population

SEEDS = (3, 4, 5)
STEPS, BROKEN = 6, 3


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(5, 8), nn.Tanh())
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(3))

    def shared_parameters(self):
        return self.trunk.parameters()


def losses(model, batch):
    features = model.trunk(batch["x"])
    each = {
        str(k): (k + 1) * (head(features)[:, 0] - batch["y"][:, k]).square().mean()
        for k, head in enumerate(model.heads)
    }
    # The root of zero has no finite gradient; of one, none at all.
    each["1"] = each["1"] + ((model.trunk[0].weight[0, 0] * 0).abs() + 1 - batch["root"]).sqrt()
    each["2"] = each["2"] * batch["factor"]
    return each


def batch_of(seed, step, stream=0, fault=None):
    generator = torch.Generator().manual_seed(1000 * seed + 10 * step + stream)
    x, y = torch.randn(16, 5, generator=generator), torch.randn(16, 3, generator=generator)
    batch = {"x": x, "y": y, "root": torch.zeros(()), "factor": torch.ones(())}
    if step == BROKEN and seed == SEEDS[1]:
        if fault == "root":
            batch["root"] = torch.ones(())
        elif fault == "overflow":  # each number of the gradient is finite, the sum of their squares is not
            batch["factor"] = torch.full((), 1e200)
        elif fault == "missing":  # and of the tasks that are there, one has no finite gradient
            batch["root"], batch["factor"] = torch.ones(()), torch.full((), torch.nan)
    return batch


def batches(step, stream=0, fault=None):
    each = [batch_of(seed, step, stream, fault) for seed in SEEDS]
    return {name: torch.stack([batch[name] for batch in each]) for name in each[0]}


def single(spec, seed, head_weighting, fault, further):
    torch.manual_seed(seed)
    model = Network()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    balancer = mtl.Balancer(spec, model.trunk, seed=seed, head_weighting=head_weighting)
    for step in range(STEPS):
        optimizer.zero_grad()
        balancer.backward(
            losses(model, batch_of(seed, step, 0, fault)),
            validation=lambda step=step: losses(model, batch_of(seed, step, 1, further)),
            fresh=lambda step=step: losses(model, batch_of(seed, step, 2, further)),
            lookahead_lr=0.01,
        )
        optimizer.step()
    return model.state_dict(), balancer


def assert_each_is_the_single_run(spec, head_weighting="weighted", fault=None, further=None):
    population = Population(Network, losses, spec, SEEDS, lr=0.01, head_weighting=head_weighting)
    for step in range(STEPS):
        population.step(
            batches(step, 0, fault),
            validation=lambda step=step: batches(step, 1, further),
            fresh=lambda step=step: batches(step, 2, further),
        )
    for member, seed in enumerate(SEEDS):
        wanted, balancer = single(spec, seed, head_weighting, fault, further)
        torch.testing.assert_close(population.state_dict_of(member), wanted, atol=1e-8, rtol=0)
        counted = {kind: int(population.counts[kind][member]) for kind in population.counts if kind in KINDS}
        assert {kind: number for kind, number in counted.items() if number} == balancer.skipped
    return {kind: population.counts[kind].tolist() for kind in KINDS}


KINDS = ("nonfinite_loss", "absent_task", "nonfinite_weights", "nonfinite_gradient", "nonfinite_signal")


@pytest.mark.parametrize("head_weighting", ["weighted", "own"])
@pytest.mark.parametrize("fault", ["root", "overflow", "missing"])
@pytest.mark.parametrize("spec", ["gradnorm", "config", "aligned", "graddrop", "moco", "auto-lambda"])
def test_a_member_without_finite_gradients_is_the_balancer_in_the_same_loop(spec, fault, head_weighting):
    """Solvers that raise for a NaN (config, aligned) do not stop the other members."""
    counts = assert_each_is_the_single_run(spec, head_weighting, fault)
    assert counts["nonfinite_gradient"] == [0, 1, 0]
    assert counts["nonfinite_loss"] == [0, int(fault == "missing"), 0]


@pytest.mark.parametrize("spec", ["auto-lambda", "auxilearn", "modo"])
def test_measured_signals_that_are_not_finite_are_counted(spec):
    counts = assert_each_is_the_single_run(spec, further="root")
    assert counts == {**{kind: [0, 0, 0] for kind in KINDS}, "nonfinite_signal": [0, 1, 0]}
