"""Quadratic programs over the probability simplex."""

from __future__ import annotations

import torch
from torch import Tensor

from mtl.strategies.solvers._faces import LARGEST, best_face
from mtl.strategies.solvers._interior import interior_point
from mtl.strategies.solvers._scaling import equilibrate, pivot, polish

#: Picks one of many equally good solutions, the same one for equal tasks; its cost in accuracy is of the same order.
RIDGE = 1e-10


def min_norm(gramian: Tensor) -> Tensor:
    """The shortest vector in the convex hull of the gradients: `min_w w^T G w` over the simplex.

    The inner problem of MGDA (Desideri 2012; Sener & Koltun, NeurIPS 2018, eq. 3), where the latter runs Frank-Wolfe.
    Here it is exact: with y_i = w_i |g_i| and C the cosines between the gradients the problem is `min y^T C y` subject
    to `y >= 0, sum_i y_i / |g_i| = 1`, which has the solution of `min y^T (C + a a^T) y / 2 - a^T y` over `y >= 0` with
    a_i = 1 / |g_i|, up to a factor. Its entries are of order one for gradients of any scale. Two tasks have a closed
    form.

    Args:
        gramian: (..., K, K) symmetric positive semidefinite.

    Returns:
        (..., K) weights of sum one. Where several solve the problem, equal tasks get equal weights; rows of zeros share
        the whole weight.
    """
    size = gramian.shape[-1]
    if size == 1:
        return torch.ones_like(gramian[..., 0])
    if size == 2:
        return _min_norm_of_two(gramian)
    unit, length, eye = equilibrate(gramian, zero_row=1e-30, ridge=RIDGE)
    a = length.amin(-1, keepdim=True) / length
    quadratic = torch.addcmul(unit, a.unsqueeze(-1), a.unsqueeze(-2))
    if size <= LARGEST:
        y = best_face(quadratic, -a.unsqueeze(-2), eye).squeeze(-2)
    elif (pivoted := pivot(quadratic, -a, eye)) is not None:
        y = pivoted
    else:
        x, z = interior_point(quadratic, -a, eye, None, rounds=18)
        y = polish(quadratic, -a, x > z, eye, rounds=1, otherwise=x)
    w = a * y
    return (w / w.sum(-1, keepdim=True)).to(gramian.dtype)


def _min_norm_of_two(gramian: Tensor) -> Tensor:
    """`w_1 = (g_2 - g_1)^T g_2 / |g_1 - g_2|^2`, clipped to [0, 1] (Sener & Koltun 2018, eq. 6)."""
    g = gramian.double()
    squares = g.diagonal(dim1=-2, dim2=-1)
    # Equal gradients leave 0 / 0: a few rounding errors of the shorter one, added to both sides, make that 1 / 2. They
    # fade as the gradients part: a constant would push every point of a Pareto front in one direction.
    few = squares.amin(-1, keepdim=True) * (1e4 * torch.finfo(gramian.dtype).eps) + 1e-300
    pull = squares.flip(-1) - g[..., :1, 1]
    pull = pull + few * (few / (pull.sum(-1, keepdim=True).clamp(min=0) + few)) ** 2
    return (pull / pull.sum(-1, keepdim=True)).clamp(0.0, 1.0).to(gramian.dtype)


def simplex_qp(quadratic: Tensor, linear: Tensor | None = None) -> Tensor:
    """Minimise `w^T Q w / 2 + c^T w` over the simplex `w >= 0, sum(w) = 1`.

    An interior-point method. Accuracy is relative to the largest entry of Q and c: for Gramians whose rows differ by
    orders of magnitude and no linear term, `min_norm` scales each row.

    Args:
        quadratic: (..., K, K) symmetric positive semidefinite.
        linear: (..., K), zero when omitted.

    Returns:
        (..., K) weights in the dtype of `quadratic`; of several minimisers one that treats equal tasks equally.
    """
    q = quadratic.double()
    size = q.shape[-1]
    c = torch.zeros_like(q[..., 0]) if linear is None else linear.double().expand_as(q[..., 0])
    # Neither the scale of the objective nor a constant in c moves the minimiser.
    c = c - c.amin(-1, keepdim=True)
    scale = torch.maximum(q.abs().amax((-2, -1)), c.amax(-1)).clamp(min=1e-300).unsqueeze(-1)
    eye = torch.eye(size, dtype=q.dtype, device=q.device)
    ridge = max(RIDGE, 4 * size * torch.finfo(quadratic.dtype).eps)
    q, c = q / scale.unsqueeze(-1) + ridge * eye, c / scale
    w = interior_point(q, c, eye, torch.ones_like(c), rounds=20)[0].clamp(min=0)
    return (w / w.sum(-1, keepdim=True)).to(quadratic.dtype)


def project_simplex(point: Tensor) -> Tensor:
    """The Euclidean projection onto the simplex, `max(v - t, 0)` with t such that the sum is one (Duchi et al. 2008).

    Args:
        point: (..., K).

    Returns:
        (..., K) nonnegative weights of sum one.
    """
    v = point.double()
    v = v - v.amax(-1, keepdim=True)  # invariant, and keeps digits for large entries
    falling = v.sort(dim=-1, descending=True).values
    rank = torch.arange(1, v.shape[-1] + 1, dtype=v.dtype, device=v.device)
    # The threshold of the k largest entries is largest at the k that is right.
    threshold = ((falling.cumsum(-1) - 1.0) / rank).amax(-1, keepdim=True)
    return (v - threshold).clamp(min=0).to(point.dtype)
