"""The model of a run: the benchmark's own, with the architecture, trunk and dropout that the settings name."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from mtl.benchmarks.benchmark import Benchmark, Task
from mtl.benchmarks.trunk import may_read_trunk
from mtl.models import Shared, make_architecture, make_trunk
from mtl.train.settings import Settings


def build_model(benchmark: Benchmark, tasks: Sequence[Task], inputs: Any, settings: Settings) -> nn.Module:
    """The model of a run, its parameters drawn from torch's global generator."""
    if settings.model or settings.architecture or settings.dropout is not None:
        spec = _trunk(benchmark, settings)
        benchmark = copy.copy(benchmark)
        benchmark.trunk = spec
        if settings.architecture:
            benchmark.architecture = settings.architecture
    return benchmark.model(tasks, inputs)


def predictions(model: nn.Module, inputs: Any, *, own: bool) -> dict[str, Tensor]:
    """What a model predicts, by task.

    Args:
        model: from inputs to predictions by task.
        inputs: of a batch; by task where tasks have their own.
        own: whether that is so: then a task's inputs go through what it shares with others and what is its own, and
            through nothing of the others where the model can leave that out.
    """
    if not own:
        return dict(model(inputs))
    if isinstance(model, Shared):
        return {task: model(some, only=(task,))[task] for task, some in inputs.items()}
    return {task: model(some)[task] for task, some in inputs.items()}


def check_trunk(benchmark: Benchmark, settings: Settings) -> None:
    """Raise `ValueError` for a `model`, `architecture` or `dropout` that cannot be read or has no effect, as far as is
    clear without data."""
    if settings.architecture:
        if not may_read_trunk(benchmark, "architecture"):
            raise ValueError(no_architecture(benchmark, settings))
        if type(benchmark).model is Benchmark.model:
            make_architecture(settings.architecture)
    if settings.model or settings.dropout is not None:
        if not may_read_trunk(benchmark):
            raise ValueError(no_trunk(benchmark, settings))
        spec = _trunk(benchmark, settings)
        if type(benchmark).model is Benchmark.model:  # one of a user's own may have names of its own
            make_trunk(spec)


def no_trunk(benchmark: Benchmark, settings: Settings) -> str:
    """What is said of a `model` or `dropout` that the benchmark's model does not look at."""
    given = f"model={settings.model}" if settings.model else f"dropout={settings.dropout}"
    return f"{given}: benchmark {benchmark.name!r} builds its own model, which does not look at `trunk`"


def no_architecture(benchmark: Benchmark, settings: Settings) -> str:
    """What is said of an `architecture` that the benchmark's model does not look at."""
    given = f"architecture={settings.architecture}"
    return f"{given}: benchmark {benchmark.name!r} builds its own model, which does not look at `architecture`"


def _trunk(benchmark: Benchmark, settings: Settings) -> str:
    spec = settings.model or getattr(benchmark, "trunk", "")
    return spec if settings.dropout is None else _with_dropout(spec, settings.dropout)


def _with_dropout(spec: str, dropout: float) -> str:
    trunk = make_trunk(spec) if spec else None
    if trunk is None or not hasattr(trunk, "dropout"):
        model = repr(spec) if spec else "of this benchmark"
        raise ValueError(f"dropout={dropout}: the model {model} has no dropout to set")
    return str(dataclasses.replace(trunk, dropout=dropout))  # type: ignore[call-arg]
