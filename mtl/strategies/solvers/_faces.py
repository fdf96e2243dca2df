"""Quadratic programs of a few variables, by looking at every face."""

from __future__ import annotations

import torch
from torch import Tensor

#: The largest K for which all 2^K sets of free variables are solved at once. Up to there one batched factorisation of
#: small matrices is faster than the hundreds of operations of an iteration, for one problem and for 64.
LARGEST = 7
SUBSETS = {
    size: torch.tensor([[bool(face >> k & 1) for k in range(size)] for face in range(2**size)])
    for size in range(1, LARGEST + 1)
}
BLOCKS = {size: free.unsqueeze(-1) & free.unsqueeze(-2) for size, free in SUBSETS.items()}


def best_face(quadratic: Tensor, linear: Tensor, eye: Tensor) -> Tensor:
    """Minimise `x^T Q x / 2 + c^T x` over `x >= 0` exactly: one batched factorisation, no iteration.

    The solution minimises the objective on its own face, so of the 2^K unconstrained minimisers it is the best one
    without a negative entry.

    Args:
        quadratic: (..., K, K) positive definite with K <= LARGEST.
        linear: (..., R, K): R problems that share `quadratic`.
        eye: (K, K).

    Returns:
        (..., R, K).
    """
    size = quadratic.shape[-1]
    free, blocks = SUBSETS[size].to(linear.device), BLOCKS[size].to(linear.device)
    factor = torch.linalg.cholesky_ex(torch.where(blocks, quadratic.unsqueeze(-3), eye))[0]
    pull = linear.mT.unsqueeze(-3)
    x = torch.cholesky_solve(torch.where(free.unsqueeze(-1), -pull, 0.0), factor)  # (..., faces, K, R)
    # At an unconstrained minimiser the objective is half of c^T x.
    objective = torch.where(x.amin(-2) >= 0, (x * pull).sum(-2), torch.inf)
    best = objective.argmin(-2, keepdim=True).unsqueeze(-2)
    return x.take_along_dim(best, -3).squeeze(-3).mT
