"""The inner problem of CAGrad."""

from __future__ import annotations

import torch
from torch import Tensor

from mtl.strategies.solvers._early import may_look, settled
from mtl.strategies.solvers._faces import BLOCKS, LARGEST, SUBSETS
from mtl.strategies.solvers._scaling import CLEAR, equilibrate

#: Active-set rounds after the interior-point method. Norms that differ by 1e16 take most of them.
ROUNDS = 14
#: Each interior-point round aims at this share of the complementarity that it found.
CENTRING = 0.1


def cagrad(gramian: Tensor, c: float | Tensor = 0.5, rounds: int = 16) -> Tensor:
    """Minimise `g_w^T g_0 + c |g_0| |g_w|` over the simplex (Liu et al., NeurIPS 2021, eq. 4 and algorithm 1).

    g_w = sum_i w_i g_i and g_0 is the mean gradient; the update of CAGrad is `g_0 + c |g_0| g_w / |g_w|`. The authors
    run SLSQP, TorchJD a conic solver. With y_i = w_i |g_i|, C the cosines between gradients and t_i those with g_0 it
    reads `min t^T y / c + |y|_C` over `y >= 0, sum_i y_i / |g_i| = 1`. For few tasks every support is tried; for more,
    a primal-dual interior-point method finds the support, on which the solution is exact. It linearises `|y|_C x = y`
    instead of the quotient, as Chan, Golub & Mulet (1999) do for total variation, which copes with the norm's kink.

    At a Pareto-stationary point g_w may be zero, and its direction is undefined. Where g_0 = 0 every w is a solution.

    Args:
        gramian: (..., K, K) symmetric positive semidefinite.
        c: radius of the ball around g_0 relative to its length, a float or a tensor that broadcasts against (..., 1).
        rounds: Newton steps.

    Returns:
        (..., K) simplex weights w in the dtype of `gramian`.
    """
    unit, length, eye = equilibrate(gramian, zero_row=1e-30, ridge=1e-11)
    c = torch.as_tensor(c, dtype=unit.dtype, device=unit.device).clamp(min=1e-6)

    relative = length / length.amax(-1, keepdim=True)
    t = _times(unit, relative)
    t = t / (c * _dot(relative, t).clamp(min=1e-30).sqrt())
    a = length.amin(-1, keepdim=True) / length
    if a.shape[-1] <= LARGEST:
        x = _best_face(unit, t, a, eye)
    elif (pivoted := _pivot(unit, t, a, eye)) is not None:
        x = pivoted
    else:
        x = _on_support(unit, t, a, *_interior_point(unit, t, a, eye, rounds), eye)
    weights = a * x
    return (weights / weights.sum(-1, keepdim=True)).to(gramian.dtype)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum(-1, keepdim=True)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def _interior_point(unit: Tensor, t: Tensor, a: Tensor, eye: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """Nearly optimal x = y / |y|_C and the multipliers z of `y >= 0`."""
    # y is of the order of 1 / a for the task that is best alone, be it short or long: start there, y z being uniform.
    best = ((t + 1.0) / a).argmin(-1, keepdim=True)
    a = a / a.gather(-1, best)
    z = a.clamp(min=1.0)
    y, x = 1.0 / z, torch.zeros_like(a)
    y = y / _dot(a, y)
    for _ in range(rounds):
        pulls = torch.stack([y, x], -2) @ unit
        cy, _ = pulls.unbind(-2)
        gap = (y * z).mean(-1, keepdim=True)
        target = CENTRING * gap
        # |y|_C, smoothed as a barrier for its cone of the same target would.
        steep = 1.0 / (target + torch.addcmul(_dot(y, cy), target, target).sqrt())
        square, ratio = steep * steep, z / y
        bend = (pulls.mT @ pulls.flip(-2)) * (0.5 * square).unsqueeze(-1)
        diagonal = (ratio + 1e-14 * steep).unsqueeze(-1)
        hessian = torch.addcmul(steep.unsqueeze(-1) * unit - bend, eye, diagonal)
        factor, failed = torch.linalg.cholesky_ex(hessian)
        push = target / y
        right = torch.stack([torch.addcmul(push - t, steep, cy, value=-1.0), a.expand_as(y)], -1)
        solved = torch.cholesky_solve(right, factor)
        # y stays on the plane, so the multiplier of a^T y = 1 takes back what the step would leave it by.
        dy, along = solved.unbind(-1)
        dy = dy - _dot(a, dy) / _dot(a, along) * along
        new_z = torch.addcmul(push, ratio, dy, value=-1.0)
        new_x = torch.addcmul(steep * (y + dy), x, _dot(cy, dy) * square, value=-1.0)
        reach = 0.98 / (-(dy / y).amin(-1, keepdim=True)).clamp(min=0.98)
        reach_z = 0.98 / (1.0 - (new_z / z).amin(-1, keepdim=True)).clamp(min=0.98)
        new_x = x.lerp(new_x, reach)
        new_x = new_x * (0.999 * _dot(new_x, _times(unit, new_x)).clamp(min=1e-300).rsqrt()).clamp(max=1.0)
        # Rounding at the far end: stay.
        moving = (failed == 0).unsqueeze(-1) & (gap > 1e-13)
        if settled(~moving):
            break
        y = torch.where(moving, torch.addcmul(y, reach, dy), y)
        z, x = torch.where(moving, z.lerp(new_z, reach_z), z), torch.where(moving, new_x, x)
    return y * _dot(y, _times(unit, y)).clamp(min=1e-30).rsqrt(), z


def _pivot(unit: Tensor, t: Tensor, a: Tensor, eye: Tensor, rounds: int = 8) -> Tensor | None:
    """The exact solution by pivoting alone, from all tasks; None where it did not end, leaves doubt about the support,
    or the host may not look."""
    if not may_look(t) or not may_look(unit):
        return None
    free = torch.ones_like(t, dtype=torch.bool)
    for _ in range(rounds):
        block = torch.where(free.unsqueeze(-1) & free.unsqueeze(-2), unit, eye)
        x, slack, possible = _given_support(unit, block, t, a, free)
        better = torch.where(free, x, -slack) > 0
        if bool((better == free).all()):
            clear = (torch.maximum(x, slack).amin() > CLEAR) & possible.all()
            return x.clamp(min=0) if bool(clear) else None
        free = better
    return None


def _on_support(unit: Tensor, t: Tensor, a: Tensor, x: Tensor, z: Tensor, eye: Tensor) -> Tensor:
    """The exact solution on the right set of tasks, pivoting from that of a nearly optimal x.

    For x = y / |y|_C the conditions are `z = t + C x - v a >= 0`, `x >= 0`, `x^T z = 0` and |x|_C = 1. On a set of
    tasks x is affine in v, and the last condition a quadratic equation for v. Should the pivoting cycle, x itself.
    """
    free = x > z
    for k in range(ROUNDS):
        block = torch.where(free.unsqueeze(-1) & free.unsqueeze(-2), unit, eye)
        exact, slack, reached = _given_support(unit, block, t, a, free)
        wrong = torch.where(free, -exact, -slack)
        worst = wrong.amax(-1, keepdim=True)
        # Exchanging all wrong tasks at once is fastest, and may cycle; the worst half of them soon end that.
        exchange = (wrong > 0) & (wrong >= (0.0 if k < 2 else 0.5) * worst)
        if settled(~exchange):
            break
        free = free ^ exchange
    # A comparison that NaN loses.
    size = torch.maximum(exact, t.abs()).amax(-1, keepdim=True).clamp(min=1.0)
    right = (worst < 1e-9 * size) & reached
    return torch.where(right, exact, x).clamp(min=0)


def _best_face(unit: Tensor, t: Tensor, a: Tensor, eye: Tensor) -> Tensor:
    """The same conditions for a few tasks: x of that set of tasks, of all, which violates them least."""
    size = a.shape[-1]
    free, blocks = SUBSETS[size][1:].to(a.device), BLOCKS[size][1:].to(a.device)
    unit = unit.unsqueeze(-3)
    x, slack, reached = _given_support(unit, torch.where(blocks, unit, eye), t.unsqueeze(-2), a.unsqueeze(-2), free)
    wrong = torch.where(free, -x, -slack).amax(-1, keepdim=True) / x.amax(-1, keepdim=True).clamp(min=1.0)
    wrong = torch.where(reached, wrong, wrong + 1.0)
    return x.take_along_dim(wrong.argmin(-2, keepdim=True), -2).squeeze(-2).clamp(min=0)


def _given_support(unit: Tensor, block: Tensor, t: Tensor, a: Tensor, free: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """x, zero outside `free`, the slack z of all tasks, and whether |x|_C = 1 is possible on `free`."""
    pulls = torch.where(free.unsqueeze(-1), torch.stack([a, t], -1), 0.0)
    solved = torch.cholesky_solve(pulls, torch.linalg.cholesky_ex(block)[0])
    p, q = solved.unbind(-1)
    pa, qt = (solved * pulls).sum(-2).split(1, -1)
    pt = _dot(p, t)
    # The larger root: |x|_C grows with v along the solutions.
    root = (pt * pt - pa * (qt - 1.0)).clamp(min=0).sqrt()
    v = (pt + root) / pa.clamp(min=1e-300)
    x = torch.addcmul(-q, v, p)
    return x, torch.addcmul(t + _times(unit, x), v, a, value=-1.0), root > 0
