"""Reads batches of a data set, in this process or ahead of time by processes of a DataLoader.

What is read is a pure function of the request: which examples, and the seed of whatever the data set draws while it
reads them. So it does not depend on the number of processes, and a run that goes on needs no state of a loader.
"""

from __future__ import annotations

import atexit
import itertools
import multiprocessing
import os
import random
import signal
import threading
import weakref
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate, get_worker_info

from mtl.benchmarks import tree
from mtl.messages import in_one_line, kind_of

#: Makes one batch of a list of examples.
Collate = Callable[[list[Any]], Any]

_AHEAD = 2  # batches that each process reads ahead


class ReadFailed(RuntimeError):
    """A data set raised an error, or gave something else than an example; one line that names split and example."""


def derived_seed(*entropy: int) -> int:
    """An independent seed for each tuple of whole numbers (NumPy's SeedSequence)."""
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0]) >> 1


class Request(NamedTuple):
    """One batch to read.

    Attributes:
        examples: their numbers.
        entropy: of the seed under which they are read; requests of one data set with equal entropy are equal.
    """

    examples: Sequence[int]
    entropy: tuple[int, ...]


@dataclass(frozen=True)
class _Failure:
    """What went wrong in a process that reads, as text: an error itself would come with a page of traceback."""

    text: str


@dataclass(frozen=True)
class Reading(Dataset[Any]):
    """A data set whose items are whole batches.

    Args:
        dataset: of examples, pairs of inputs and targets by task.
        name: of the split, for messages.
        collate: makes one batch of a list of examples; None for PyTorch's.
        ignored: by task the label that says that one is missing.
        targets_only: reads no inputs, where the data set has a method `target` that gives the labels of an example.
        task: whose own data set it is; its targets may then be labels alone. Empty where tasks share it.
        chosen: numbers of the examples that are read, (n,), where it is some of the data set; None where it is all.
            Requests count these; messages name the examples as the data set does.
    """

    dataset: Any
    name: str
    collate: Collate | None = None
    ignored: Mapping[str, float] | None = None
    targets_only: bool = False
    task: str = ""
    chosen: Tensor | None = None

    def __len__(self) -> int:
        """How many examples are read."""
        return len(self.dataset) if self.chosen is None else len(self.chosen)

    def __getitem__(self, requests: Sequence[Request]) -> Any:
        """Inputs and targets (N, B, ...) of N requests, or a `_Failure`."""
        try:
            every = [self._batch(request) for request in requests]
            # A single batch is not copied: that would take as long as reading it.
            return tree.mapped(lambda leaf: leaf[None], every[0]) if len(every) == 1 else tree.stacked(every)
        except ReadFailed as error:
            return _Failure(str(error))

    def _batch(self, request: Request) -> Any:
        alone = self.targets_only and hasattr(self.dataset, "target")
        numbers = request.examples if self.chosen is None else self.chosen[list(request.examples)].tolist()
        with _seeded(derived_seed(*request.entropy)):
            items = [self._item(number, alone) for number in numbers]
            collate = (None if alone else self.collate) or default_collate
            try:
                batch = collate(items)
            except Exception as error:  # of a user's, or examples that do not fit together
                raise self._failed(f"examples {_listed(numbers)} make no batch", error) from error
        inputs, targets = (None, batch) if alone else self._pair(batch, f"the batch of {_listed(numbers)}")
        if self.task and isinstance(targets, Tensor):
            targets = {self.task: targets}
        if not isinstance(targets, Mapping):
            raise ReadFailed(f"{self._where}: the targets of an example are no dict with labels for each task")
        marked = {name: _marked(target, (self.ignored or {}).get(name)) for name, target in targets.items()}
        return (torch.empty(len(numbers), 0) if self.targets_only else inputs), marked

    def _item(self, number: int, alone: bool) -> Any:
        try:
            item = self.dataset.target(number) if alone else self.dataset[number]
        except Exception as error:  # a data set of a user's may raise anything
            raise self._failed(f"example {number} cannot be read", error) from error
        return item if alone else self._pair(item, f"example {number}")

    def _pair(self, item: Any, what: str) -> Any:
        if not isinstance(item, tuple | list) or len(item) != 2:
            raise ReadFailed(f"{self._where}: {what} is {kind_of(item)}; a pair (inputs, targets) is wanted")
        return item

    def _failed(self, what: str, error: Exception) -> ReadFailed:
        return ReadFailed(f"{self._where}: {what}: {in_one_line(error)}")

    @property
    def _where(self) -> str:
        """The split, and the task whose own it is, for messages."""
        return f"{self.name} split" + (f", task {self.task!r}" if self.task else "")


def _marked(target: Any, ignore: float | None) -> Any:
    return tree.marked(target, ignore) if isinstance(target, Tensor) else target


