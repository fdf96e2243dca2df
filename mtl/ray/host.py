"""The process on a node that trains shards of a population."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ray
import torch

from mtl.benchmarks import find_benchmark, load_checked
from mtl.population import Cohort, Evaluation, Member
from mtl.train import Settings
from mtl.train.allocator import keep_freed_memory


@dataclasses.dataclass(frozen=True)
class Recipe:
    """From what a process anywhere makes the same cohorts.

    Attributes:
        benchmark: its name, or `path.py:Class` seen from `directory`.
        directory: the working directory of the command, on a file system that all nodes share.
        device: `cpu`, or `cuda` for the device that Ray lends to the process.
        vectorised: as of a cohort.
    """

    benchmark: str
    directory: str
    settings: Settings
    device: str
    vectorised: bool


class Host:
    """Shards by number, each a cohort; calls are those of the cohort with the shard's number before them."""

    def __init__(self, recipe: Recipe) -> None:
        for number in (signal.SIGTERM, signal.SIGUSR1):  # a scheduler's, to every process of a job; the search decides
            signal.signal(number, signal.SIG_IGN)
        keep_freed_memory()
        os.chdir(recipe.directory)
        self._recipe = recipe
        self._benchmark = find_benchmark(recipe.benchmark)
        self._splits = load_checked(self._benchmark).to(recipe.device)
        self._cohorts: dict[int, Cohort] = {}

    def make(self, shard: int, members: Sequence[Member], saved: Mapping[str, Any] | None = None) -> list[str]:
        """Make a shard, from nothing or as it was saved, and return what a user should know of it."""
        told: list[str] = []
        self._cohorts[shard] = self._made(members, saved, told.append)
        return told

    def train(self, shard: int, steps: int) -> list[Evaluation]:
        """Make so many steps with the shard's members, and evaluate them."""
        self._cohorts[shard].advance(steps)
        return self._cohorts[shard].evaluate()

    def extracted(self, saved: Mapping[str, Any], number: int) -> dict[str, Any]:
        """One member of a shard that was saved, for `adopt`."""
        member = Member(**saved["members"][number])
        return self._made([member], saved, lambda _text: None).extract(number)

    def where(self) -> str:
        """The address of the node."""
        return str(ray.util.get_node_ip_address())

    def drop(self, shard: int) -> None:
        """Forget a shard that has no member left."""
        del self._cohorts[shard]

    def _made(self, members: Sequence[Member], saved: Mapping[str, Any] | None, tell: Callable[[str], None]) -> Cohort:
        cohort = Cohort(
            self._benchmark,
            self._splits,
            members,
            self._recipe.settings,
            device=torch.device(self._recipe.device),
            vectorised=self._recipe.vectorised,
            tell=tell,
        )
        if saved is not None:
            cohort.load_state_dict(saved)
        return cohort

    def clear(self) -> None:
        """Forget all shards."""
        self._cohorts.clear()

    def call(self, shard: int, method: str, *arguments: Any) -> Any:
        """Call a method of the shard's cohort."""
        called: Callable[..., Any] = getattr(self._cohorts[shard], method)
        return called(*arguments)
