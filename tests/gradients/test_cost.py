"""What a step costs: memory below the limit that was set, and nothing measured between the updates of `every`."""

import weakref

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import mtl
from tests.gradients.models import build, flat_grads

K, WIDTH, DEPTH = 8, 128, 6


class Times(nn.Module):
    """A layer whose gradients the engine writes out."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(WIDTH, WIDTH) / WIDTH**0.5)

    def forward(self, inputs):
        return inputs @ self.weight


class Alive(TorchDispatchMode):
    """Follows the bytes of tensors made inside the block that are alive, and their peak."""

    def __init__(self):
        super().__init__()
        self.now = self.peak = 0
        self.known = weakref.WeakSet()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                storage = tensor.untyped_storage()
                if storage not in self.known:
                    self.known.add(storage)
                    self.now += storage.nbytes()
                    weakref.finalize(storage, self._gone, storage.nbytes())
        self.peak = max(self.peak, self.now)
        return result

    def _gone(self, size):
        self.now -= size


def step(**options):
    """The peak of a step on a deep trunk, and its weights and gradients."""
    torch.manual_seed(0)
    layers = [layer for _ in range(DEPTH) for layer in (Times(), nn.Tanh())]
    trunk, heads = nn.Sequential(*layers), nn.ModuleList(nn.Linear(WIDTH, 1) for _ in range(K))
    x, y = torch.randn(16, WIDTH), torch.randn(16, K)
    balancer = mtl.Balancer("imtl-g", trunk.parameters(), **options)
    features = trunk(x)
    losses = torch.stack([(head(features)[:, 0] - y[:, k]).square().mean() for k, head in enumerate(heads)])
    with Alive() as alive:
        weights = balancer.backward(losses)
    return alive.peak, weights, flat_grads([*trunk.parameters(), *heads.parameters()]), balancer.passes


@pytest.mark.parametrize("batching", ["vmap", "loop"])
def test_memory_stays_below_the_limit_that_was_set(batching):
    jacobian = 4 * K * DEPTH * WIDTH * WIDTH
    layer = jacobian / DEPTH
    usual, weights, gradients, passes = step(batching=batching)
    limited, same_weights, same_gradients, more_passes = step(batching=batching, memory_limit=int(1.1 * layer))
    assert usual > jacobian
    assert (
        limited < 2.5 * layer + jacobian / K < 0.6 * usual
    )  # the gradients of a layer; at the end those of the update
    torch.testing.assert_close(same_weights, weights, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(same_gradients, gradients, rtol=1e-4, atol=1e-5)
    assert passes == {"backward": K} and more_passes == {"backward": K + 1}


def test_the_limit_is_spent_before_more_passes_are_made(monkeypatch):
    calls = []
    below = mtl.gradients.by_task.BackwardByTask.below

    def counted(self, stretch, seeds, leaves, groups, **options):
        calls.append(sum(leaf.numel() for leaf in leaves))
        return below(self, stretch, seeds, leaves, groups, **options)

    monkeypatch.setattr(mtl.gradients.by_task.BackwardByTask, "below", counted)
    layer = WIDTH * WIDTH
    for limit, expected in ((10**9, [DEPTH * layer]), (2 * 4 * K * layer, [2 * layer] * 3), (1, [layer] * DEPTH)):
        calls.clear()
        step(memory_limit=limit)
        assert sum(calls) == DEPTH * layer
        assert calls == expected


def test_between_updates_every_makes_one_backward_pass():
    case = build("mlp")
    balancer = mtl.Balancer("mgda+every:n=3", case.shared)
    made = []
    for _ in range(7):
        before = balancer.passes["backward"]
        balancer.backward(torch.stack(case.losses()))
        made.append(balancer.passes["backward"] - before)
    assert made == [3, 1, 1, 3, 1, 1, 3]


@pytest.mark.parametrize("head_weighting", ["weighted", "own"])
@pytest.mark.parametrize("name", ["mlp", "tied", "cnn"])
def test_blocks_within_a_limit_make_one_pass_a_block_and_count_it(name, head_weighting, monkeypatch):
    case = build(name)
    half = len(case.shared) // 2
    blocks = [case.shared[:half], case.shared[half:]]
    options = {"blocks": blocks, "memory_limit": 10**9, "head_weighting": head_weighting, "batching": "loop"}
    balancer = mtl.Balancer("gradvac", case.shared, **options)
    updating, grad = [], torch.autograd.grad

    def counted(outputs, inputs, *rest, **named):
        updating.append({id(parameter) for parameter in case.shared} & {id(wanted) for wanted in inputs})
        return grad(outputs, inputs, *rest, **named)

    losses = torch.stack(case.losses())
    monkeypatch.setattr(torch.autograd, "grad", counted)
    balancer.backward(losses)
    assert sorted(map(sorted, updating[-2:])) == sorted(sorted(map(id, block)) for block in blocks)
    assert balancer.passes == {"backward": 3 + 2}
