"""What is compared beside strategies: losses, optimizers, regularization and every other setting of training."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtl.benchmarks.benchmark import Benchmark
from mtl.hyperparameters import domains, parse, show
from mtl.losses import make_loss
from mtl.strategies.strategy import Strategy
from mtl.suggestions import nearest
from mtl.train import Settings

LOSS = "loss."  # begins the name of what varies a task's loss


@dataclass(frozen=True)
class Variant:
    """One of several ways to train that are compared.

    Attributes:
        label: its name in tables and files, such as `optimizer=adam`.
        strategy: the spec of its strategy.
        settings: training settings over those of the comparison, by name.
        losses: specs by task, in place of the benchmark's losses.
    """

    label: str
    strategy: str
    settings: Mapping[str, Any]
    losses: Mapping[str, str]

    def __str__(self) -> str:
        return self.label

    @property
    def texts(self) -> dict[str, str]:
        """What is varied, by name, as it is written on the command line."""
        return _texts({**self.settings, **{f"{LOSS}{task}": spec for task, spec in self.losses.items()}})

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What is recorded of it: those of its strategy, and what is varied."""
        losses = {f"{LOSS}{task}": spec for task, spec in self.losses.items()}
        return {"strategy": self.strategy, **self.settings, **losses}

    def over(self, settings: Settings) -> Settings:
        """All its training settings, in a comparison with `settings`."""
        if self.settings.get("epochs") is not None:
            settings = dataclasses.replace(settings, steps=None)  # which would decide the length instead
        return dataclasses.replace(settings, **self.settings)

    def usual(self, benchmark: Benchmark, settings: Settings) -> bool:
        """Whether it is what is trained where nothing is varied."""
        own = {task.name: str(task.loss) for task in benchmark.tasks}
        return self.over(settings) == settings and all(own[task] == spec for task, spec in self.losses.items())


def make_variants(
    varied: Mapping[str, Sequence[str]], strategies: Sequence[Strategy], benchmark: Benchmark, given: Collection[str]
) -> list[Variant]:
    """Every combination of a strategy with a choice of each name.

    Args:
        varied: choices as they were written, by the name of a setting or `loss.TASK`.
        strategies: each with its spec; equal weights alone are not named in the labels.
        benchmark: has the tasks.
        given: names of settings, and `loss.TASK`, that have been given one value for all.

    Raises:
        ValueError: a name that does not exist or is given too, a value that cannot be, or nothing to choose from; one
            line.
    """
    choices = {name: _choices(name, texts, benchmark, given) for name, texts in varied.items()}
    if {"epochs", "steps"} <= varied.keys() | set(given) and {"epochs", "steps"} & varied.keys():
        raise ValueError("--vary: epochs and steps are both the length of a run; vary or give one of them")
    named = [str(strategy) for strategy in strategies] != ["equal"]
    return [
        _variant(strategy, dict(zip(choices, combination, strict=True)), named)
        for strategy in strategies
        for combination in itertools.product(*choices.values())
    ]


def usual_variant(variants: Sequence[Variant], strategy: Strategy, benchmark: Benchmark, settings: Settings) -> Variant:
    """What the others are compared with where nobody says: the one with the benchmark's own settings, or the first.

    Args:
        variants: of the comparison.
        strategy: of the reference.
        benchmark: as it is where nothing is varied.
        settings: the same.
    """
    own = [variant for variant in variants if variant.strategy == str(strategy)]
    return next((variant for variant in own if variant.usual(benchmark, settings)), own[0])


def _choices(name: str, texts: Sequence[str], benchmark: Benchmark, given: Collection[str]) -> list[Any]:
    """The values of one name, checked."""
    option = name.replace("_", "-")
    if name.startswith(LOSS):
        task, tasks = name.removeprefix(LOSS), [task.name for task in benchmark.tasks]
        if task not in tasks:
            raise ValueError(f"--vary {name}: there is no task {task!r}: {nearest(task, tasks)}")
        option = f"loss {task}"
        values = [_loss(name, text) for text in texts]
    elif name in domains(Settings):
        values = [_value(name, text) for text in texts]
    elif name in ("strategy", "strategies"):
        raise ValueError(f"--vary {name}: --strategies names the strategies")
    else:
        known = [*domains(Settings), *(f"{LOSS}{task.name}" for task in benchmark.tasks)]
        hint = nearest(name, known, "`mtl compare --help` shows the settings")
        raise ValueError(f"--vary {name}: there is no such setting: {hint}")
    if name in given:
        raise ValueError(f"--vary {name}: --{option} gives it one value for all; leave one of the two out")
    for value, text in zip(values, texts, strict=True):
        if values.count(value) > 1:
            raise ValueError(f"--vary {name}={','.join(texts)}: it has {text} twice")
    if len(values) == 1:
        raise ValueError(f"--vary {name}={texts[0]}: there is nothing to compare with; join choices by commas")
    return values


def _loss(name: str, text: str) -> str:
    try:
        return str(make_loss(text))
    except ValueError as error:
        raise ValueError(f"--vary {name}={text}: {error}") from error


def _value(name: str, text: str) -> Any:
    value = parse(Settings, name, text, "--vary")
    if complaint := domains(Settings)[name].complaint(value):
        raise ValueError(f"--vary {name}={text}: {complaint}")
    return value


def _variant(strategy: Strategy, values: Mapping[str, Any], named: bool) -> Variant:
    settings = {name: value for name, value in values.items() if not name.startswith(LOSS)}
    losses = {name.removeprefix(LOSS): spec for name, spec in values.items() if name.startswith(LOSS)}
    said = [f"{name}={text}" for name, text in _texts(values).items()]
    return Variant(", ".join([str(strategy)] * named + said), str(strategy), settings, losses)


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: "none" if value is None else show(value) for name, value in values.items()}
