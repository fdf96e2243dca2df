"""Penalties on parameters, as a part of the gradients: of sizes (`l1`, `l2`), and of weights as matrices.

A weight is a matrix of its first axis by all others: a convolution's kernel is (out, in x height x width).
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from mtl.population.values import Values


def as_matrix(shape: Sequence[int], dtype: torch.dtype) -> tuple[int, int] | None:
    """Rows and columns of a parameter as a matrix; None for vectors and complex numbers, which have no such penalty."""
    if len(shape) < 2 or dtype.is_complex or 0 in shape:
        return None
    return shape[0], torch.Size(shape[1:]).numel()


def directions(columns: Mapping[str, int], seed: int, like: Tensor) -> list[Tensor]:
    """Unit vectors at which power iterations begin, for each matrix of a model by its name and number of columns.

    One depends on the seed and the name alone, not on the order of the parameters.
    """
    found = []
    for name, size in columns.items():
        generator = torch.Generator().manual_seed((seed << 32 | zlib.crc32(name.encode())) % 2**63)
        vector = torch.randn(size, generator=generator, dtype=torch.float64)
        found.append((vector / vector.norm()).to(like))
    return found


def turned(matrix: Tensor, direction: Tensor) -> Tensor:
    """One power iteration of WᵀW: `direction` (..., n) nearer to the first right singular vector of W (..., m, n)."""
    found = (matrix.mT @ (matrix @ direction[..., None]))[..., 0]
    size = torch.linalg.vector_norm(found, dim=-1, keepdim=True)
    return torch.where(size > 0, found / size, direction)


def spectral_pull(matrix: Tensor, direction: Tensor) -> Tensor:
    """The gradient 2 W v vᵀ of ‖W v‖², which is the largest singular value squared where v is its vector.

    Yoshida & Miyato, Spectral Norm Regularization, arXiv:1705.10941, 2017, algorithm 1.
    """
    return 2 * (matrix @ direction[..., None]) * direction[..., None, :]


def spectral_size(matrix: Tensor, direction: Tensor) -> Tensor:
    """‖W v‖² (...)."""
    return (matrix @ direction[..., None]).square().sum((-2, -1))


def orthogonal_pull(matrix: Tensor) -> Tensor:
    """The gradient 4 (W Wᵀ W - W) of ‖W Wᵀ - I‖², which is that of ‖Wᵀ W - I‖² too.

    Bansal et al., Can We Gain More from Orthogonality Regularizations?, NeurIPS 2018, eq. 2.
    """
    rows, columns = matrix.shape[-2:]
    cubed = (matrix @ matrix.mT) @ matrix if rows <= columns else matrix @ (matrix.mT @ matrix)
    return 4 * (cubed - matrix)


def orthogonal_size(matrix: Tensor) -> Tensor:
    """‖W Wᵀ - I‖² or ‖Wᵀ W - I‖² (...), which differ by a constant: that of the smaller product."""
    rows, columns = matrix.shape[-2:]
    product = matrix @ matrix.mT if rows <= columns else matrix.mT @ matrix
    return (product - torch.eye(product.shape[-1], dtype=product.dtype, device=product.device)).square().sum((-2, -1))


class Matrices:
    """The weights of a member in a row (P,) of parameters that are matrices.

    Args:
        names: of the tensors in their order.
        shapes: of each.
        sizes: places in the row that each takes.
        dtypes: of each.
    """

    def __init__(
        self,
        names: Sequence[str],
        shapes: Sequence[Sequence[int]],
        sizes: Sequence[int],
        dtypes: Sequence[torch.dtype],
    ) -> None:
        self._spans: list[tuple[slice, tuple[int, int]]] = []
        #: Of each matrix by name.
        self.columns: dict[str, int] = {}
        start = 0
        for name, shape, size, dtype in zip(names, shapes, sizes, dtypes, strict=True):
            if form := as_matrix(shape, dtype):
                self._spans.append((slice(start, start + size), form))
                self.columns[name] = form[1]
            start += size

    def pull(self, rows: Tensor, values: Values, starts: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The gradients (N, P) of the penalties `spectral` and `orthogonal`, (N, 1) each.

        Args:
            rows: parameters (N, P).
            values: both weights.
            starts: (N, sum of columns) of the power iterations, one after another; None where `spectral` is not used.

        Returns:
            The gradients, and the directions after one more iteration each.
        """
        pull, turns = torch.zeros_like(rows), []
        every = starts.split([*self.columns.values()], 1) if starts is not None else [None] * len(self._spans)
        spectral, orthogonal = (values[name].to(rows)[:, :, None] for name in ("spectral", "orthogonal"))
        for (span, form), start in zip(self._spans, every, strict=True):
            matrix = rows[:, span].unflatten(1, form)
            found = orthogonal * orthogonal_pull(matrix)
            if start is not None:
                direction = turned(matrix, start)
                found = found + spectral * spectral_pull(matrix, direction)
                turns.append(direction)
            pull[:, span] = found.flatten(1)
        return pull, torch.cat(turns, 1) if turns else starts


def sized_pull(parameters: Tensor, values: Values) -> Tensor:
    """The gradients (N, P) of the penalties `l1` Σ|p| and `l2` Σp², whose weights are (N, 1) or (N, P)."""
    return values["l1"].to(parameters) * parameters.sign() + 2 * values["l2"].to(parameters) * parameters
