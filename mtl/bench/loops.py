"""Training steps of the same model by different means; each function returns a `Loop`."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtl.balancer import Balancer
from mtl.bench.problems import Model, Problem

#: So small that the model stays the one on which everyone's updates were compared.
_LEARNING_RATE = 1e-9


@dataclass(frozen=True)
class Loop:
    """One step of training on the problem's batch, to be repeated."""

    model: Model
    step: Callable[[], object]

    def update(self) -> Tensor:
        """The flat gradient of the trunk that a step leaves for the optimizer, scaled to length one."""
        self.step()
        flat = torch.cat([_grad(parameter).flatten() for parameter in self.model.trunk.parameters()]).double()
        length: Tensor = flat.norm()
        return flat / length.clamp(min=1e-30)


def _grad(parameter: Tensor) -> Tensor:
    return torch.zeros_like(parameter) if parameter.grad is None else parameter.grad


def _loop(problem: Problem, device: torch.device, make: Callable[[Model], Callable[[], object]]) -> Loop:
    """`make` gives what stands between `zero_grad` and the optimizer's step, the forward pass included."""
    model = problem.build(device)
    differentiate = make(model)
    optimizer = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)

    def step() -> None:
        optimizer.zero_grad()
        differentiate()
        optimizer.step()

    return Loop(model, step)


def equal(problem: Problem, device: torch.device) -> Loop:
    """Plain PyTorch on the sum of the losses."""
    return _loop(problem, device, lambda model: lambda: _sum(model).backward())


def _sum(model: Model) -> Tensor:
    return torch.stack(model.losses(model.features())).sum()


def ours(problem: Problem, device: torch.device, spec: str, **options: Any) -> Loop:
    """`mtl.Balancer`, called as its documentation says."""

    def make(model: Model) -> Callable[[], object]:
        balancer = Balancer(spec, model.trunk.parameters(), steps_per_epoch=100, **options)

        def losses() -> dict[str, Tensor]:
            return {str(k): loss for k, loss in enumerate(model.losses(model.features()))}

        return lambda: balancer.backward(losses(), recompute=losses)

    return _loop(problem, device, make)


def torchjd(problem: Problem, device: torch.device, aggregator: Any) -> Loop:
    """TorchJD's recommended way for multi-task learning: `mtl_backward`, then `jac_to_grad`."""
    from torchjd.autojac import jac_to_grad, mtl_backward

    def make(model: Model) -> Callable[[], object]:
        shared = list(model.trunk.parameters())

        def differentiate() -> None:
            features = model.features()
            mtl_backward(model.losses(features), features=features)
            jac_to_grad(shared, aggregator)

        return differentiate

    return _loop(problem, device, make)


def floor(problem: Problem, device: torch.device, *, batched: bool) -> Loop:
    """The least that any method with a gradient a task can do, by hand: each head once, the trunk K times, a sum."""

    def make(model: Model) -> Callable[[], object]:
        shared = list(model.trunk.parameters())

        def differentiate() -> None:
            features = model.features()
            leaf = features.detach().requires_grad_()
            rows: list[Tensor] = []
            for loss in model.losses(leaf):
                leaf.grad = None
                loss.backward()
                rows.append(_grad(leaf))
            if batched:
                jacobian = torch.autograd.grad(features, shared, torch.stack(rows), is_grads_batched=True)
                for parameter, part in zip(shared, jacobian, strict=True):
                    parameter.grad = part.sum(0)
            else:
                for row in rows:
                    torch.autograd.backward(features, row, retain_graph=True, inputs=shared)

        return differentiate

    return _loop(problem, device, make)


def full_backwards(problem: Problem, device: torch.device, weigh: Callable[[Tensor], Tensor], *, again: bool) -> Loop:
    """The way of LibMTL and of nash-mtl's code: a backward pass through the whole model a task, copied flat.

    Args:
        weigh: from the (K, D) Jacobian to weights, by a solver on the host.
        again: apply the weights by one more backward pass (nash-mtl) instead of combining the copies (LibMTL).
    """

    def make(model: Model) -> Callable[[], object]:
        shared = list(model.trunk.parameters())
        sizes = [parameter.numel() for parameter in shared]

        def differentiate() -> None:
            losses = model.losses(model.features())
            rows = torch.zeros(len(losses), sum(sizes), device=device)
            for row, loss in zip(rows, losses, strict=True):
                loss.backward(retain_graph=True)
                row.copy_(torch.cat([_grad(parameter).flatten() for parameter in shared]))
                for parameter in shared:
                    parameter.grad = None
            weights = weigh(rows)
            if again:
                model.heads.zero_grad()
                (torch.stack(losses) * weights).sum().backward()
                return
            for parameter, part in zip(shared, (weights @ rows).split(sizes), strict=True):
                parameter.grad = part.view_as(parameter)

        return differentiate

    return _loop(problem, device, make)
