"""Parameters divided among processes, as FSDP2 makes them: strategies that read losses work, others refuse in words."""

import pytest
import torch
import torch.distributed as dist
from torch import nn

import mtl

pytest.importorskip("torch.distributed.fsdp")
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard


@pytest.fixture(scope="module")
def mesh():
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield init_device_mesh("cpu", (1,))
    dist.destroy_process_group()


def make(mesh):
    torch.manual_seed(0)
    trunk, heads = nn.Sequential(nn.Linear(4, 8), nn.Tanh()), nn.ModuleList(nn.Linear(8, 1) for _ in range(2))
    model = nn.ModuleDict({"trunk": trunk, "heads": heads})
    if mesh is not None:
        fully_shard(trunk, mesh=mesh)
    return model


def losses(model):
    x = torch.linspace(-1, 1, 20).view(5, 4)
    features = model["trunk"](x)
    return {f"t{k}": (head(features) - k).square().mean() for k, head in enumerate(model["heads"])}


@pytest.mark.parametrize("spec", ["uncertainty:lr=0.1", "dwa", "famo"])
def test_a_strategy_that_reads_losses_moves_sharded_parameters_as_whole_ones(spec, mesh):
    found = []
    for where in (None, mesh):
        model = make(where)
        balancer = mtl.Balancer(spec, model["trunk"], tasks=["t0", "t1"], steps_per_epoch=1)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(4):
            optimizer.zero_grad()
            given = losses(model)
            if step == 2:
                del given["t0"]
            balancer.backward(given, recompute=lambda model=model: losses(model))
            optimizer.step()
        whole = [p.full_tensor() if hasattr(p, "full_tensor") else p for p in model["trunk"].parameters()]
        found.append(([p.detach().clone() for p in whole], balancer.weights))
    for one, other in zip(found[0][0], found[1][0], strict=True):
        torch.testing.assert_close(other, one)
    torch.testing.assert_close(found[1][1], found[0][1])


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("mgda", {}, r"divided among processes \(FSDP2\), and mgda compares whole gradients on them"),
        ("graddrop", {}, "graddrop compares whole gradients"),
        ("dwa", {"head_weighting": "own"}, "allows no backward pass for the heads alone"),
    ],
)
def test_what_needs_whole_gradients_refuses(spec, options, message, mesh):
    with pytest.raises(ValueError, match=message):
        mtl.Balancer(spec, make(mesh)["trunk"], **options)
