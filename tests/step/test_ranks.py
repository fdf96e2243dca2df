"""Two processes with half a batch each take the steps of one process with the whole batch."""

import datetime
import os

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

import mtl

DOUBLE = torch.float64


def model():
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(6, 30), nn.Tanh(), nn.Linear(30, 30), nn.Tanh()).to(DOUBLE)
    heads = nn.ModuleList(nn.Linear(30, 1) for _ in range(3)).to(DOUBLE)
    return trunk, heads, torch.randn(8, 6, dtype=DOUBLE), torch.randn(8, 3, dtype=DOUBLE)


def steps(spec, options, rows=slice(None), group=None, wrapped=False, missing=False):
    """The weights and parameters after some steps on some rows of the batch."""
    trunk, heads, x, y = model()
    parameters = [*trunk.parameters(), *heads.parameters()]
    on_features = "features" in options
    if "measured_on" in options:
        options = {"measured_on": list(trunk[2].parameters())}
    elif on_features:
        options = {}
    balancer = mtl.Balancer(spec, trunk.parameters(), tasks=["a", "b", "c"], process_group=group, **options)
    optimizer = torch.optim.SGD(parameters, 0.05)

    def losses_of(features):
        return {name: (heads[k](features)[:, 0] - y[rows, k]).square().mean() for k, name in enumerate("abc")}

    forward = nn.parallel.DistributedDataParallel(trunk) if wrapped else trunk
    for step in range(3):
        optimizer.zero_grad()
        if wrapped:
            with forward.no_sync():
                features = forward(x[rows])
        else:
            features = trunk(x[rows])
        losses = losses_of(features)
        if missing and step == 1 and (group is None or dist.get_rank(group) == 0):
            del losses["b"]
        again = {"recompute": lambda: losses_of(trunk(x[rows])), "validation": lambda: losses_of(trunk(x[rows]))}
        balancer.backward(losses, features=features if on_features else None, lookahead_lr=0.05, **again)
        optimizer.step()
    return balancer.weights, [p.detach() for p in parameters]


RUNS = [
    ("equal", {}, False),
    ("uncertainty", {"head_weighting": "own"}, False),
    ("gradnorm", {}, True),
    ("mgda", {"batching": "loop"}, False),
    ("pcgrad", {"head_weighting": "own"}, False),
    ("imtl-g", {"memory_limit": 4000}, False),
    ("imtl-g", {"measured_on": None}, False),
    ("mgda", {"features": True}, False),
    ("graddrop", {}, False),
    ("famo", {}, False),
    ("auto-lambda", {}, False),
    ("moco", {"head_weighting": "own"}, False),
]


def one_rank(rank, directory):
    torch.set_num_threads(1)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.FileStore(f"{directory}/store", 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=datetime.timedelta(seconds=60))
    rows = slice(4 * rank, 4 * rank + 4)
    results = [steps(spec, options, rows, dist.group.WORLD, wrapped) for spec, options, wrapped in RUNS]
    masked = steps("mgda", {}, rows, dist.group.WORLD, missing=True)
    torch.save((results, masked), f"{directory}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    directory = tmp_path_factory.mktemp("ranks")
    mp.spawn(one_rank, (str(directory),), nprocs=2)
    return [torch.load(directory / f"{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("at", range(len(RUNS)))
def test_two_processes_with_half_a_batch_each_equal_one_with_all_of_it(ranks, at):
    spec, options, _ = RUNS[at]
    weights, parameters = steps(spec, options)
    for results, _ in ranks:
        torch.testing.assert_close(results[at][0], weights)
        torch.testing.assert_close(results[at][1], parameters)
    assert torch.equal(ranks[0][0][at][0], ranks[1][0][at][0])
    assert all(map(torch.equal, ranks[0][0][at][1], ranks[1][0][at][1]))


def test_a_task_that_one_process_lacks_is_masked_in_all(ranks):
    for rank in range(2):
        assert torch.equal(ranks[rank][1][0], ranks[0][1][0])
        assert all(map(torch.equal, ranks[rank][1][1], ranks[0][1][1]))


def test_the_first_step_must_have_every_task_where_the_host_does_not_look(tmp_path):
    trunk, heads, x, y = model()
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        options = {"process_group": dist.group.WORLD, "host_checks": False}
        balancer = mtl.Balancer("mgda", trunk.parameters(), tasks=["a", "b"], **options)
        with pytest.raises(ValueError, match="first step of a data-parallel run must have"):
            balancer.backward({"a": (heads[0](trunk(x))[:, 0] - y[:, 0]).square().mean()})
    finally:
        dist.destroy_process_group()


def test_what_cannot_be_averaged_is_refused(tmp_path):
    dist.init_process_group("gloo", store=dist.FileStore(str(tmp_path / "store"), 1), rank=0, world_size=1)
    try:
        with pytest.raises(
            ValueError, match="auxilearn needs the Hessian of the whole batch and cannot use process_group="
        ):
            mtl.Balancer("auxilearn", model()[0].parameters(), process_group=dist.group.WORLD)
    finally:
        dist.destroy_process_group()
