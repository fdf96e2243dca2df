"""A run as `mtl train` repeats it: the line that is typed, and the file that `--config` takes."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtl.benchmarks import Benchmark, Task, find_benchmark
from mtl.benchmarks.losses import fitted_tasks, parted, spec_of
from mtl.benchmarks.split import Examples
from mtl.files.lineage import tupled
from mtl.files.table_name import parted_table
from mtl.files.yaml_files import write_values
from mtl.hyperparameters import defaults, domains, show
from mtl.losses import make_loss
from mtl.strategies import make, units
from mtl.train.member import Member
from mtl.train.optimizers import read_optimizer
from mtl.train.settings import Settings
from mtl.train.smoothing import takes_smoothing
from mtl.train.values import make_member

ALIGNED = frozenset({"align", "implicit"})  # signals that are read on the split of `align_data`


@dataclass(frozen=True)
class RunRecipe:
    """All that a run was trained with. Numbers are written so that they are read back to the last bit.

    Attributes:
        benchmark: its name, or `path.py:Class`.
        strategy: the spec, with its hyperparameters.
        losses: specs by task, of tasks whose loss is not the benchmark's own.
        training: every training setting that has an effect, by name.
        changed: names of those that are not the benchmark's own.
        seed: of the run.
    """

    benchmark: str
    strategy: str
    losses: Mapping[str, str]
    training: Mapping[str, Any]
    changed: frozenset[str]
    seed: int

    def line(self, seed: int | None = None) -> str:
        """The `mtl train` line; with another seed, if one is given. What the benchmark has anyway is left out."""
        words = ["mtl", "train", *self._subject(), "--strategy", self.strategy]
        if self.losses:
            words += ["--loss", *self._losses()]
        for name, value in self.training.items():
            if name in self.changed:
                words += [f"--{name.replace('_', '-')}", *([] if value is True else [show(value)])]
        return shlex.join([*words, "--seed", str(self.seed if seed is None else seed)])

    def text(self, about: str = "") -> str:
        """The YAML that `mtl train --config FILE` takes, with every setting; `about` is a remark at its top."""
        values: dict[str, Any] = {"benchmark": self.benchmark, "strategy": self.strategy}
        if self.losses:
            values["loss"] = self._losses()
        remarks = "".join(f"# {line}\n" for line in about.splitlines())
        return remarks + write_values({**values, **self.training, "seed": self.seed})

    def words(self) -> list[tuple[str, str]]:
        """The strategy with all its values, and what else is not the benchmark's own, by name."""
        found = [("strategy", self.strategy)]
        for unit in units(make(self.strategy)):  # what its spec does not say is at its default
            unsaid = {name: usual for name, usual in defaults(unit).items() if getattr(unit, name) == usual}
            found += [(f"strategy.{unit.name}.{name}", show(usual) or "()") for name, usual in unsaid.items()]
        found += [(f"loss.{task}", spec) for task, spec in self.losses.items()]
        return found + [(name, show(value)) for name, value in self.training.items() if name in self.changed]

    def _subject(self) -> list[str]:
        """What is trained, as it is typed."""
        path, targets = parted_table(self.benchmark) or (self.benchmark, [])
        return [path, "--target", *targets] if targets else [path]

    def _losses(self) -> list[str]:
        return [f"{task}={spec}" for task, spec in self.losses.items()]


