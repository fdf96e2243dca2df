"""The one step of a strategy: what it leaves as it was, for one run and mapped over members."""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.utils import _pytree as pytree

from mtl.step.weigh import Blockwise, scale_of, weighed
from mtl.strategies import make
from mtl.strategies.combinators.chain import chain
from mtl.strategies.strategy import Strategy
from tests.problems import random_signals

MEMBERS, TASKS = 4, 3


class Mean(NamedTuple):
    mean: Tensor


@dataclass(frozen=True)
class Roots(Strategy):
    """The roots of mean losses, which are NaN below zero."""

    name: ClassVar[str] = "roots"
    paper: ClassVar[str] = "made up"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})

    def init(self, losses):
        return Mean(torch.ones_like(losses))

    def __call__(self, state, signals):
        mean = (state.mean + signals["losses"]) / 2
        return mean.sqrt(), Mean(mean)


def signals_of(members, bad):
    """Signals (members, ...) of which member `bad` has a negative loss."""
    each = [random_signals(TASKS, seed) for seed in range(members)]
    each[bad]["losses"][1] = -9
    return {name: torch.stack([signals[name] for signals in each]) for name in ("losses", "gramian")}


def begin(strategy, members):
    states = [strategy.init_sized(torch.ones(TASKS, dtype=torch.float64), 7) for _ in range(members)]
    return pytree.tree_map(lambda *leaves: torch.stack(leaves), *states)


def same(one, other):
    for got, wanted in zip(pytree.tree_leaves(one), pytree.tree_leaves(other), strict=True):
        torch.testing.assert_close(got, wanted, equal_nan=True)


def at(tree, member):
    return pytree.tree_map(lambda leaf: leaf[member], tree)


@pytest.mark.parametrize("scale", ["raw", "sum_to_k"])
@pytest.mark.parametrize("strategy", [Roots(), chain(make("gradnorm"), Roots())], ids=str)
def test_a_step_that_is_not_whole_or_not_good_leaves_weights_and_state_as_they_were(strategy, scale):
    on_scale = scale_of(scale)
    signals, state = signals_of(MEMBERS, bad=1), begin(strategy, MEMBERS)
    held = torch.rand(MEMBERS, TASKS, dtype=torch.float64)
    whole = torch.tensor([True, True, False, True])

    def step(state, held, signals, whole):
        return weighed(strategy, state, held, signals, whole, on_scale)

    weights, after, good = vmap(step)(state, held, signals, whole)
    assert good.tolist() == [True, False, True, True]
    for member in (1, 2):
        assert torch.equal(weights[member], held[member])
        same(at(after, member), at(state, member))
    for member in (0, 3):
        raw, alone = strategy(at(state, member), at(signals, member))
        torch.testing.assert_close(weights[member], raw if scale == "raw" else raw * TASKS / raw.abs().sum())
        same(at(after, member), alone)
        assert not torch.equal(weights[member], held[member])


def test_where_the_host_knows_that_a_step_is_whole_the_result_is_the_same():
    strategy, held = make("gradnorm"), torch.ones(TASKS, dtype=torch.float64)
    state, signals = strategy.init(held), random_signals(TASKS)
    one = weighed(strategy, state, held, signals, None, scale_of("sum_to_k"))
    two = weighed(strategy, state, held, signals, torch.tensor(True), scale_of("sum_to_k"))
    assert all(map(torch.equal, pytree.tree_leaves(one), pytree.tree_leaves(two)))


def test_blocks_have_gramians_and_states_of_their_own():
    strategy, first, second = make("gradvac"), random_signals(TASKS, 0), random_signals(TASKS, 1)
    states = tuple(strategy.init(first["losses"]) for _ in range(2))
    signals = {**first, "gramian": torch.stack([first["gramian"], second["gramian"]])}
    weights, after = Blockwise(strategy)(states, signals)
    for block, gramian in enumerate((first["gramian"], second["gramian"])):
        wanted, state = strategy(states[block], {**first, "gramian": gramian})
        assert torch.equal(weights[block], wanted)
        same(after[block], state)
    on_scale = scale_of("sum_to_k", blocks=2)(weights)
    torch.testing.assert_close(on_scale.abs().sum(1), torch.full((2,), float(TASKS), dtype=torch.float64))
