"""A process on some node that trains shards."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

import ray
import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.benchmarks import find_benchmark, load_checked
from mtl.search.shards.sharded import StillLearning
from mtl.train import Cohort, Evaluation, Member, Settings
from mtl.train.allocator import keep_freed_memory
from mtl.train.capacity import CudaGauge, Gauge, members_that_fit
from mtl.train.ground import Ground
from mtl.train.job import Job

_Tree = TypeVar("_Tree")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What a process on any node needs to make the same cohorts.

    Attributes:
        benchmark: its name, or `path.py:Class` seen from `directory`.
        directory: the working directory of the command, on a file system that all nodes share.
        settings: of the runs.
        device: `cpu`, or `cuda` for the device that Ray lends to the process.
        vectorised: whether members of one structure are trained as one program.
        share: the part of a GPU that the process may use.
    """

    benchmark: str
    directory: str
    settings: Settings
    device: str
    vectorised: bool
    share: float = 1.0


class Host:
    """Trains shards, each of which is a cohort with a number.

    Where the device has no room for all shards, those that were not called for longest wait in the memory of the
    machine. What a call returns is in that memory too, since the caller may have no such device.
    """

    def __init__(self, recipe: Recipe) -> None:
        for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):  # to every process of a job; the search decides
            signal.signal(number, signal.SIG_IGN)
        keep_freed_memory()
        os.chdir(recipe.directory)
        self._recipe = recipe
        if recipe.device == "cuda" and recipe.share < 1:
            torch.cuda.set_per_process_memory_fraction(recipe.share)  # the rest is another process's
        self._benchmark = find_benchmark(recipe.benchmark)
        self._splits = load_checked(self._benchmark).to(recipe.device)
        self._gauge: Gauge | None = CudaGauge(recipe.share) if recipe.device == "cuda" else None
        self._measured: dict[Hashable, int] = {}
        self._most: int | None = None
        #: All shards, those called last at the end; and the states of those that wait.
        self._cohorts: dict[int, Cohort] = {}
        self._waiting: dict[int, dict[str, Any]] = {}

    def fits(self, members: Sequence[Member]) -> int | None:
        """How many of these members the device can train at a time; None where memory sets no limit.

        Members of several structures are counted as if all were of the one that takes the most.
        """
        if self._gauge is None:
            return None
        tasks, device = list(self._benchmark.tasks), torch.device(self._recipe.device)
        ground = Ground.of(self._benchmark, self._splits, tasks, device)
        kinds = {Job.of(member, self._recipe.settings, ground).key: member for member in members}
        for key, member in kinds.items():
            if key not in self._measured:
                self._measured[key] = members_that_fit(partial(self._try, member), self._gauge)
        return min(self._measured[key] for key in kinds)

    def begin(self, most: int | None) -> None:
        """Forget all shards. From now on hold at most `most` members at a time, or one shard if that has more."""
        self._cohorts.clear()
        self._waiting.clear()
        self._most = most

    def make(self, shard: int, members: Sequence[Member], saved: Mapping[str, Any] | None = None) -> list[str]:
        """Make a shard, of new members or as it was saved. Returns what the user should read."""
        told: list[str] = []
        self._make_room(len(members if saved is None else saved["members"]))
        self._cohorts[shard] = self._cohort(members, told.append, saved)
        return told

    def train(self, shard: int, steps: int) -> list[Evaluation] | StillLearning:
        """Make so many steps with the shard's members, and evaluate them; or a piece of what precedes the first."""
        cohort = self._present(shard)
        if (learned := _learned(cohort)) is not None:
            return learned
        cohort.advance(steps)
        return _on_cpu(cohort.evaluate())

    def extracted(self, saved: Mapping[str, Any], number: int) -> dict[str, Any]:
        """Take one member out of a saved shard, for `Cohort.adopt`."""
        self._make_room(len(saved["members"]))
        member = Member(**saved["members"][number])
        return _on_cpu(self._cohort([member], lambda _text: None, saved).extract(number))

    def where(self) -> str:
        """The address of the node."""
        return str(ray.util.get_node_ip_address())

    def drop(self, shard: int) -> None:
        """Forget a shard that has no member left."""
        del self._cohorts[shard]
        self._waiting.pop(shard, None)

    def call(self, shard: int, method: str, *arguments: Any, **options: Any) -> Any:
        """Call a method of the shard's cohort; before it advances it makes a piece of what precedes the first step."""
        if method == "advance" and (learned := _learned(self._present(shard))) is not None:
            return learned
        if method == "state_dict" and shard in self._waiting:
            return self._waiting[shard]
        called: Callable[..., Any] = getattr(self._present(shard), method)
        return _on_cpu(called(*arguments, **options))

    def _present(self, shard: int) -> Cohort:
        cohort = self._cohorts.pop(shard)
        if shard in self._waiting:
            saved = self._waiting.pop(shard)
            self._make_room(len(saved["members"]))
            cohort.load_state_dict(saved)
        self._cohorts[shard] = cohort
        return cohort

    def _make_room(self, members: int) -> None:
        if self._most is None:
            return
        present = {shard: cohort for shard, cohort in self._cohorts.items() if shard not in self._waiting}
        while present and members + sum(len(cohort.members) for cohort in present.values()) > self._most:
            shard = next(iter(present))
            self._waiting[shard] = _on_cpu(present.pop(shard).release())

    def _cohort(
        self, members: Sequence[Member], tell: Callable[[str], None], saved: Mapping[str, Any] | None = None
    ) -> Cohort:
        cohort = Cohort(
            self._benchmark,
            self._splits,
            members,
            self._recipe.settings,
            device=torch.device(self._recipe.device),
            vectorised=self._recipe.vectorised,
            told=True,
            tell=tell,
        )
        if saved is not None:
            cohort.load_state_dict(saved)
        return cohort

    def _try(self, member: Member, count: int) -> None:
        cohort = self._cohort([member] * count, lambda _text: None)
        cohort.try_steps(1)
        cohort.evaluate()


def _learned(cohort: Cohort) -> StillLearning | None:
    """How far losses are that learn before training, after a piece of that; None where none had anything left to do."""
    if not cohort.begin():
        return None
    return StillLearning(*(cohort.learning or (0, 0)))


def _on_cpu(tree: _Tree) -> _Tree:
    moved: _Tree = pytree.tree_map(lambda leaf: leaf.cpu() if isinstance(leaf, Tensor) else leaf, tree)
    return moved
