"""Shared by strategies that read the Gramian: lengths and cosines of gradients, and divisions that survive zeros."""

from __future__ import annotations

import torch
from torch import Tensor


def inverse(values: Tensor) -> Tensor:
    """1 / values, and 0 where a value is not positive."""
    positive = values > 0
    return torch.where(positive, 1 / torch.where(positive, values, 1), 0)


def lengths(gramian: Tensor) -> Tensor:
    """The gradients' norms (K,)."""
    return gramian.diagonal().clamp(min=0).sqrt()


def cosines(gramian: Tensor) -> tuple[Tensor, Tensor]:
    """The Gramian of the unit gradients (K, K) with ones on its diagonal, and the norms (K,), both in float64.

    A gradient of zero counts as orthogonal to all others.
    """
    norms = lengths(gramian.double())
    inverted = inverse(norms)
    unit = (gramian.double() * inverted[:, None] * inverted).clamp(-1, 1)
    return torch.where(identity(unit) > 0, 1.0, unit), norms


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
