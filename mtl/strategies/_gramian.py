"""Shared by strategies that read the Gramian: lengths and cosines of gradients, and divisions that survive zeros."""

from __future__ import annotations

import torch
from torch import Tensor

from mtl.strategies.solvers._early import settled


def inverse(values: Tensor) -> Tensor:
    """1 / values, and 0 where a value is not positive."""
    return torch.where(values > 0, values.reciprocal(), 0)


def lengths(gramian: Tensor) -> Tensor:
    """The gradients' norms (K,)."""
    return gramian.diagonal().clamp(min=0).sqrt()


def cosines(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """The Gramian of the unit gradients (K, K) with ones on its diagonal, and the norms (K,), both in float64.

    A gradient of zero counts as orthogonal to all others.
    """
    g = gramian.double()
    norms = lengths(g)
    inverted = inverse(norms)
    unit = (g * inverted[:, None] * inverted).clamp(-1, 1)
    unit.diagonal().fill_(1)
    return unit, norms


def identity(like: Tensor) -> Tensor:
    """The identity of the size, dtype and device of a square matrix."""
    return torch.eye(like.shape[-1], dtype=like.dtype, device=like.device)


def spectrum(symmetric: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Ascending eigenvalues, eigenvectors in columns, and which eigenvalues are more than rounding.

    Args:
        symmetric: (K, K) positive semidefinite, float64.
        dtype: the precision that its entries were computed in.
    """
    values, vectors = torch.linalg.eigh(symmetric)
    return values, vectors, values > values[-1] * rounding(symmetric, dtype)


def factor(gramian: Tensor) -> Tensor:
    """A matrix F (K, K) in float64 with F^T F = G, however much the gradients differ in length.

    Rounding in the products of gradients is relative to the lengths of the two, so the matrix of cosines tells which
    directions are more than rounding; the eigenvalues of G itself would lose every gradient 1e3 times shorter than the
    longest in float32. Nor is F, whose singular values are the square roots of those, ever squared again.
    """
    g = gramian.double()
    norms = lengths(g)
    inverted = inverse(norms)
    values, vectors, kept = spectrum(g * inverted[:, None] * inverted, gramian.dtype)
    return (vectors * torch.where(kept, values, 0).sqrt()).mT * norms


def taking_part(losses: Tensor, squares: Tensor) -> Tensor:
    """Which tasks (K,) have something left to learn: not those whose loss and squared gradient are both zero; all do
    where none does."""
    part = losses != 0
    if settled(part):
        return part
    part = part | (squares != 0)
    return part | ~part.any(-1, keepdim=True)


def without(gramian: Tensor, part: Tensor) -> Tensor:
    """The Gramian (K, K) with the gradients of the tasks that take no part orthogonal to all others and very long, as
    which they have no share in the shortest vector of a convex hull."""
    if settled(part):
        return gramian
    far = (1e10 * gramian.diagonal().amax()).clamp(max=torch.finfo(gramian.dtype).max / 4)
    far = torch.where(far > 0, far, 1) * identity(gramian)
    return torch.where(part[:, None] & part, gramian, far)


def decompose(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """U, the singular values in descending order, V^T, and which of the values are more than rounding in float64."""
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    return left, values, right, values > values[0] * rounding(matrix, matrix.dtype)


def raised(gramian: Tensor, dtype: torch.dtype) -> Tensor:
    """The Gramian in float64, its diagonal raised by what rounding in `dtype` may have taken from its eigenvalues."""
    return gramian.double() * (1 + 4 * torch.finfo(dtype).eps * identity(gramian.double()))


def rounding(square: Tensor, dtype: torch.dtype) -> float:
    """Relative size of what rounding leaves in place of a zero eigenvalue of a (K, K) matrix measured in `dtype`."""
    return 10 * square.shape[-1] * float(torch.finfo(dtype).eps)


def pseudo_solve(symmetric: Tensor, target: Tensor, dtype: torch.dtype) -> Tensor:
    """The Moore-Penrose inverse of a positive semidefinite (K, K) matrix times `target` (K,) or (K, N)."""
    values, vectors, kept = spectrum(symmetric, dtype)
    inverted = torch.where(kept, 1 / torch.where(kept, values, 1), 0)
    return (vectors * inverted) @ (vectors.T @ target)
