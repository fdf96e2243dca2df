"""The gradients of all tasks on a few parameters, kept in the form that is cheapest to multiply."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

#: Multiplications in single precision that one in double costs, on a CPU and on a GPU with few units for it.
_DOUBLE = {"cpu": 2}
_DOUBLE_ELSEWHERE = 32
#: Bytes of a product that is formed in parts, so that it stays in a cache and does not count where memory is short.
_CHUNK = 2**22
#: Numbers whose copy takes less time than an operation.
_SMALL = 2**14


@dataclass(frozen=True)
class Piece(ABC):
    """The gradients of K tasks on some parameters.

    Attributes:
        leaves: the parameters.
    """

    leaves: Sequence[Tensor]

    @abstractmethod
    def gramian(self) -> Tensor:
        """Their inner products (K, K), float32 at least."""

    @abstractmethod
    def combined(self, weights: Tensor) -> list[Tensor]:
        """`sum_k weights[k] g_k` for each leaf, in its shape; weights (K,)."""

    @abstractmethod
    def rows(self) -> list[Tensor]:
        """The gradients (K, size) on each leaf."""

    @abstractmethod
    def sums(self) -> Tensor:
        """A number for each task that is finite only where its gradients are, (K,)."""

    @abstractmethod
    def kept(self, tasks: Tensor) -> Piece:
        """The same with zeros for the tasks where the mask (K,) is False."""

    @abstractmethod
    def averaged(self, mean: Callable[[Tensor], Tensor]) -> Piece:
        """The mean over processes."""


@dataclass(frozen=True)
class Rows(Piece):
    """Gradients written out.

    Attributes:
        flat: (K, sum of sizes), the leaves side by side.
    """

    flat: Tensor

    def gramian(self) -> Tensor:
        flat = widened(self.flat)
        return flat @ flat.T

    def combined(self, weights: Tensor) -> list[Tensor]:
        flat = widened(self.flat)
        pieces = (weights.to(flat.dtype) @ flat).split([leaf.numel() for leaf in self.leaves])
        return [piece.view(leaf.shape) for piece, leaf in zip(pieces, self.leaves, strict=True)]

    def rows(self) -> list[Tensor]:
        return list(self.flat.split([leaf.numel() for leaf in self.leaves], 1))

    def sums(self) -> Tensor:
        return widened(self.flat).sum(1)

    def kept(self, tasks: Tensor) -> Rows:
        return Rows(self.leaves, torch.where(tasks[:, None], self.flat, 0))

    def averaged(self, mean: Callable[[Tensor], Tensor]) -> Rows:
        return Rows(self.leaves, mean(self.flat))


@dataclass(frozen=True)
class Product(Piece):
    """Gradients on the weight of a linear layer, and perhaps its bias: g_k = D_k^T A, not written out.

    A and D_k have a row for each time that the layer was applied: an example, a token, a time step. With A A^T = L L^T,
    the inner products of D_k^T A are those of D_k^T L, which is smaller where there are fewer rows than inputs. Both
    sum over rows first: <D_k, A A^T D_j>, smaller still, would lose twice the digits where the rows' gradients cancel.
    A combination of the tasks is one product, (sum_k w_k D_k)^T A, whatever K is.

    Attributes:
        inputs: A (N, in).
        outputs: D (K, N, out), the tasks' gradients on what the layer returns.
    """

    inputs: Tensor
    outputs: Tensor

    def gramian(self) -> Tensor:
        tasks, rows, _ = self.outputs.shape
        factor = self._factor()
        result = self.outputs.new_zeros(tasks, tasks)
        for part in self.outputs.split(max(1, _CHUNK // (tasks * rows * 8)), 2):
            flat = torch.bmm(part.mT, factor.expand(tasks, rows, rows)).flatten(1)
            result.addmm_(flat, flat.T)
        return result

    def _factor(self) -> Tensor:
        """L (N, N) with L L^T = A A^T, computed in float64 so that it is as exact as A itself."""
        inputs = self.inputs.double()
        between = inputs @ inputs.T
        if len(self.leaves) > 1:
            between += 1  # the bias is a weight on an input that is always 1
        # What rounding usually takes from its eigenvalues, and twice what it may take at most; where asking how the
        # first went would make the host wait, the second is taken at once.
        spare = between.trace() * torch.finfo(between.dtype).eps + torch.finfo(between.dtype).tiny
        waits = between.device.type != "cpu"
        for extra in (2 * len(between),) if waits else (1, 2 * len(between)):
            between.diagonal().add_(spare * extra)
            factor, failed = torch.linalg.cholesky_ex(between)
            if waits or not bool(failed):
                break
        factor = torch.where(failed == 0, factor, torch.nan)  # only where the inputs are not finite
        return factor.to(self.outputs.dtype)

    def combined(self, weights: Tensor) -> list[Tensor]:
        mixed = (weights.to(self.outputs.dtype) @ self.outputs.flatten(1)).view(self.outputs.shape[1:])
        return [mixed.T @ self.inputs, mixed.sum(0)][: len(self.leaves)]

    def rows(self) -> list[Tensor]:
        return [(self.outputs.mT @ self.inputs).flatten(1), self.outputs.sum(1)][: len(self.leaves)]

    def sums(self) -> Tensor:
        return (self.outputs.sum(2) @ self.inputs).sum(1)

    def kept(self, tasks: Tensor) -> Product:
        # An input that is not finite spoils every task, and would still do so times zero.
        inputs = torch.where(tasks.any(), self.inputs, 0)
        return Product(self.leaves, inputs, torch.where(tasks[:, None, None], self.outputs, 0))

    def averaged(self, mean: Callable[[Tensor], Tensor]) -> Rows:
        return Rows(self.leaves, mean(torch.cat(self.rows(), 1)))


def of_linear(leaves: Sequence[Tensor], inputs: Tensor, outputs: Tensor) -> list[Piece]:
    """The gradients on a linear layer, as a product or written out: whichever takes fewer operations.

    Args:
        leaves: the weight, and perhaps the bias.
        inputs: A (N, in).
        outputs: D (K, N, out).
    """
    product = Product(leaves, inputs, outputs)
    tasks, rows, out = outputs.shape
    size = inputs.shape[1]
    double = _DOUBLE.get(outputs.device.type, _DOUBLE_ELSEWHERE)
    as_product = double * rows * rows * (size + rows) + rows * out * (tasks * (rows + tasks) + size)
    if outputs.dtype == torch.float32 and as_product < tasks * size * out * (rows + tasks):
        return [product]
    return [Rows([leaf], flat) for leaf, flat in zip(leaves, product.rows(), strict=True)]


def joined(pieces: Sequence[Piece]) -> list[Piece]:
    """The pieces, the small ones that are written out side by side: one product of many numbers beats many of few."""
    small: dict[tuple[torch.dtype, torch.device], list[Rows]] = {}
    result: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Rows) and piece.flat.numel() <= _SMALL:
            small.setdefault((piece.flat.dtype, piece.flat.device), []).append(piece)
        else:
            result.append(piece)
    for alike in small.values():
        leaves = [leaf for piece in alike for leaf in piece.leaves]
        result.append(alike[0] if len(alike) == 1 else Rows(leaves, torch.cat([piece.flat for piece in alike], 1)))
    return result


def widened(values: Tensor) -> Tensor:
    """The values in float32 at least."""
    return values.to(torch.promote_types(values.dtype, torch.float32))
