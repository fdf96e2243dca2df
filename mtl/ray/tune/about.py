"""The arguments of a trainable, and what the processes of a cluster make of them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from mtl.benchmarks import find_benchmark, load_checked
from mtl.search.objective import Objective
from mtl.study.setup import StudySetup
from mtl.train import Settings, check_model
from mtl.train.allocator import keep_freed_memory

STATE = "state.pt"  # of a checkpoint
_NUMBER = re.compile(r"_(\d{5,})$")


@dataclass(frozen=True)
class About:
    """The arguments of `mtl.ray.trainable`, checked. Every trial's checkpoint has them.

    Attributes:
        benchmark: a name that `find_benchmark` understands in any process.
        strategy: of trials whose configuration names none.
        settings: training settings that replace those of the benchmark's recipe.
        members: of one trial.
        method: by which the members of a trial search.
        objective: what is maximised.
        device: `auto`, `cpu` or `cuda`.
        keep_models: which runs of a shard leave their weights, see `mtl.study.models`.
    """

    benchmark: str
    strategy: str
    settings: Mapping[str, Any]
    members: int
    method: str
    objective: Objective
    device: str
    keep_models: str = "best"

    def state_dict(self) -> dict[str, Any]:
        """Plain values, for a checkpoint."""
        objective = {"names": list(self.objective.names), "baseline": dict(self.objective.baseline)}
        return {**vars(self), "settings": dict(self.settings), "objective": objective}

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> About:
        """The inverse of `state_dict`."""
        objective = Objective(saved["objective"]["names"], find_benchmark(saved["benchmark"]))
        objective.baseline = saved["objective"]["baseline"]
        return cls(**{**saved, "objective": objective})

    def setting(self, *, trains: bool = True) -> StudySetup:
        """The benchmark with its data, the settings and the device, for this process.

        Args:
            trains: False for a process that only checks, and may have no such device.

        Raises:
            ValueError: something does not exist; one line.
        """
        keep_freed_memory()
        benchmark = find_benchmark(self.benchmark)
        settings = Settings.of(getattr(benchmark, "recipe", {}), self.settings)
        splits = load_checked(benchmark)
        check_model(benchmark, splits, settings)
        on_gpu = self.device != "cpu" and torch.cuda.is_available()
        if trains and self.device == "cuda" and not on_gpu:
            raise ValueError("device='cuda': Ray lent this trial no GPU; tune.with_resources(..., {'gpu': 1})")
        return StudySetup(benchmark, splits, settings, torch.device("cuda" if on_gpu else "cpu"))


def number_of(trial_id: str) -> int:
    """The number of a trial, which no other trial of its experiment has.

    It is Tune's own number, or one made of the name that a searcher gave the trial.
    """
    match = _NUMBER.search(trial_id)
    return int(match[1]) if match else zlib.crc32(trial_id.encode())