def make_recipe(name: str, benchmark: Benchmark, settings: Settings, member: Member) -> RunRecipe:
    """What repeats a member of a cohort.

    Args:
        name: by which the benchmark is found, with the losses of `--loss`.
        benchmark: of that name.
        settings: of the cohort.
        member: of the cohort.

    Raises:
        ValueError: an option of `mtl train` cannot say it; one line that names what.
    """
    plain, losses = parted(name)
    for before, after in zip(benchmark.tasks, member.tasks(benchmark.tasks), strict=True):
        if after.loss != before.loss:
            losses[after.name] = spec_of(after.name, after.loss)
    if member.settings.get("epochs") is not None:
        settings = dataclasses.replace(settings, steps=None)  # which would decide the length instead
    settings, usual = member.resolved(settings), Settings.of(getattr(benchmark, "recipe", {}))
    usual = dataclasses.replace(
        usual,
        model=usual.model or getattr(benchmark, "trunk", ""),
        architecture=usual.architecture or getattr(benchmark, "architecture", ""),
    )
    training: dict[str, Any] = {}
    for key in domains(Settings):
        value, own = getattr(settings, key), getattr(usual, key)
        if value is None or value == "":
            if key == "patience" and own is not None:
                training[key] = settings.length(10**6)  # more evaluations than there are: it never stops early
            elif own not in (None, "") and key not in ("steps", "model", "architecture"):
                raise ValueError(f"{key}=none: the benchmark has {show(own)}, and no option takes that away")
        elif value is False:
            if own:
                raise ValueError(f"{key}=false: the benchmark has it, and no option takes that away")
        elif _heard(key, settings, member, benchmark.tasks):
            training[key] = value
    changed = frozenset(key for key, value in training.items() if value != getattr(usual, key))
    if usual.steps is not None and "epochs" in training:
        changed |= {"epochs"}
    return RunRecipe(plain, str(make(member.strategy)), losses, training, changed, member.seed)


def recipe_of(config: Mapping[str, Any], record: Mapping[str, Any]) -> RunRecipe:
    """What repeats a run, from its line of results.jsonl and the config.yaml of its directory.

    Raises:
        ValueError: the benchmark is not found, or an option of `mtl train` cannot say it; one line.
    """
    if "training" not in config:
        raise ValueError("an earlier version of mtl wrote its config.yaml, which did not record all settings")
    name, settings, member = str(config["benchmark"]), Settings.of(config["training"]), member_of(record)
    if record.get("trial") is not None:  # the runs of a search have one length, and none ends by itself
        settings = dataclasses.replace(settings, patience=None)
        if "batch_size" in member.settings:
            settings = dataclasses.replace(settings, steps=record["cost"]["steps"])
    found = make_recipe(name, find_benchmark(name), settings, member)
    return dataclasses.replace(found, losses=_as_used(found.losses, config, record))


def _as_used(losses: Mapping[str, str], config: Mapping[str, Any], record: Mapping[str, Any]) -> dict[str, str]:
    """Specs with the numbers that training labels decided, in place of the words that stand for them."""
    used = {task: about["loss"] for task, about in (config.get("tasks") or {}).items()} | (record.get("losses") or {})
    return {task: str(used.get(task, spec)) if make_loss(spec).undecided() else spec for task, spec in losses.items()}


def decided_losses(record: Mapping[str, Any], *, tasks: Sequence[Task], train: Examples) -> dict[str, str]:
    """The losses of a run for which its values leave something to the training labels, with the numbers that they gave.

    Args:
        record: its line of results.jsonl.
        tasks: of its benchmark.
        train: the split that it was trained on.
    """
    own = [task for task in member_of(record).tasks(tasks) if record.get("task") in (None, task.name)]
    return {
        after.name: str(after.loss)
        for before, after in zip(own, fitted_tasks(own, train), strict=True)
        if after is not before
    }


def member_of(record: Mapping[str, Any]) -> Member:
    """The member of a cohort that a run was, at its best evaluation."""
    values, seed = tupled(record.get("hyperparameters") or {}), int(record.get("seed") or 0)
    return make_member(values, seed) if "strategy" in values else Member(str(record["strategy"]), seed)


def _heard(key: str, settings: Settings, member: Member, tasks: Sequence[Task]) -> bool:
    """Whether a setting has an effect; `mtl train` refuses some that have none."""
    if key == "epochs":
        return settings.steps is None
    if key == "momentum":
        return read_optimizer(settings.optimizer).hears_momentum
    if key == "label_smoothing":
        return takes_smoothing(member.tasks(tasks))
    return key != "align_data" or bool(make(member.strategy).needs & ALIGNED)
