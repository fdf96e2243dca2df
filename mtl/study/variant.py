"""What is compared beside strategies: losses, optimizers, regularization and every other setting of training."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtl.benchmarks.benchmark import Benchmark
from mtl.benchmarks.losses import spec_of
from mtl.files.python_files import without_folders
from mtl.hyperparameters import domains, show
from mtl.losses import Loss, make_loss
from mtl.strategies import make, units
from mtl.strategies.strategy import Strategy
from mtl.study.varied import LOSS, STRATEGY, read_values
from mtl.train import Settings


@dataclass(frozen=True)
class Variant:
    """One of several ways to train that are compared.

    Attributes:
        label: its name in tables and files, such as `optimizer=adam`.
        strategy: the spec of its strategy.
        settings: training settings over those of the comparison, by name.
        losses: specs by task, in place of the benchmark's losses.
        varied: what is varied and its value, by name; what is varied of a parameter stands in the specs too.
        base: the spec of its strategy, without the parameters that are varied.
    """

    label: str
    strategy: str
    settings: Mapping[str, Any]
    losses: Mapping[str, str]
    varied: Mapping[str, Any]
    base: str

    def __str__(self) -> str:
        return self.label

    @property
    def texts(self) -> dict[str, str]:
        """What is varied, by name, as it is written on the command line."""
        return _texts(self.varied)

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """What is recorded of it: those of its strategy, and what is varied."""
        losses = {f"{LOSS}{task}": spec for task, spec in self.losses.items()}
        return {"strategy": self.strategy, **self.settings, **losses}

    def over(self, settings: Settings) -> Settings:
        """All its training settings, in a comparison with `settings`."""
        if self.settings.get("epochs") is not None:
            settings = dataclasses.replace(settings, steps=None)  # which would decide the length instead
        return settings.over(self.settings)

    def usual(self, benchmark: Benchmark, settings: Settings) -> bool:
        """Whether it is what is trained where nothing is varied."""
        own = {task.name: str(task.loss) for task in benchmark.tasks}
        return self.over(settings) == settings and all(own[task] == spec for task, spec in self.losses.items())


def make_variants(
    varied: Mapping[str, Sequence[str]],
    strategies: Sequence[Strategy],
    benchmark: Benchmark,
    given: Collection[str],
    *,
    tuned: bool = False,
) -> list[Variant]:
    """Every combination of a strategy with a choice of each name that it has: a parameter is of some losses alone.

    Args:
        varied: choices as they were written, by the name of a setting, `loss.TASK`, `loss.TASK.KEY` or
            `strategy.UNIT.KEY`.
        strategies: each with its spec; equal weights alone are not named in the labels.
        benchmark: has the tasks.
        given: names of settings, and `loss.TASK`, that have been given one value for all.
        tuned: whether what is not varied of them is tuned, so that what a loss sets is told from its default.

    Raises:
        ValueError: a name that does not exist or is given too, a value that cannot be, or nothing to choose from; one
            line.
    """
    choices = read_values(varied, strategies, benchmark, given, tuned=tuned)
    if {"epochs", "steps"} <= varied.keys() | set(given) and {"epochs", "steps"} & varied.keys():
        raise ValueError("--vary: epochs and steps are both the length of a run; vary or give one of them")
    named = [str(strategy) for strategy in strategies] != ["equal"]
    found: dict[str, Variant] = {}
    for strategy in strategies:
        for combination in itertools.product(*choices.values()):
            made = _variant(strategy, dict(zip(choices, combination, strict=True)), named, benchmark)
            found.setdefault(made.label, made)
    return _relabelled([*found.values()])


def _relabelled(variants: Sequence[Variant]) -> list[Variant]:
    """Variants with the names of files in their labels, in place of whole paths, where these tell them apart."""
    short = [without_folders(variant.label) for variant in variants]
    return [
        dataclasses.replace(variant, label=label) if short.count(label) == 1 else variant
        for variant, label in zip(variants, short, strict=True)
    ]


def usual_variant(variants: Sequence[Variant], strategy: Strategy, benchmark: Benchmark, settings: Settings) -> Variant:
    """What the others are compared with where nobody says: the one with the benchmark's own settings, or the first.

    Args:
        variants: of the comparison.
        strategy: of the reference.
        benchmark: as it is where nothing is varied.
        settings: the same.
    """
    own = [variant for variant in variants if variant.base == str(strategy)]
    usual = (each for each in own if each.strategy == each.base and each.usual(benchmark, settings))
    return next(usual, own[0])


def _variant(strategy: Strategy, values: Mapping[str, Any], named: bool, benchmark: Benchmark) -> Variant:
    settings = {name: value for name, value in values.items() if not name.startswith((LOSS, STRATEGY))}
    varied = dict(values)
    tasks, losses = {task.name: task for task in benchmark.tasks}, {}
    for task in tasks:
        spec = values.get(f"{LOSS}{task}")
        loss = tasks[task].loss if spec is None else make_loss(spec)
        parameters = _parameters(varied, f"{LOSS}{task}.", domains(loss) if isinstance(loss, Loss) else ())
        if spec is not None or parameters:
            losses[task] = spec_of(task, dataclasses.replace(loss, **parameters) if isinstance(loss, Loss) else loss)
    owned = {f"{unit.name}.{key}" for unit in units(strategy) for key in domains(unit)}
    made = make(strategy, **_parameters(varied, STRATEGY, owned))
    said = [f"{name}={text}" for name, text in _texts(varied).items()]
    return Variant(", ".join([str(strategy)] * named + said), str(made), settings, losses, varied, str(strategy))


def _parameters(varied: dict[str, Any], prefix: str, having: Collection[str]) -> dict[str, Any]:
    """The parameters that begin with `prefix`, by the rest of their names; those that do not exist leave `varied`."""
    found = {}
    for name in [name for name in varied if name.startswith(prefix)]:
        if (key := name.removeprefix(prefix)) in having:
            found[key] = varied[name]
        else:
            del varied[name]
    return found


def _texts(values: Mapping[str, Any]) -> dict[str, str]:
    return {name: "none" if value is None else show(value) for name, value in values.items()}
