"""The model of a run: the benchmark's own, with the architecture, trunk and dropout that the settings name."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from mtl.benchmarks.benchmark import Benchmark, Task
from mtl.benchmarks.trunk import may_read_trunk
from mtl.models import Shared, make_architecture, make_trunk
from mtl.models.trunks.depth import DEPTH
from mtl.population.dropout import Rate
from mtl.suggestions import nearest
from mtl.train.heads import HEADS
from mtl.train.settings import Settings

_KINDS = {"dropout": "", "stochastic_depth": DEPTH}  # of rates of dropout, by the setting


def build_model(benchmark: Benchmark, tasks: Sequence[Task], inputs: Any, settings: Settings) -> nn.Module:
    """The model of a run, its parameters drawn from torch's global generator.

    Raises:
        ValueError: a setting that the model cannot have; one line.
    """
    if settings.architecture or settings.changes_trunk:
        spec = _trunk(benchmark, settings)
        benchmark = copy.copy(benchmark)
        benchmark.trunk = spec
        if settings.architecture:
            benchmark.architecture = settings.architecture
    model = benchmark.model(tasks, inputs)
    _check_heads(benchmark, model, settings)
    for task, rate in settings.head_dropouts(task.name for task in tasks).items():
        model.head(task).register_forward_pre_hook(partial(_dropped, rate=Rate(rate, HEADS + task)))  # type: ignore[operator]
    return model


def dropouts(settings: Settings, tasks: Sequence[Task]) -> dict[str, float]:
    """The rates of dropout that the settings name, by kind; those of trunks that they do not name are left out."""
    of_heads = settings.head_dropouts(task.name for task in tasks)
    trunk = {kind: settings.of_trunk[name] for name, kind in _KINDS.items() if name in settings.of_trunk}
    return {**trunk, **{HEADS + task: rate for task, rate in of_heads.items()}}


def _dropped(head: nn.Module, inputs: tuple[Tensor, ...], *, rate: Rate) -> tuple[Tensor, ...]:
    """What a head reads, with some of it dropped in training; as a hook it gives no parameter another name."""
    return F.dropout(inputs[0], rate, head.training), *inputs[1:]


def _check_heads(benchmark: Benchmark, model: nn.Module, settings: Settings) -> None:
    """Raise `ValueError` for values of heads of tasks that there are not, or that the model has no heads for."""
    names = [task.name for task in benchmark.tasks]
    for task in settings.of_heads:
        if task not in names:
            raise ValueError(f"heads={settings.heads}: there is no task {task!r}: {nearest(task, names)}")
    if settings.of_heads or settings.head_dropout is not None:
        given = f"heads={settings.heads}" if settings.of_heads else f"head_dropout={settings.head_dropout}"
        if not isinstance(model, Shared) or not model.headed_tasks:
            raise ValueError(
                f"{given}: the model of benchmark {benchmark.name!r} does not say which of its modules is a task's "
                "head, as those of mtl.models do"
            )


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
    """Raise `ValueError` for a `model`, `architecture`, `dropout` or `stochastic_depth` that cannot be read or has no
    effect, as far as is clear without data."""
    if settings.architecture:
        if not may_read_trunk(benchmark, "architecture"):
            raise ValueError(no_architecture(benchmark, settings))
        if type(benchmark).model is Benchmark.model:
            make_architecture(settings.architecture)
    if settings.changes_trunk:
        if not may_read_trunk(benchmark):
            raise ValueError(no_trunk(benchmark, settings))
        spec = _trunk(benchmark, settings)
        if type(benchmark).model is Benchmark.model:  # one of a user's own may have names of its own
            make_trunk(spec)


def no_trunk(benchmark: Benchmark, settings: Settings) -> str:
    """What is said of a `model`, `dropout` or `stochastic_depth` that the benchmark's model does not look at."""
    rates = (f"{name}={rate}" for name, rate in settings.of_trunk.items())
    given = f"model={settings.model}" if settings.model else next(rates, "model")
    return f"{given}: benchmark {benchmark.name!r} builds its own model, which does not look at `trunk`"


def no_architecture(benchmark: Benchmark, settings: Settings) -> str:
    """What is said of an `architecture` that the benchmark's model does not look at."""
    given = f"architecture={settings.architecture}"
    return f"{given}: benchmark {benchmark.name!r} builds its own model, which does not look at `architecture`"


def _trunk(benchmark: Benchmark, settings: Settings) -> str:
    spec = settings.model or getattr(benchmark, "trunk", "")
    for name, rate in settings.of_trunk.items():
        trunk = make_trunk(spec) if spec else None
        if trunk is None or not hasattr(trunk, name):
            # A model of a user's own may pass over the trunk that every benchmark has.
            named = spec and (settings.model or type(benchmark).model is Benchmark.model)
            model = repr(spec) if named else f"of benchmark {benchmark.name!r}"
            raise ValueError(f"{name}={rate}: the model {model} has no {name.replace('_', ' ')} to set")
        spec = str(dataclasses.replace(trunk, **{name: rate}))
    return spec
