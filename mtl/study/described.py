"""What config.yaml says of the setting of a study."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from typing import Any

import torch

from mtl.benchmarks.digest import of_class, of_study, of_tasks
from mtl.benchmarks.trunk import may_read_trunk, reads_trunk
from mtl.files.config import Config
from mtl.hyperparameters import domains
from mtl.strategies import make, units
from mtl.study.setup import StudySetup
from mtl.train.facts import data_facts
from mtl.version import VERSION


def described(
    setting: StudySetup, benchmark: str, strategies: Sequence[Any], seeds: Sequence[int], reference: Any
) -> Config:
    """Tasks, data, training settings, versions and machine, as plain values.

    Args:
        setting: of the runs.
        benchmark: by which name it is found again.
        strategies: that were asked for.
        seeds: the first of a search, those of a comparison.
        reference: the strategy that others are compared with.
    """
    tasks = of_tasks(setting.benchmark.tasks)
    settings = {name: getattr(setting.settings, name) for name in domains(setting.settings)}
    return {
        "benchmark": benchmark,
        "tasks": tasks,
        "digests": of_study(tasks, setting.splits) | _of_users(strategies),
        "data": data_facts(setting.benchmark.tasks, setting.splits),
        "strategies": [str(strategy) for strategy in strategies],
        "seeds": [*seeds],
        "reference": str(reference),
        "training": settings
        | {
            "model": setting.settings.model or _read(setting, "trunk"),
            "architecture": setting.settings.architecture or _read(setting, "architecture"),
        },
        "device": str(setting.device),
        "versions": {"mtl": VERSION, "torch": str(torch.__version__), "python": platform.python_version()},
        "machine": {"processor": platform.machine(), "cpu_count": os.cpu_count()},
    }


def _of_users(strategies: Sequence[Any]) -> dict[str, str]:
    """What tells the strategies of users' files from others of these names, such as those before an edit."""
    made = (make(getattr(each, "strategy", each)) for each in strategies)
    return {f"strategy {unit.place}": of_class(type(unit)) for each in made for unit in units(each) if unit.place}


def _read(setting: StudySetup, name: str) -> str:
    """The trunk or architecture that the benchmark itself names; none where its model is not built from it."""
    benchmark, inputs = setting.benchmark, setting.splits.train.first(2)
    if not may_read_trunk(benchmark, name):
        return ""
    return getattr(benchmark, name, "") if reads_trunk(benchmark, inputs, name) else ""
