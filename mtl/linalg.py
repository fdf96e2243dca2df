"""Small dense problems on K x K Gramians: batched over leading dimensions, fixed iterations, no host synchronisation."""

from __future__ import annotations

import torch
from torch import Tensor


def simplex_qp(quadratic: Tensor, linear: Tensor | None = None, iterations: int = 25) -> Tensor:
    """Minimise `w^T Q w / 2 + c^T w` over the simplex `w >= 0, sum(w) = 1`.

    A primal-dual interior-point method with Mehrotra's predictor and corrector (Nocedal & Wright 2006, ch. 16.6). It
    converges in some ten iterations whatever the conditioning, so a fixed number of them is both exact and branch-free;
    among several minimisers it returns the analytic centre, which keeps equal tasks equal.

    Args:
        quadratic: (..., K, K) symmetric positive semidefinite.
        linear: (..., K), zero when omitted.
        iterations: interior-point steps.

    Returns:
        (..., K) weights in the dtype of `quadratic`; computed in float64.
    """
    dtype, size = quadratic.dtype, quadratic.shape[-1]
    q = quadratic.double()
    c = torch.zeros_like(q[..., 0]) if linear is None else linear.double()
    # The minimiser does not change with the scale of the objective: bring the entries to order one.
    scale = torch.maximum(q.abs().amax((-2, -1)), c.abs().amax(-1)).clamp(min=torch.finfo(q.dtype).tiny)
    q, c = q / scale[..., None, None], c / scale[..., None]
    w = torch.full_like(c, 1.0 / size)
    z = torch.ones_like(c)  # multipliers of w >= 0
    y = torch.zeros_like(c[..., 0])  # multiplier of sum(w) = 1
    for _ in range(iterations):
        dual = q @ w[..., None]
        r_dual = dual[..., 0] + c - y[..., None] - z
        r_primal = w.sum(-1) - 1
        gap = (w * z).mean(-1, keepdim=True)
        kkt = q + torch.diag_embed(z / w)
        factor = torch.linalg.cholesky_ex(kkt)[0]

        def step(target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            """Newton direction towards complementarity products of zero plus `target`."""
            rhs = torch.stack([-r_dual - z + target / w, torch.ones_like(w)], -1)  # noqa: B023
            solved = torch.cholesky_solve(rhs, factor)  # noqa: B023
            a, b = solved[..., 0], solved[..., 1]
            dy = -(r_primal + a.sum(-1)) / b.sum(-1)  # noqa: B023
            dw = a + dy[..., None] * b
            return dw, (target - z * dw) / w - z, dy  # noqa: B023

        dw, dz, _ = step(torch.zeros_like(w))
        reach = _step_length(w, dw), _step_length(z, dz)
        predicted = ((w + reach[0] * dw) * (z + reach[1] * dz)).mean(-1, keepdim=True)
        centring = (predicted / gap).clamp(0, 1) ** 3
        dw, dz, dy = step(centring * gap - dw * dz)
        # One step length for both sides keeps the dual residual falling when Q couples them.
        length = 0.995 * torch.minimum(_step_length(w, dw), _step_length(z, dz))
        moved = torch.isfinite(dw).all(-1, keepdim=True) & torch.isfinite(dz).all(-1, keepdim=True)
        moved = moved & (gap > 1e-30)
        w = torch.where(moved, w + length * dw, w)
        z = torch.where(moved, z + length * dz, z)
        y = torch.where(moved[..., 0], y + length[..., 0] * dy, y)
    w = w.clamp(min=0)
    return (w / w.sum(-1, keepdim=True)).to(dtype)


def _step_length(value: Tensor, direction: Tensor) -> Tensor:
    """The longest step in (0, 1] that keeps `value + step * direction` positive."""
    limit = torch.where(direction < 0, -value / direction, torch.inf)
    return limit.amin(-1, keepdim=True).clamp(max=1.0)
