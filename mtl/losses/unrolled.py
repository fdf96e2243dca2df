"""The gradient of a loss after steps of a model, by the weights of the loss that the steps go down."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

#: Replaces contiguous tensors by their means over several processes.
Average = Callable[[Sequence[Tensor]], None]


def unrolled_gradient(
    weights: Tensor,
    parameters: Sequence[Tensor],
    learned: Sequence[Callable[[Sequence[Tensor], Tensor], Tensor]],
    given: Callable[[Sequence[Tensor]], Tensor],
    lr: float | Tensor,
    average: Average | None = None,
) -> Tensor:
    """The gradient by phi of L(theta'), where steps theta - lr grad_theta M(theta; phi) lead from theta to theta'.

    L is the given loss and M the learned one, on a batch of its own in each step. With v the gradient of L at theta',
    the last step adds -lr v^T (d/dphi) grad_theta M at the point that it started from. What v is there is
    v - lr v^T (d/dtheta) grad_theta M, with which the step before adds its part, and so on to the first. N models side
    by side have all tensors with a leading axis, and their losses are (N,).

    Args:
        weights: phi, (F,) or (N, F).
        parameters: theta, tensors of any shape; those that the learned loss does not reach stay where they are.
        learned: for each step, from parameters and weights to M, a number or (N,).
        given: from parameters to L, the same.
        lr: of the steps; a number, or whatever multiplies each of the parameters.
        average: over R processes, each of which has the losses of the whole batch and R times its own share of their
            gradients: the step, v and the result are means of what they have. For a single step: what v becomes over
            another is no sum of shares. None for one process.

    Returns:
        As `weights`; zero where nothing depends on them.
    """
    assert average is None or len(learned) == 1
    path = []
    with torch.enable_grad():
        phi, at = weights.detach().requires_grad_(), list(parameters)
        for loss in learned:
            here = [parameter.detach().requires_grad_() for parameter in at]
            slopes = torch.autograd.grad(loss(here, phi).sum(), here, create_graph=True, allow_unused=True)
            path.append((here, slopes))
            steps = _averaged(slopes, average)
            at = [old if step is None else old.detach() - lr * step for old, step in zip(here, steps, strict=True)]
        there = [parameter.detach().requires_grad_() for parameter in at]
        directions = _averaged(torch.autograd.grad(given(there).sum(), there, allow_unused=True), average)
        found = torch.zeros_like(weights)
        for number, (here, slopes) in reversed(list(enumerate(path))):
            further = here if number else []  # nothing comes before the first
            own, *others = _through(slopes, directions, lr, [phi, *further])
            found = found if own is None else found + own
            directions = [_sum(*both) for both in zip(directions, others, strict=True)] if further else directions
    (mean,) = _averaged([found], average)
    assert mean is not None  # as `found` is there
    return mean


def _through(
    slopes: Sequence[Tensor | None], directions: Sequence[Tensor | None], lr: float | Tensor, inputs: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    """What the gradients at the end of a step are, back through it, by what its slopes depend on; None for nothing."""
    bent = [
        (slope, -lr * direction)
        for slope, direction in zip(slopes, directions, strict=True)
        if slope is not None and slope.requires_grad and direction is not None
    ]
    if not bent:
        return [None for _ in inputs]
    ends, gradients = zip(*bent, strict=True)
    return torch.autograd.grad(ends, inputs, gradients, allow_unused=True)


def _sum(one: Tensor | None, other: Tensor | None) -> Tensor | None:
    return other if one is None else one if other is None else one + other


def _averaged(shares: Sequence[Tensor | None], average: Average | None) -> list[Tensor | None]:
    """Gradients without their graph, those that are there averaged."""
    found = [None if share is None else share.detach() for share in shares]
    if average is not None:
        found = [None if share is None else share.clone(memory_format=torch.contiguous_format) for share in found]
        average([share for share in found if share is not None])
    return found
