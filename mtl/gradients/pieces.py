"""Task gradients on a few leaves, kept in the form that is cheapest to multiply."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtl.gradients.graph import cast, real, shaped, size

#: Multiplications that one in float64 costs where the leaves are in less: on a CPU, and on a GPU with few such units.
_DOUBLE = {"cpu": 2}
_DOUBLE_ELSEWHERE = 32
#: Bytes of a product that is formed in parts, so that it stays in a cache and does not count where memory is short.
_CHUNK = 2**22
#: Numbers whose copy takes less time than an operation.
_SMALL = 2**14

#: Replaces tensors by their means over all processes, in place.
Average = Callable[[Sequence[Tensor]], None]


@dataclass(frozen=True)
class Piece(ABC):
    """The gradients of K tasks on some leaves.

    Attributes:
        leaves: which.
    """

    leaves: Sequence[Tensor]

    @abstractmethod
    def gramian(self) -> Tensor:
        """Their inner products (K, K), in float32 at least."""

    @abstractmethod
    def combined(self, weights: Tensor) -> list[Tensor]:
        """`sum_k weights[k] * g_k` for each leaf; weights are (K,)."""

    @abstractmethod
    def rows(self) -> list[Tensor]:
        """The gradients (K, size) on each leaf."""

    @abstractmethod
    def kept(self, tasks: Tensor) -> Piece:
        """The same with zeros for the tasks where the mask (K,) is False."""

    @abstractmethod
    def averaged(self, average: Average) -> Piece:
        """The mean over all processes."""


@dataclass(frozen=True)
class Rows(Piece):
    """Gradients written out.

    Attributes:
        flat: (K, sum of sizes), the leaves side by side; a complex number as two real ones.
    """

    flat: Tensor

    def gramian(self) -> Tensor:
        flat = widened(self.flat)
        return flat @ flat.T

    def combined(self, weights: Tensor) -> list[Tensor]:
        flat = cast(weights, self.flat.dtype) @ self.flat
        if len(self.leaves) == 1:
            return [shaped(flat, self.leaves[0])]
        pieces = flat.split([size(leaf) for leaf in self.leaves])
        return [shaped(piece, leaf) for piece, leaf in zip(pieces, self.leaves, strict=True)]

    def rows(self) -> list[Tensor]:
        if len(self.leaves) == 1:
            return [self.flat]
        return list(self.flat.split([size(leaf) for leaf in self.leaves], 1))

    def kept(self, tasks: Tensor) -> Rows:
        return Rows(self.leaves, torch.where(tasks[:, None], self.flat, 0))

    def averaged(self, average: Average) -> Rows:
        flat = self.flat.clone()  # two leaves may share one tensor of gradients
        average([flat])
        return Rows(self.leaves, flat)


@dataclass(frozen=True)
class Linear(Piece):
    """Gradients on the weight, and perhaps the bias, of a linear layer: g_k = D_k^T A, not written out.

    A and D_k have one row a use of the layer: an example, a token, a time step. With A A^T = L L^T, the inner products
    of D_k^T A are those of D_k^T L, which is smaller where there are fewer rows than inputs. Both are sums over rows:
    <D_k, A A^T D_j>, smaller still, would lose twice the digits where the rows' gradients cancel. A combination of the
    tasks is one product, (sum_k w_k D_k)^T A, whatever K is.

    Attributes:
        inputs: A (N, in).
        outputs: D (K, N, out), the tasks' gradients on the layer's output.
    """

    inputs: Tensor
    outputs: Tensor

    def gramian(self) -> Tensor:
        tasks, rows, _ = self.outputs.shape
        factor = self._factor()
        dtype = torch.promote_types(self.outputs.dtype, torch.float32)
        result = self.outputs.new_zeros(tasks, tasks, dtype=dtype)
        for part in self.outputs.split(max(1, _CHUNK // (tasks * rows * 8)), 2):
            flat = widened(torch.bmm(part.mT, factor.expand(tasks, rows, rows)).flatten(1))
            result += flat @ flat.T
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
        mixed = (cast(weights, self.outputs.dtype) @ self.outputs.flatten(1)).view(self.outputs.shape[1:])
        return [mixed.T @ self.inputs, mixed.sum(0)][: len(self.leaves)]

    def rows(self) -> list[Tensor]:
        return [(self.outputs.mT @ self.inputs).flatten(1), self.outputs.sum(1)][: len(self.leaves)]

    def kept(self, tasks: Tensor) -> Linear:
        return Linear(self.leaves, self.inputs, torch.where(tasks[:, None, None], self.outputs, 0))

    def averaged(self, average: Average) -> Rows:
        return Rows(self.leaves, torch.cat(self.rows(), 1)).averaged(average)


def linear(leaves: Sequence[Tensor], inputs: Tensor, outputs: Tensor) -> list[Piece]:
    """The gradients on a linear layer, as a product or written out: whichever takes fewer operations.

    Args:
        leaves: the weight, and perhaps the bias.
        inputs: A (N, in).
        outputs: D (K, N, out).
    """
    product = Linear(leaves, inputs, outputs)
    tasks, rows, out = outputs.shape
    width = inputs.shape[1]
    double = _DOUBLE.get(outputs.device.type, _DOUBLE_ELSEWHERE)
    as_product = double * rows * rows * (width + rows) + rows * out * (tasks * (rows + tasks) + width)
    if outputs.dtype != torch.float64 and as_product < tasks * width * out * (rows + tasks):
        return [product]
    return [Rows([leaf], flat) for leaf, flat in zip(leaves, product.rows(), strict=True)]


@dataclass(frozen=True)
class Own(Piece):
    """Gradients on leaves that one task reaches alone, such as its head.

    Attributes:
        task: its index.
        tasks: K.
        gradients: one a leaf.
    """

    task: int
    tasks: int
    gradients: Sequence[Tensor]

    def gramian(self) -> Tensor:
        flat = [widened(real(gradient)).flatten() for gradient in self.gradients]
        result = flat[0].new_zeros(self.tasks, self.tasks)
        result[self.task, self.task] = torch.stack([piece.dot(piece) for piece in flat]).sum()
        return result

    def combined(self, weights: Tensor) -> list[Tensor]:
        weight = cast(weights[self.task], self.gradients[0].dtype.to_real())
        return list(torch._foreach_mul(list(self.gradients), weight))

    def rows(self) -> list[Tensor]:
        rows = []
        for gradient in map(real, self.gradients):
            row = gradient.new_zeros(self.tasks, gradient.numel())
            row[self.task] = gradient.flatten()
            rows.append(row)
        return rows

    def kept(self, tasks: Tensor) -> Own:
        return Own(
            self.leaves,
            self.task,
            self.tasks,
            [torch.where(tasks[self.task], gradient, 0) for gradient in self.gradients],
        )

    def averaged(self, average: Average) -> Own:
        gradients = [gradient.clone(memory_format=torch.contiguous_format) for gradient in self.gradients]
        average(gradients)
        return Own(self.leaves, self.task, self.tasks, gradients)


def side_by_side(pieces: Sequence[Piece], groups: Mapping[int, int]) -> list[Piece]:
    """The pieces, with the small ones that are written out joined: one product of many numbers is quicker than many."""
    small: dict[tuple[int, torch.dtype, torch.device], list[Rows]] = {}
    result: list[Piece] = []
    for piece in pieces:
        if isinstance(piece, Rows) and piece.flat.numel() <= _SMALL:
            key = groups[id(piece.leaves[0])], piece.flat.dtype, piece.flat.device
            small.setdefault(key, []).append(piece)
        else:
            result.append(piece)
    for alike in small.values():
        leaves = [leaf for piece in alike for leaf in piece.leaves]
        result.append(alike[0] if len(alike) == 1 else Rows(leaves, torch.cat([piece.flat for piece in alike], 1)))
    return result


def widened(values: Tensor) -> Tensor:
    """At least float32."""
    return cast(values, torch.promote_types(values.dtype, torch.float32))
