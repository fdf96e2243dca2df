"""The process on a node that trains shards of a population."""

from __future__ import annotations

import dataclasses
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from mtl.benchmarks import find_benchmark, load_checked
from mtl.population import Cohort, Member
from mtl.train import Settings


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
        os.chdir(recipe.directory)
        self._recipe = recipe
        self._benchmark = find_benchmark(recipe.benchmark)
        self._splits = load_checked(self._benchmark).to(recipe.device)
        self._cohorts: dict[int, Cohort] = {}

    def make(self, shard: int, members: Sequence[Member], saved: Mapping[str, Any] | None = None) -> list[str]:
        """Make a shard, from nothing or as it was saved, and return what a user should know of it."""
        told: list[str] = []
        self._cohorts[shard] = Cohort(
            self._benchmark,
            self._splits,
            members,
            self._recipe.settings,
            device=torch.device(self._recipe.device),
            vectorised=self._recipe.vectorised,
            tell=told.append,
        )
        if saved is not None:
            self._cohorts[shard].load_state_dict(saved)
        return told

    def drop(self, shard: int) -> None:
        """Forget a shard that has no member left."""
        del self._cohorts[shard]

    def clear(self) -> None:
        """Forget all shards."""
        self._cohorts.clear()

    def call(self, shard: int, method: str, *arguments: Any) -> Any:
        """Call a method of the shard's cohort."""
        called: Callable[..., Any] = getattr(self._cohorts[shard], method)
        return called(*arguments)
