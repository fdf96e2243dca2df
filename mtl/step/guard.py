"""Gradients that are not finite, and the sum that weights make of gradients: the rules, for one run and for many.

A step with all its tasks loses the tasks whose gradients on the shared parameters are not finite, and its strategy is
not updated. A step that lacks some task loses single numbers of gradients. Either is counted as `nonfinite_gradient`.

Shapes have any leading axes: none in a balancer's step, one of members in a population's.
"""

from __future__ import annotations

import torch
from torch import Tensor


def sound_tasks(squares: Tensor) -> Tensor:
    """Which task gradients are finite, from their squared norms (..., K): those whose norm is a number too."""
    return squares.isfinite()


def of_tasks(rows: Tensor, sound: Tensor) -> Tensor:
    """Gradients (..., K, P) with zeros for the tasks where `sound` (..., K) is False."""
    return torch.where(sound[..., None], rows, 0)


def harmless_losses(values: Tensor) -> Tensor:
    """Losses (..., K) with ones for those that are not finite: no solver should meet a NaN, even for nothing."""
    return torch.where(values.isfinite(), values, 1)


def harmless_gramian(gramian: Tensor, sound: Tensor) -> Tensor:
    """A Gramian (..., K, K) with zeros for the tasks where `sound` (..., K) is False."""
    return torch.where(sound[..., :, None] & sound[..., None, :], gramian, 0)


def finite_part(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """A gradient with zeros where it is not finite, and which of its numbers (of its values, if sparse) are."""
    if gradient.is_sparse:
        gradient = gradient.coalesce()
        values, known = finite_part(gradient.values())
        indices = gradient.indices()
        return torch.sparse_coo_tensor(indices, values, gradient.shape, check_invariants=False), known
    known = gradient.isfinite()
    return torch.where(known, gradient, 0), known


def cleared(gradient: Tensor) -> Tensor:
    """A gradient with zeros where it is not finite; one operation on the device, nobody waits for it."""
    return finite_part(gradient)[0] if gradient.is_sparse else torch.nan_to_num(gradient, 0.0, 0.0, 0.0)


def combination(weights: Tensor, rows: Tensor) -> Tensor:
    """`sum_k weights[k] * rows[k]`, (..., P), of gradients (..., K, P) under weights (..., K) or (..., K, P)."""
    if weights.ndim == rows.ndim:
        return (weights * rows).sum(-2)
    return (weights.to(rows.dtype)[..., None, :] @ rows)[..., 0, :]
