"""Quadratic programs over an orthant, and projections onto the dual cone of the gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from mtl.strategies.solvers._faces import best_face
from mtl.strategies.solvers._interior import interior_point
from mtl.strategies.solvers._scaling import equilibrate, pivot, polish

#: Numbers that an array may have to stay in the cache of one core.
CACHED = 2**15


def nonnegative_qp(quadratic: Tensor, linear: Tensor, lower: Tensor | None = None) -> Tensor:
    """Minimise `v^T Q v / 2 + c^T v` over `v >= lower` by an interior-point method and a final active-set solve.

    The problem must be bounded below (on a singular Q, c has no descent along a nonnegative null vector); if it is not,
    the result is finite and means nothing.

    Args:
        quadratic: (..., K, K) symmetric positive semidefinite.
        linear: (..., K).
        lower: (..., K), zero when omitted.

    Returns:
        (..., K) in the dtype of `quadratic`.
    """
    unit, length, eye = equilibrate(quadratic, zero_row=1.0, ridge=1e-10)
    c = linear.double()
    if lower is not None:
        c = c + (quadratic.double() @ lower.double().unsqueeze(-1)).squeeze(-1)
    # The minimiser is proportional to c: a unit c keeps the central path at order one.
    c = c / length
    scale = c.abs().amax(-1, keepdim=True).clamp(min=1e-300)
    c = c / scale
    x = pivot(unit, c, eye)
    if x is None:
        near, z = interior_point(unit, c, eye, None, rounds=18)
        x = polish(unit, c, near > z, eye, rounds=1, otherwise=near)
    x = x * scale / length
    return (x if lower is None else x + lower).to(quadratic.dtype)


def project_cone(gramian: Tensor, lower: Tensor, norm_eps: float = 1e-4, reg_eps: float | Tensor = 1e-4) -> Tensor:
    """Weights of the projection of `J^T u` onto the dual cone of the gradients: `argmin v^T G v` over `v >= u`.

    For u = preference it is DualProj (GEM, Lopez-Paz & Ranzato, NeurIPS 2017, eq. 11); for the rows of
    diag(preference), summed, it is UPGrad (Quinton & Rey 2024, eq. 3 and prop. 1). As in TorchJD, G is first divided by
    its trace (and set to zero where the trace is below `norm_eps`), and `reg_eps` is added to its diagonal. With
    norm_eps = 0 the result does not depend on the scale of G.

    All u share one matrix M, so a modulus iteration `V <- |V| M + k` (Bai 2010), which converges for every positive
    definite G, finds the constraints that bind by matrix products alone; an active-set method from there is exact.

    Args:
        gramian: (..., K, K) symmetric positive semidefinite.
        lower: (..., K) one u, or (..., R, K) R of them; nonnegative. Its number of dimensions tells which: that of
            `gramian` means rows.
        norm_eps: the trace below which G counts as zero.
        reg_eps: the multiple of the identity added to G / trace(G).

    Returns:
        weights of the shape of `lower` (leading dimensions broadcast) and the dtype of `gramian`.
    """
    rows = lower.dim() >= gramian.dim()
    g, u = gramian.double(), lower.double()
    u = u if rows else u.unsqueeze(-2)
    size = g.shape[-1]
    eye = torch.eye(size, dtype=g.dtype, device=g.device)
    trace = g.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    # Rounding alone may cost G a negative eigenvalue of this size.
    least = max(1e-12, 4 * size * torch.finfo(gramian.dtype).eps)
    reg_eps = reg_eps.double().clamp(min=least) if isinstance(reg_eps, Tensor) else max(reg_eps, least)
    g = torch.where(trace > max(norm_eps, 1e-300), g / trace, 0.0) + reg_eps * eye
    if norm_eps == 0:
        g = torch.where(trace > 0, g, eye)
    # The iteration is cheap enough to win earlier where many are solved at once.
    few = 6 if g.dim() == 2 else 4
    if size <= 2:
        # At most one constraint beyond u can be violated, and lifting that task alone repairs it.
        v = u + (-(u @ g) / g.diagonal(dim1=-2, dim2=-1).unsqueeze(-2)).clamp(min=0)
    else:
        shrink = g.diagonal(dim1=-2, dim2=-1).rsqrt().unsqueeze(-2)
        pull = (u @ g) * shrink
        unit = g * shrink * shrink.mT
        x = best_face(unit, pull, eye) if size <= few else _nearest(unit, pull, eye)
        v = u + x * shrink
    return (v if rows else v.squeeze(-2)).to(gramian.dtype)


def _nearest(quadratic: Tensor, linear: Tensor, eye: Tensor) -> Tensor:
    """Minimise `x^T Q x / 2 + c^T x` over `x >= 0` for the rows c of (..., R, K) `linear`, Q of unit diagonal."""
    if linear.dim() == 2 or linear.device.type != "cpu":
        return _alone(quadratic, linear, eye)
    # R matrices for each of many problems leave the cache of a processor, and are then limited by its memory.
    few = max(1, CACHED // (linear.shape[-2] * eye.numel()))
    many = quadratic.expand(*linear.shape[:-2], *eye.shape).flatten(0, -3)
    parts = zip(many.split(few), linear.flatten(0, -3).split(few), strict=True)
    return torch.cat([_alone(q, c, eye) for q, c in parts]).reshape(linear.shape)


def _alone(quadratic: Tensor, linear: Tensor, eye: Tensor) -> Tensor:
    pivoted = pivot(quadratic, linear, eye)
    return _modulus(quadratic, linear, eye) if pivoted is None else pivoted


def _modulus(quadratic: Tensor, linear: Tensor, eye: Tensor, rounds: int = 60) -> Tensor:
    """The same by a modulus iteration.

    x = (|v| + v) / 2 and its multiplier rho (|v| - v) / 2 solve the problem at the fixed point of
    `(rho + Q) v = (rho - Q) |v| - 2 c`. Signs settle soonest with a rho that grows with Q's largest eigenvalue.
    """
    rho = max(0.05, quadratic.shape[-1] / 250)
    inverse = torch.linalg.inv_ex(quadratic + rho * eye)[0]
    mix = 2 * rho * inverse - eye
    offset = -2.0 * (linear @ inverse)
    v = offset
    fused = torch.addmm if linear.dim() == 2 else torch.baddbmm
    for _ in range(rounds):
        v = fused(offset, v.abs(), mix) if linear.dim() <= 3 else offset + v.abs() @ mix
    otherwise = (v.abs() + v) / 2
    return polish(quadratic, linear, v > 0, eye, rounds=3, otherwise=otherwise)
