"""The inner problem of CAGrad."""

from __future__ import annotations

import torch
from torch import Tensor

from mtl.solvers._faces import BLOCKS, LARGEST, SUBSETS
from mtl.solvers._interior import advance
from mtl.solvers._scaling import equilibrate

#: Active-set rounds after the interior-point method.
ROUNDS = 6


def cagrad(gramian: Tensor, c: float | Tensor = 0.5, rounds: int | None = None) -> Tensor:
    """Minimise `g_w^T g_0 + c |g_0| |g_w|` over the simplex (Liu et al., NeurIPS 2021, eq. 4 and algorithm 1).

    g_w = sum_i w_i g_i and g_0 is the mean gradient; the update of CAGrad is `g_0 + c |g_0| g_w / |g_w|`. The authors
    run SLSQP, TorchJD a conic solver. With y_i = w_i |g_i|, C the cosines between gradients and t_i those with g_0 it
    reads `min t^T y + c |y|_C` over `y >= 0, sum_i y_i / |g_i| = 1`. With the minimum v and x = c y / |y|_C that is a
    quadratic program, `min x^T C x / 2 + (t - v a)^T x` over `x >= 0` with a_i = 1 / |g_i|, together with |x|_C = c,
    which does not have the kink of the norm.

    At a Pareto-stationary point g_w may be zero, and its direction is undefined. Where g_0 = 0 every w is a solution.

    Args:
        gramian: (..., K, K) symmetric positive semidefinite.
        c: radius of the ball around g_0 relative to its length, a float or a tensor that broadcasts against (..., 1).
        rounds: Newton steps, for more than seven tasks; by default 22 up to twenty tasks, then 28.

    Returns:
        (..., K) simplex weights w in the dtype of `gramian`.
    """
    unit, length, eye = equilibrate(gramian, zero_row=1e-30, ridge=1e-11)
    c = torch.as_tensor(c, dtype=unit.dtype, device=unit.device).clamp(min=1e-6)

    relative = length / length.amax(-1, keepdim=True)
    t = _times(unit, relative)
    t = t / _dot(relative, t).clamp(min=1e-30).sqrt()
    a = length.amin(-1, keepdim=True) / length
    if a.shape[-1] <= LARGEST + 1:  # more faces pay here, where iterating costs more
        x = _best_face(unit, t, a, c, eye)
    else:
        near = _interior_point(unit, t, a, c, eye, rounds or (22 if a.shape[-1] <= 20 else 28))
        x = _on_support(unit, t, a, c, *near, eye)
    weights = a * x
    return (weights / weights.sum(-1, keepdim=True)).to(gramian.dtype)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum(-1, keepdim=True)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def _interior_point(unit: Tensor, t: Tensor, a: Tensor, c: Tensor, eye: Tensor, rounds: int) -> tuple[Tensor, Tensor]:
    """Nearly optimal x = c y / |y|_C and the multipliers z of `y >= 0`.

    At a value v the direction that gains most on it is the solution x(v) of a quadratic program, and v is the optimum
    where |x(v)|_C = c. Dinkelbach's iteration for ratios takes the objective at x(v) for the next v; here v moves with
    every round on the quadratic program.
    """
    both, c = torch.stack([t, a], -1), c.unsqueeze(-1)
    # No weights do worse than the best single task does. From a v above zero and dependent gradients x would run away.
    v = ((both[..., :1] + c) / both[..., 1:]).amin(-2, keepdim=True)
    z = (both[..., :1] - v * both[..., 1:]).abs().clamp(min=1.0)
    x = 1.0 / z
    for _ in range(rounds):
        length = (x.mT @ (unit @ x)).clamp(min=1e-30).sqrt()
        along, scale = (x.mT @ both).split(1, -1)
        v = torch.minimum(v, (along + c * length) / scale)
        x, z = advance(unit, both[..., :1] - v * both[..., 1:], eye, None, x, z)
    return x.squeeze(-1), z.squeeze(-1)


def _on_support(unit: Tensor, t: Tensor, a: Tensor, c: Tensor, x: Tensor, z: Tensor, eye: Tensor) -> Tensor:
    """The exact solution on the right set of tasks, pivoting from that of a nearly optimal x.

    For x = c y / |y|_C the conditions are `z = t + C x - v a >= 0`, `x >= 0`, `x^T z = 0` and |x|_C = c. On a set of
    tasks x is affine in v, and the last condition a quadratic equation for v.
    """
    free = x > z
    for k in range(ROUNDS):
        block = torch.where(free.unsqueeze(-1) & free.unsqueeze(-2), unit, eye)
        exact, slack, reached = _given_support(unit, block, t, a, c, free)
        wrong = torch.where(free, -exact, -slack)
        worst = wrong.amax(-1, keepdim=True)
        # Exchanging all wrong tasks at once is fastest, and may cycle; the worst half of them soon end that.
        free = free ^ ((wrong > 0) & (wrong >= (0.0 if k < 2 else 0.5) * worst))
    # A comparison that NaN loses; x itself, should the search have cycled.
    wrong = worst / exact.amax(-1, keepdim=True).clamp(min=1.0)
    right = (wrong < 1e-9) & reached
    return torch.where(right, exact, x).clamp(min=0)


def _best_face(unit: Tensor, t: Tensor, a: Tensor, c: Tensor, eye: Tensor) -> Tensor:
    """The same conditions for a few tasks: x of that set of tasks, of all, which violates them least."""
    size = a.shape[-1]
    free, blocks = SUBSETS[size][1:].to(a.device), BLOCKS[size][1:].to(a.device)
    unit = unit.unsqueeze(-3)
    x, slack, reached = _given_support(
        unit, torch.where(blocks, unit, eye), t.unsqueeze(-2), a.unsqueeze(-2), c.unsqueeze(-1), free
    )
    wrong = torch.where(free, -x, -slack).amax(-1, keepdim=True) / x.amax(-1, keepdim=True).clamp(min=1.0)
    wrong = torch.where(reached, wrong, wrong + 1.0)
    return x.take_along_dim(wrong.argmin(-2, keepdim=True), -2).squeeze(-2).clamp(min=0)


def _given_support(unit: Tensor, block: Tensor, t: Tensor, a: Tensor, c: Tensor, free: Tensor) -> tuple[Tensor, ...]:
    """x, zero outside `free`, the slack z of all tasks, and whether |x|_C = c is possible on `free`."""
    pulls = torch.where(free.unsqueeze(-1), torch.stack([a, t], -1), 0.0)
    p, q = torch.cholesky_solve(pulls, torch.linalg.cholesky_ex(block)[0]).unbind(-1)
    pa, pt, qt = (p * a).sum(-1, keepdim=True), (p * t).sum(-1, keepdim=True), (q * t).sum(-1, keepdim=True)
    # The larger root: |x|_C grows with v along the solutions.
    root = (pt * pt - pa * (qt - c * c)).clamp(min=0).sqrt()
    v = (pt + root) / pa.clamp(min=1e-300)
    x = v * p - q
    return x, t + (unit @ x.unsqueeze(-1)).squeeze(-1) - v * a, root > 0
