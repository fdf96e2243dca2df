"""Small linear programs over the simplex."""

from __future__ import annotations

import torch
from torch import Tensor

from mtl.strategies.solvers._interior import interior_point

_PENALTY = 1e7


def simplex_lp(objective: Tensor, matrix: Tensor, lower: Tensor, free: int = 0) -> Tensor:
    """Maximise `objective^T x` over `x >= 0` with the first entries of x summing to one and `matrix x >= lower`.

    The inequalities are met up to 1e-7 of their multipliers: with slacks s >= 0, the square of `matrix x - s - lower`
    is charged to the objective, each row brought to entries of order one first. Where they contradict each other the
    violation is the least in that square, so that the result is always finite. The objective should be of order one.

    Args:
        objective: (N,).
        matrix: (M, N).
        lower: (M,).
        free: how many entries at the end of x are outside of the sum.

    Returns:
        (N,) in float64; the analytic centre of several maximisers.
    """
    rows, size = matrix.shape
    matrix, lower = matrix.double(), lower.double()
    length = torch.maximum(matrix.abs().amax(-1), lower.abs())
    length = torch.where(length > 0, length, 1)
    matrix, lower = matrix / length[:, None], lower / length
    slack = torch.eye(rows, dtype=torch.float64, device=matrix.device)
    block = torch.cat([matrix, -slack], -1)
    quadratic = block.T @ block
    eye = torch.eye(size + rows, dtype=torch.float64, device=matrix.device)
    ones = torch.ones_like(lower)
    linear = -block.T @ lower
    linear = linear - torch.cat([objective.double(), 0 * ones]) / _PENALTY
    inside = torch.arange(size + rows, device=matrix.device) < size - free
    point, _ = interior_point(quadratic + 1e-13 * eye, linear, eye, inside.double(), rounds=60)
    return point[:size].clamp(min=0)
