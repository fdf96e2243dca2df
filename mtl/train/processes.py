"""One run that several processes train: each takes its part of every batch, and all make the same steps.

Predictions of all parts are put together before losses are computed, so that every process has the losses of the whole
batch, whatever they are: means over labels of which some are missing, weighted means, what compares examples with each
other. The gradient through the own part is then a process's share of the gradient of the whole batch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from mtl.benchmarks.split import Split
from mtl.benchmarks.tree import first_tensor, mapped
from mtl.step.ranks import Ranks
from mtl.train.accumulate import parts

_Value = TypeVar("_Value")
_CPU = torch.device("cpu")


class ProcessLost(ConnectionError):
    """Another process of the run has ended; the message is one line."""


@dataclass(frozen=True)
class Processes:
    """The processes of `torch.distributed`'s default group, which exists as long as this is used.

    Attributes:
        rank: of this one; that of rank 0 evaluates, writes and speaks.
        size: how many there are.
    """

    rank: int
    size: int

    @property
    def leads(self) -> bool:
        """Whether this is the process that evaluates, writes and speaks."""
        return self.rank == 0

    def part(self, count: int, rank: int | None = None) -> slice:
        """Which of `count` examples are a process's, this one's by default."""
        return parts(count, self.size)[self.rank if rank is None else rank]

    def part_of(self, inputs: Any) -> Any:
        """This process's part of the inputs of a batch."""
        part = self.part(examples(inputs))
        return mapped(lambda leaf: leaf[part], inputs)

    def rows(self, count: int, cuts: int) -> list[Tensor]:
        """The examples of a batch of `count` in `cuts` micro-batches that each process takes, by rank."""
        every = torch.arange(count)
        micro = [every[part] for part in parts(count, cuts)]
        return [torch.cat([own[self.part(len(own), rank)] for own in micro]) for rank in range(self.size)]

    def whole(self, own: Tensor, rows: Sequence[Tensor]) -> Tensor:
        """What all processes have, in one tensor without a graph.

        Args:
            own: (n, ...) of this process, alike in all but n.
            rows: by rank, at which places (n,) its part stands.
        """
        flat = own.to(torch.uint8) if own.dtype == torch.bool else own
        counts = [len(each) for each in rows]
        padded = flat.new_zeros(max(counts), *flat.shape[1:])
        padded[: len(flat)] = flat
        found = [torch.empty_like(padded) for _ in rows]
        dist.all_gather(found, padded)
        together = flat.new_empty(sum(counts), *flat.shape[1:])
        for each, count, part in zip(rows, counts, found, strict=True):
            together[each.to(together.device)] = part[:count]
        return together.to(own.dtype)

    def gathered(self, own: Tensor, count: int) -> Tensor:
        """The predictions (count, ...) of all processes, with the graph of this one's."""
        found: Tensor = _Gathered.apply(own, self, count)  # type: ignore[no-untyped-call]
        return found

    def average_statistics(self, model: nn.Module) -> None:
        """Give the running statistics of normalisation layers their mean over the processes."""
        layers = [module for module in model.modules() if isinstance(module, _NormBase)]
        buffers = [buffer for layer in layers for buffer in (layer.running_mean, layer.running_var)]
        if there := [buffer for buffer in buffers if buffer is not None]:
            Ranks(self.group).average(there)

    @property
    def group(self) -> dist.ProcessGroup:
        """All of them."""
        group = dist.group.WORLD
        assert group is not None  # as long as this is used
        return group

    def agreed(self, wish: bool) -> bool:
        """Whether any process wishes it; all must ask."""
        asked = torch.tensor([wish], dtype=torch.uint8)
        dist.all_reduce(asked, dist.ReduceOp.MAX)
        return bool(asked)

    def said(self, value: Callable[[], _Value]) -> _Value:
        """What the leading process finds, which alone looks for it; all must ask."""
        found: list[Any] = [value() if self.leads else None]
        dist.broadcast_object_list(found, src=0, device=_CPU)
        return found[0]  # type: ignore[no-any-return]

    def dismiss(self) -> None:
        """Tell the others, by the leading process, that there is nothing more to do."""
        # Where a run has failed in all processes alike, the others have ended before.
        with contextlib.suppress(RuntimeError):
            self.said(lambda: None)

    @contextlib.contextmanager
    def noticing(self) -> Iterator[None]:
        """Inside the block the end of another process is a `ProcessLost`."""
        try:
            yield
        except RuntimeError as error:
            if not isinstance(error, dist.DistError) and "gloo" not in str(error):
                raise
            raise ProcessLost(
                f"process {self.rank} of {self.size}: the connection to the others is lost, as where one of them has "
                "ended; the same command with --resume continues"
            ) from error


@dataclass(frozen=True)
class Divided:
    """How processes divide a batch that is read from a disk.

    Args:
        processes: which.
        asked: for so many micro-batches, of each of which a process takes its part.
        size: examples of a batch.
    """

    processes: Processes
    asked: int
    size: int

    @property
    def rank(self) -> int:
        """Of this process."""
        return self.processes.rank

    @cached_property
    def _rows(self) -> list[Tensor]:
        return self.processes.rows(self.size, min(self.asked, self.size))

    @property
    def own(self) -> Tensor:
        """The places (n,) in a batch of the examples that this process reads."""
        return self._rows[self.rank]

    def spread(self, batch: Split) -> Split:
        """A batch with all labels, and zeros in place of inputs that other processes have read."""
        targets = {name: self.processes.whole(own.contiguous(), self._rows) for name, own in batch.targets.items()}
        return Split(mapped(self._among_zeros, batch.inputs), targets)

    def _among_zeros(self, own: Tensor) -> Tensor:
        found = own.new_zeros(self.size, *own.shape[1:])
        found[self.own.to(own.device)] = own
        return found


def examples(inputs: Any) -> int:
    """How many there are in the inputs of a batch."""
    return len(first_tensor(inputs))


def check_parts(sizes: Iterable[int], cuts: int, processes: int) -> None:
    """Raise `ValueError` where a process would have no example of a batch in `cuts` micro-batches.

    Args:
        sizes: examples of a batch, of each task's where tasks have their own.
        cuts: micro-batches of it.
        processes: how many there are.
    """
    for size in sizes:
        if size // cuts < processes:
            cut = f", in {cuts} micro-batches," if cuts > 1 else ""
            raise ValueError(f"a batch of {size} examples{cut} cannot be divided among {processes} processes")


class _Gathered(torch.autograd.Function):
    """Parts of a batch put together. Gradients are averaged over the processes afterwards, so each counts R times."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, processes: Processes, count: int) -> Tensor:
        ctx.part, ctx.size = processes.part(count), processes.size
        rows = [torch.arange(count)[processes.part(count, rank)] for rank in range(processes.size)]
        return processes.whole(own.detach().contiguous(), rows)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = gradients
        return gradient[ctx.part] * ctx.size, None, None
