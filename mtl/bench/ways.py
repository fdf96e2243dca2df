"""Ways to make one training step on a problem: ours, equal weighting, and the least possible."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch

from mtl.balancer import Balancer
from mtl.bench.models import StepProblem
from mtl.step.arguments import HeadWeighting

Step = Callable[[], None]

#: The Gramian strategies that TorchJD has too, and the spec that makes ours the same method.
GRAMIAN_SPECS: Mapping[str, str] = MappingProxyType(
    {
        "mgda": "mgda",
        "cagrad": "cagrad:c=0.5,rescale=0",
        "nash": "nash",
        "fairgrad": "fairgrad:alpha=2.0",
        "upgrad": "upgrad",
        "dualproj": "dualproj",
        "pcgrad": "pcgrad",
        "imtl-g": "imtl-g",
        "aligned": "aligned",
        "config": "config",
    }
)


def equal_step(problem: StepProblem) -> Step:
    """One forward pass, one backward pass, one optimizer step."""

    def step() -> None:
        problem.optimizer.zero_grad()
        torch.stack(problem.losses(problem.trunk(problem.inputs))).sum().backward()
        problem.optimizer.step()

    return step


def our_step(problem: StepProblem, spec: str) -> Step:
    """The three lines of a user's loop. Where TorchJD is the peer, heads keep their own gradients, as they do in it."""
    heads: HeadWeighting = "own" if spec.partition(":")[0] in GRAMIAN_SPECS else "weighted"
    balancer = Balancer(
        spec, problem.trunk.parameters(), problem.tasks, head_weighting=heads, scale="raw", steps_per_epoch=100
    )

    def step() -> None:
        problem.optimizer.zero_grad()
        losses = torch.stack(problem.losses(problem.trunk(problem.inputs)))
        balancer.backward(losses)
        problem.optimizer.step()

    return step


def floor_step(problem: StepProblem, *, batched: bool) -> Step:
    """The least work of a method that needs K gradients on the trunk.

    That is: one forward pass, each head back to the features once, K times back through the trunk, one combination, and
    one optimizer step. There is no Gramian, and there are no weights to find.

    Args:
        problem: the model and its batch.
        batched: whether to go back through the trunk for all tasks at once, rather than for one after another.
    """
    shared = list(problem.trunk.parameters())

    def step() -> None:
        problem.optimizer.zero_grad()
        features = problem.trunk(problem.inputs)
        cut = features.detach().requires_grad_()
        to_features = []
        for head, loss in zip(problem.heads, problem.losses(cut), strict=True):
            own = list(head.parameters())
            gradient, *on_head = torch.autograd.grad(loss, [cut, *own])
            to_features.append(gradient)
            for parameter, of_head in zip(own, on_head, strict=True):
                parameter.grad = of_head
        if batched:
            rows = torch.autograd.grad(features, shared, torch.stack(to_features), is_grads_batched=True)
            combined = [row.sum(0) for row in rows]
        else:
            last = len(to_features) - 1
            each = [
                torch.autograd.grad(features, shared, gradient, retain_graph=k < last)
                for k, gradient in enumerate(to_features)
            ]
            combined = [torch.stack(of_one).sum(0) for of_one in zip(*each, strict=True)]
        for parameter, gradient in zip(shared, combined, strict=True):
            parameter.grad = gradient
        problem.optimizer.step()

    return step
