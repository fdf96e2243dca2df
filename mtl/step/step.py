"""The values of a balancer's step, as they go from one part to the next: collect, measure, weigh, apply."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch import Tensor

from mtl.gradients.task_gradients import TaskGradients
from mtl.step.collect import Collected, Losses


class StepArguments(NamedTuple):
    """What the caller of `backward` gave besides the losses; see there."""

    recompute: Callable[[], Losses] | None
    validation: Callable[[], Losses] | None
    fresh: Callable[[], Losses] | None
    lookahead_lr: float | None
    features: Tensor | Sequence[Tensor] | None
    retain_graph: bool


class Step(NamedTuple):
    """A step that has been collected.

    Attributes:
        batch: its losses.
        given: what the caller gave besides.
        seen: whether the strategy is to see the step; otherwise the previous weights are applied.
        needs: the signals that the strategy will read, none where it does not see the step.
    """

    batch: Collected
    given: StepArguments
    seen: bool
    needs: frozenset[str]


class Findings(NamedTuple):
    """What has been measured in a step.

    Attributes:
        signals: those that the strategy reads; empty where it does not see the step.
        whole: () whether losses and gradients are finite, where the host has not looked; None where it has.
        sound: False where the host has found gradients that are not finite, so that the strategy does not see the step.
        gramians: (blocks, K, K) of the tasks at hand, of gradients on shared parameters or features.
        gradients: the task gradients that weights apply to; None where a backward pass is to be made.
        rows: (K, D) the gradients on the shared parameters written out, for strategies that weigh or keep these.
        finite: (K,) whose gradients are finite, where not all are known to be.
        reached: every leaf that the losses reach, where there are `gradients`.
        one: () what a loss's gradient by itself was taken to be in `gradients`.
    """

    signals: dict[str, Tensor]
    whole: Tensor | None = None
    sound: bool = True
    gramians: Tensor | None = None
    gradients: TaskGradients | None = None
    rows: Tensor | None = None
    finite: Tensor | None = None
    reached: Sequence[Tensor] = ()
    one: Tensor | None = None
