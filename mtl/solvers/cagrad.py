"""The inner problem of CAGrad."""

from __future__ import annotations

import torch
from torch import Tensor

from mtl.solvers._faces import BLOCKS, LARGEST, SUBSETS
from mtl.solvers._scaling import equilibrate

#: Active-set rounds after the interior-point method.
ROUNDS = 10
#: Starting points of the interior-point method, solved side by side.
STARTS = 2


def cagrad(gramian: Tensor, c: float | Tensor = 0.5, rounds: int = 14) -> Tensor:
    """Minimise `g_w^T g_0 + c |g_0| |g_w|` over the simplex (Liu et al., NeurIPS 2021, eq. 4 and algorithm 1).

    g_w = sum_i w_i g_i and g_0 is the mean gradient; the update of CAGrad is `g_0 + c |g_0| g_w / |g_w|`. The authors
    run SLSQP, TorchJD a conic solver; this is a conic solver too. With y_i = w_i |g_i|, C the cosines between gradients
    and t_i those with g_0 it reads `min t^T y + c s` over `y >= 0, s >= |y|_C, sum_i y_i / |g_i| = 1`; a primal-dual
    method with Nesterov-Todd scaling of the cone (Vandenberghe 2010, sec. 4) copes with the kink of the norm. The dual
    vector of the cone stays in the span of the gradients, so that all of it is expressed by C.

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
    t = t / _dot(relative, t).clamp(min=1e-30).sqrt()
    a = length.amin(-1, keepdim=True) / length
    if a.shape[-1] <= LARGEST:
        weights = a * _best_face(unit, t, a, c, eye)
        return (weights / weights.sum(-1, keepdim=True)).to(gramian.dtype)
    # Where the worst task is a short gradient y is of order one, where it is a long one up to the ratio of lengths:
    # start from the one and from the other.
    unit, t, a, c = unit.unsqueeze(-3), t.unsqueeze(-2), a.unsqueeze(-2), c.unsqueeze(-1)
    powers = torch.linspace(0.0, 1.0, STARTS, dtype=a.dtype, device=a.device).unsqueeze(-1)
    start = a**-powers
    y, z = _interior_point(unit, t, a, c, start / (a * start).sum(-1, keepdim=True), eye, rounds)
    x, wrong = _on_support(unit, t, a, c, y, z, eye)
    weights = (a * x).take_along_dim(wrong.argmin(-2, keepdim=True), -2).squeeze(-2)
    return (weights / weights.sum(-1, keepdim=True)).to(gramian.dtype)


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum(-1, keepdim=True)


def _times(matrix: Tensor, vector: Tensor) -> Tensor:
    return (matrix @ vector.unsqueeze(-1)).squeeze(-1)


def _interior_point(
    unit: Tensor, t: Tensor, a: Tensor, c: Tensor, y: Tensor, eye: Tensor, rounds: int
) -> tuple[Tensor, Tensor]:
    """Nearly optimal x = c y / |y|_C and the multipliers z of `y >= 0`, from a feasible y."""
    # The primal cone point is (s, R^T y), the dual one (c, R^T x), with C = R R^T.
    z, x = torch.ones_like(y), torch.zeros_like(y)
    s = 2.0 * _dot(y, _times(unit, y)).sqrt()
    for _ in range(rounds):
        cy, cx = _times(unit, y), _times(unit, x)
        primal = (s * s - _dot(y, cy)).clamp(min=1e-30)
        dual = (c * c - _dot(x, cx)).clamp(min=1e-30)
        mu = (_dot(y, z) + s * c + _dot(x, cy)) / (y.shape[-1] + 1)
        # The scaling point (w0, R^T w), of unit hyperbolic length, and its size eta.
        left, right = primal.rsqrt(), dual.rsqrt()
        twice = (2.0 * (1.0 + left * right * (s * c + _dot(x, cy)))).sqrt()
        w0, w = (s * left + c * right) / twice, (y * left - x * right) / twice
        h = (cy * left - cx * right) / twice
        eta = (primal * right * right).sqrt()
        stretch = 2 * w0 * w0 - 1
        ratio = z / y
        hessian = (unit - (2.0 / stretch * h).unsqueeze(-1) * h.unsqueeze(-2)) / eta.unsqueeze(-1)
        factor = torch.linalg.cholesky_ex(hessian + eye * (ratio + 1e-14 / eta).unsqueeze(-1))[0]
        # The step is affine in the target mu: a part for mu = 0, one per mu, and one for the multiplier of a^T y = 1.
        ds_zero, ds_mu = -eta * c / stretch, eta * s / primal / stretch
        base = -t + 2 * w0 * h * ds_zero / eta
        centre = 1.0 / y - cy / primal + 2 * w0 * h * ds_mu / eta
        solved = torch.cholesky_solve(torch.stack([base, a.expand_as(y), centre], -1), factor)
        dy_zero, dy_a, dy_mu = solved.unbind(-1)
        dy_a = dy_a / _dot(a, dy_a)
        dy_zero = dy_zero + (1.0 - _dot(a, y + dy_zero)) * dy_a
        dy_mu = dy_mu - _dot(a, dy_mu) * dy_a
        parts = []
        for dy, ds, dz, dx in (
            (dy_zero, ds_zero, -z, -x),
            (dy_mu, ds_mu, 1.0 / y, -y / primal),
        ):
            hy = _dot(h, dy)
            lift = ds + 2 * w0 * hy / stretch
            parts.append((dy, lift, dz - ratio * dy, dx - (2 * w * (hy - w0 * lift) + dy) / eta))
        affine = 1.0 / _reach(unit, y, z, s, cy, cx, primal, dual, parts[0]).clamp(min=1.0)
        target = mu * ((1.0 - affine) ** 3).clamp(min=1e-4)
        move = tuple(zero + target * per for zero, per in zip(*parts, strict=True))
        length = 0.98 / _reach(unit, y, z, s, cy, cx, primal, dual, move).clamp(min=0.98)
        # Past the accuracy that the distance to the cone's surface can be computed with, steps are noise.
        finite = torch.isfinite(sum(length * part.sum(-1, keepdim=True) for part in move))
        moving = (mu > 1e-11 * s * c) & finite
        y, s, z, x = (torch.where(moving, v + length * dv, v) for v, dv in zip((y, s, z, x), move, strict=True))
    return y * (c / s), z


def _reach(
    unit: Tensor,
    y: Tensor,
    z: Tensor,
    s: Tensor,
    cy: Tensor,
    cx: Tensor,
    primal: Tensor,
    dual: Tensor,
    move: tuple[Tensor, ...],
) -> Tensor:
    """The inverse of the longest step along `move` that stays in the cones."""
    dy, ds, dz, dx = move
    orthant = torch.cat([-dy / y, -dz / z], -1).amax(-1, keepdim=True)
    first, second = s * ds - _dot(cy, dy), ds * ds - _dot(dy, _times(unit, dy))
    cone = ((first * first - primal * second).clamp(min=0).sqrt() - first) / primal
    first, second = -_dot(cx, dx), -_dot(dx, _times(unit, dx))
    other = ((first * first - dual * second).clamp(min=0).sqrt() - first) / dual
    return torch.maximum(torch.maximum(orthant, cone), other)


def _on_support(
    unit: Tensor, t: Tensor, a: Tensor, c: Tensor, x: Tensor, z: Tensor, eye: Tensor
) -> tuple[Tensor, Tensor]:
    """The exact solution on the right set of tasks, pivoting from that of a nearly optimal x; and how wrong it is.

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
    return torch.where(right, exact, x).clamp(min=0), torch.where(right, wrong, 1.0)


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