def _listed(index: Sequence[int]) -> str:
    return ", ".join(map(str, index[:3])) + ", ..." * (len(index) > 3)


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seeds what a data set may draw from: torch on the CPU, NumPy and `random`. A run's own state stays."""
    ours = get_worker_info() is None  # a process that only reads has no state to keep
    before = (torch.get_rng_state(), np.random.get_state(), random.getstate()) if ours else None
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed % 2**32)
    random.seed(seed)
    try:
        yield
    finally:
        if before is not None:
            torch.set_rng_state(before[0])
            np.random.set_state(before[1])
            random.setstate(before[2])


def read_all(
    reading: Reading, plan: Iterable[Sequence[Request]], workers: int, *, pin: bool = False
) -> Generator[Any, None, None]:
    """The batches of a plan in its order.

    Args:
        reading: what is read.
        plan: requests of one batch each; with processes it is asked ahead of time.
        workers: processes; 0 reads in this one.
        pin: put batches where a GPU copies them from faster.

    Raises:
        ReadFailed: by the data set.
    """
    if not workers:
        batches: Iterable[Any] = map(reading.__getitem__, plan)
    else:
        # A generator of its own: the loader draws a base seed, and must not draw it from the run's.
        batches = DataLoader(
            reading,
            batch_size=None,
            sampler=plan,
            num_workers=workers,
            collate_fn=_as_it_is,
            prefetch_factor=_AHEAD,
            pin_memory=pin,
            worker_init_fn=_begin,
            generator=torch.Generator(),
        )
    for batch in batches:
        if isinstance(batch, _Failure):
            raise ReadFailed(batch.text)
        yield batch


def _as_it_is(batch: Any) -> Any:
    return batch


def _begin(_worker: int) -> None:
    """Signals to every process of a terminal or a job are for the run to decide on; it ends its readers itself."""
    for number in (signal.SIGINT, signal.SIGUSR1, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _spare_once)
    threading.Thread(target=_end_with_the_run, daemon=True).start()


def _end_with_the_run() -> None:
    """A reader of torch looks who its parent is only once it reads: of a run killed before, it would stay for ever."""
    run = multiprocessing.parent_process()
    assert run is not None  # for who reads was started by a run
    run.join()
    os._exit(1)


def _spare_once(number: int, _frame: object) -> None:
    """The first may be the job's; a second is for a process that does not come to its end."""
    signal.signal(number, signal.SIG_DFL)


class Loader:
    """Batches by their steps, read ahead as long as steps follow each other evenly.

    Args:
        reading: what is read.
        plan: from the steps of some members to their requests.
        workers: processes.
        device: where batches go.
    """

    def __init__(
        self,
        reading: Reading,
        plan: Callable[[Sequence[int]], Sequence[Request]],
        workers: int,
        device: torch.device,
    ) -> None:
        self._reading, self._plan, self._workers, self._device = reading, plan, workers, device
        self._batches: Generator[Any, None, None] | None = None
        _LOADERS.add(self)
        self._last: tuple[int, ...] = ()
        self._next: tuple[int, ...] = ()
        self._stride = 1

    def read(self, steps: Sequence[int]) -> Any:
        """Inputs and targets of these steps' requests."""
        steps = tuple(steps)
        if self._batches is None or steps != self._next:
            self._open(steps)
        assert self._batches is not None
        batch = next(self._batches)
        self._last, self._next = steps, tuple(step + self._stride for step in steps)
        return tree.mapped(lambda leaf: leaf.to(self._device, non_blocking=True), batch)

    def _open(self, steps: tuple[int, ...]) -> None:
        """Begin at `steps`, and go on as far as from the last ones to these: a strategy may look every tenth step."""
        ahead = {now - last for now, last in zip(steps, self._last, strict=False)}
        self._stride = ahead.pop() if len(ahead) == 1 and min(ahead) > 0 else 1
        self.close()
        plan = _from(self._plan, steps, self._stride)
        self._batches = read_all(self._reading, plan, self._workers, pin=self._device.type == "cuda")

    def close(self) -> None:
        """End the processes; reading begins anew where it is asked for."""
        if self._batches is not None:
            self._batches.close()
        self._batches = None


def _from(
    plan: Callable[[Sequence[int]], Sequence[Request]], steps: Sequence[int], stride: int
) -> Iterator[Sequence[Request]]:
    """The requests of these steps and all that follow; it holds no loader, which would hold itself."""
    for number in itertools.count():
        yield plan([step + number * stride for step in steps])


_LOADERS: weakref.WeakSet[Loader] = weakref.WeakSet()


@atexit.register
def _close_all() -> None:
    """Processes that still read are ended before Python waits for them."""
    for loader in list(_LOADERS):
        loader.close()
