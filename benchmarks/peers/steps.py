"""Ways of other libraries to make one training step on a problem of `mtl bench steps`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mtl.bench.models import StepProblem
from mtl.bench.ways import Step

from .scipy_solvers import cagrad_by_slsqp, min_norm_by_slsqp, nash_by_root

#: TorchJD's aggregators of the strategies that both have, made for a number of tasks.
TORCHJD: Mapping[str, Callable[[Any, int], Any]] = MappingProxyType(
    {
        "mgda": lambda of, _: of.MGDA(),
        "cagrad": lambda of, _: of.CAGrad(c=0.5),
        "nash": lambda of, tasks: of.NashMTL(n_tasks=tasks, max_norm=0.0),
        "fairgrad": lambda of, _: of.FairGrad(alpha=2.0),
        "upgrad": lambda of, _: of.UPGrad(),
        "dualproj": lambda of, _: of.DualProj(),
        "pcgrad": lambda of, _: of.PCGrad(),
        "imtl-g": lambda of, _: of.IMTLG(),
        "aligned": lambda of, _: of.AlignedMTL(),
        "config": lambda of, _: of.ConFIG(),
    }
)


def torchjd_step(problem: StepProblem, name: str) -> Step:
    """The multi-task example of TorchJD's documentation."""
    import torchjd.aggregation
    from torchjd.autojac import jac_to_grad, mtl_backward

    aggregator = TORCHJD[name](torchjd.aggregation, problem.tasks)
    shared = list(problem.trunk.parameters())

    def step() -> None:
        problem.optimizer.zero_grad()
        features = problem.trunk(problem.inputs)
        mtl_backward(problem.losses(features), features=features)
        jac_to_grad(shared, aggregator)
        problem.optimizer.step()

    return step


def full_backward_step(problem: StepProblem, weigh: Callable[[np.ndarray], np.ndarray]) -> Step:
    """The way of LibMTL: a whole backward pass a task into `.grad`, copied flat, weights from a solver on the host, and
    the combination copied back."""
    shared = list(problem.trunk.parameters())
    sizes = [parameter.numel() for parameter in shared]

    def step() -> None:
        problem.optimizer.zero_grad()
        losses = problem.losses(problem.trunk(problem.inputs))
        rows = torch.zeros(len(losses), sum(sizes), device=problem.inputs.device, dtype=problem.inputs.dtype)
        for k, loss in enumerate(losses):
            loss.backward(retain_graph=k + 1 < len(losses))
            rows[k] = torch.cat([_grad(parameter).flatten() for parameter in shared])
            for parameter in shared:
                _grad(parameter).zero_()
        combined = _on_host(rows, weigh) @ rows
        for parameter, piece in zip(shared, combined.split(sizes), strict=True):
            parameter.grad = piece.view_as(parameter).clone()
        problem.optimizer.step()

    return step


def weighted_loss_step(problem: StepProblem, weigh: Callable[[np.ndarray], np.ndarray]) -> Step:
    """The way of nash-mtl's code: a gradient a task on the trunk, weights from a solver on the host, and one more
    backward pass of the weighted loss."""
    shared = list(problem.trunk.parameters())

    def step() -> None:
        problem.optimizer.zero_grad()
        losses = problem.losses(problem.trunk(problem.inputs))
        rows = torch.stack(
            [
                torch.cat([piece.flatten() for piece in torch.autograd.grad(loss, shared, retain_graph=True)])
                for loss in losses
            ]
        )
        (torch.stack(losses) * _on_host(rows, weigh)).sum().backward()
        problem.optimizer.step()

    return step


#: Ways of other libraries with the solvers that they call, by strategy.
REFERENCES: Mapping[str, tuple[str, Callable[[StepProblem], Step]]] = MappingProxyType(
    {
        "mgda": ("LibMTL's way, SciPy", lambda problem: full_backward_step(problem, min_norm_by_slsqp)),
        "cagrad": ("LibMTL's way, SciPy", lambda problem: full_backward_step(problem, cagrad_by_slsqp)),
        "nash": ("nash-mtl's way, SciPy", lambda problem: weighted_loss_step(problem, nash_by_root)),
    }
)


def _grad(parameter: Tensor) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad


def _on_host(rows: Tensor, weigh: Callable[[np.ndarray], np.ndarray]) -> Tensor:
    """The solver sees a Gramian of order one, as those libraries scale it; the update keeps its direction."""
    gramian = (rows @ rows.T).double().cpu().numpy()
    scale = gramian.trace() / len(gramian)
    return torch.from_numpy(weigh(gramian / scale)).to(rows)
