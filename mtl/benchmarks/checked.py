"""Loads a benchmark's data and refuses what would spoil every run, before any work starts."""

from __future__ import annotations

import torch

from mtl.benchmarks.benchmark import Benchmark, MissingData, Split, Splits
from mtl.losses import IGNORE


def load_checked(benchmark: Benchmark) -> Splits:
    """The splits of `benchmark`.

    Raises:
        ValueError: its data is not installed, does not fit its tasks, or has NaN or infinite inputs; one line.
    """
    try:
        splits = benchmark.load()
    except MissingData as error:
        raise ValueError(str(error)) from error
    except ImportError as error:
        hint = f": {benchmark.install}" if getattr(benchmark, "install", "") else ""
        raise ValueError(f"benchmark {benchmark.name!r} needs {error.name!r}, which is not installed{hint}") from error
    for name, split in splits.items():
        _check(f"benchmark {benchmark.name!r}, {name} split", split, benchmark)
    return splits


def _check(where: str, split: Split, benchmark: Benchmark) -> None:
    if len(split) == 0:
        raise ValueError(f"{where}: it is empty")
    if split.inputs.is_floating_point() and not bool(split.inputs.isfinite().all()):
        bad = ~split.inputs.isfinite().flatten(1).all(1)
        first = int(bad.nonzero()[0])
        raise ValueError(
            f"{where}: {int(bad.sum())} examples have NaN or infinite features, the first is number {first}"
        )
    for task in benchmark.tasks:
        target = split.targets.get(task.name)
        if target is None:
            raise ValueError(f"{where}: no target for task {task.name!r}")
        if len(target) != len(split):
            raise ValueError(f"{where}: task {task.name!r} has {len(target)} targets for {len(split)} examples")
        if target.is_floating_point():
            if bool(target.isinf().any()):
                raise ValueError(f"{where}: task {task.name!r} has infinite targets")
            known = ~target.isnan()
        else:
            known = target != IGNORE
            if target.dtype != torch.int64:
                raise ValueError(f"{where}: task {task.name!r} has class targets of {target.dtype}, expected int64")
            if bool(((target < 0) & known).any()) or bool((target >= task.outputs).any()):
                raise ValueError(f"{where}: task {task.name!r} has classes outside 0 to {task.outputs - 1}")
        if not bool(known.any()):
            raise ValueError(f"{where}: task {task.name!r} has no label at all")
