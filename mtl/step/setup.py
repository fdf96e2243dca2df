"""What all parts of a balancer's steps have in common, decided once when the balancer is made."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mtl.step.amp import LossScale
from mtl.step.leaves import Leaves
from mtl.step.measure import MEASURERS
from mtl.step.ranks import Ranks
from mtl.step.tally import Tally
from mtl.strategies.strategy import Strategy


@dataclass(frozen=True)
class Setup:
    """How the steps of a balancer are made.

    Attributes:
        strategy: says how to weigh.
        leaves: which leaves of a graph are shared, and what the others are.
        scale: `sum_to_k` or `raw`.
        own_heads: heads receive the gradient of their own loss, not the weighted one.
        subset: the strategy may see some of the tasks only.
        host_checks: the host looks for what is not finite, and waits for the device.
        sharded: the parameters are divided among processes, which only a plain backward pass serves.
        loss_scale: the factor of a `GradScaler` on losses.
        ranks: the processes of a data-parallel run.
        passes: counts forward and backward passes.
        tally: counts what went wrong.
    """

    strategy: Strategy
    leaves: Leaves
    scale: str
    own_heads: bool
    subset: bool
    host_checks: bool
    sharded: bool
    loss_scale: LossScale | None
    ranks: Ranks | None
    passes: Counter[str]
    tally: Tally

    @property
    def blocks(self) -> int:
        """The number of blocks of shared parameters; with more than one each has weights of its own."""
        return self.leaves.blocks


def reads_rows(strategy: Strategy) -> bool:
    """Whether a strategy needs task gradients written out, not only losses and a Gramian of one batch."""
    return strategy.elementwise or strategy.tracking or bool(strategy.needs & {"jacobian", *MEASURERS})
