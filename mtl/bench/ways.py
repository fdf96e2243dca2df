"""Ways to make one training step on a problem: ours, the least possible, equal weighting, and those of others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from scipy import optimize
from torch import Tensor

from mtl.balancer import Balancer
from mtl.bench.models import StepProblem
from mtl.step.arguments import HeadWeighting

Step = Callable[[], None]

#: TorchJD's aggregators of the strategies that both have, and the spec that makes ours the same method.
TORCHJD: Mapping[str, tuple[str, Callable[[Any, int], Any]]] = MappingProxyType(
    {
        "mgda": ("mgda", lambda of, _: of.MGDA()),
        "cagrad": ("cagrad:c=0.5,rescale=0", lambda of, _: of.CAGrad(c=0.5)),
        "nash": ("nash", lambda of, tasks: of.NashMTL(n_tasks=tasks, max_norm=0.0)),
        "fairgrad": ("fairgrad:alpha=2.0", lambda of, _: of.FairGrad(alpha=2.0)),
        "upgrad": ("upgrad", lambda of, _: of.UPGrad()),
        "dualproj": ("dualproj", lambda of, _: of.DualProj()),
        "pcgrad": ("pcgrad", lambda of, _: of.PCGrad()),
        "imtl-g": ("imtl-g", lambda of, _: of.IMTLG()),
        "aligned": ("aligned", lambda of, _: of.AlignedMTL()),
        "config": ("config", lambda of, _: of.ConFIG()),
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
    heads: HeadWeighting = "own" if spec.partition(":")[0] in TORCHJD else "weighted"
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
    """The least that a method with K gradients on the trunk does: one forward pass, each head back to the features
    once, K times back through the trunk, one combination, one optimizer step; no Gramian, no weights to find.

    Args:
        problem: the model and its batch.
        batched: go back through the trunk for all tasks at once, or for one after another.
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


def torchjd_step(problem: StepProblem, name: str) -> Step:
    """The multi-task example of TorchJD's documentation."""
    import torchjd.aggregation
    from torchjd.autojac import jac_to_grad, mtl_backward

    aggregator = TORCHJD[name][1](torchjd.aggregation, problem.tasks)
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


def min_norm_by_slsqp(gramian: np.ndarray) -> np.ndarray:
    """MGDA's weights from SciPy."""
    return _on_simplex(gramian, lambda w: w @ gramian @ w, lambda w: 2 * gramian @ w)


def cagrad_by_slsqp(gramian: np.ndarray, c: float = 0.5) -> np.ndarray:
    """CAGrad's inner problem from SciPy, as its authors solve it, and the weights of its update."""
    mean = gramian.mean(1)
    radius = c * np.sqrt(gramian.mean())

    def objective(w: np.ndarray) -> float:
        return float(mean @ w + radius * np.sqrt(w @ gramian @ w + 1e-16))

    w = _on_simplex(gramian, objective, None)
    return np.asarray(1 / len(w) + radius / np.sqrt(w @ gramian @ w) * w)


def nash_by_root(gramian: np.ndarray) -> np.ndarray:
    """The bargaining equation from SciPy's least squares, in the logarithms of the weights."""
    lengths = np.sqrt(gramian.diagonal())
    unit = gramian / lengths[:, None] / lengths
    solution = optimize.least_squares(lambda u: np.exp(u) * (unit @ np.exp(u)) - 1, np.zeros(len(gramian)))
    return np.asarray(np.exp(solution.x) / lengths)


def _on_simplex(gramian: np.ndarray, objective: Callable[[np.ndarray], float], slope: Any) -> np.ndarray:
    size = len(gramian)
    solution = optimize.minimize(
        objective,
        np.full(size, 1 / size),
        jac=slope,
        method="SLSQP",
        bounds=[(0, 1)] * size,
        constraints={"type": "eq", "fun": lambda w: 1 - w.sum()},
        options={"ftol": 1e-12, "maxiter": 200},
    )
    return np.asarray(solution.x)


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
