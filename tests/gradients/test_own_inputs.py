"""Tasks whose inputs are their own have no common node in the graph: only the leaves are shared."""

import pytest
import torch
from torch import nn

import mtl

SIZES = (9, 4, 1)


def problem():
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 5))
    heads = nn.ModuleList(nn.Linear(5, 1) for _ in SIZES)
    inputs = [torch.randn(size, 6) + number for number, size in enumerate(SIZES)]
    return trunk, heads, inputs


def losses_of(trunk, heads, inputs):
    each = zip(heads, inputs, strict=True)
    return torch.stack([head(trunk(some)).square().mean() for head, some in each])


@pytest.mark.parametrize("memory_limit", [None, 400])
@pytest.mark.parametrize("strategy", ["mgda", "imtl-g", "cagrad", "upgrad"])
def test_the_update_is_that_of_gradients_got_one_by_one(strategy, memory_limit):
    trunk, heads, inputs = problem()
    shared = list(trunk.parameters())
    rows = torch.stack(
        [
            torch.cat([g.flatten() for g in torch.autograd.grad(loss, shared, retain_graph=True)])
            for loss in losses_of(trunk, heads, inputs)
        ]
    )
    unit = mtl.strategies.make(strategy)
    signals = {"gramian": rows @ rows.T, "losses": losses_of(trunk, heads, inputs).detach()}
    weights, _ = unit(unit.init(signals["losses"]), signals)
    balancer = mtl.Balancer(strategy, shared, num_tasks=len(SIZES), scale="raw", memory_limit=memory_limit)
    applied = balancer.backward(losses_of(trunk, heads, inputs))
    torch.testing.assert_close(applied, weights, atol=1e-4, rtol=1e-4)
    found = torch.cat([parameter.grad.flatten() for parameter in shared])
    torch.testing.assert_close(found, weights @ rows, atol=1e-5, rtol=1e-4)
