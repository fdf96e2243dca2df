"""What a decision leaves to be used: options for `mtl train`, its command line, a snippet of Python, the weights."""

from __future__ import annotations

import dataclasses
import json
import shlex
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mtl.auto.plan import TimePlan
from mtl.auto.state import Leader
from mtl.benchmarks.losses import named_with, parted
from mtl.files.config import Config
from mtl.files.yaml_files import write_values
from mtl.hyperparameters import domains, show
from mtl.losses import make_loss
from mtl.search.space import Values, make_member
from mtl.train import Settings

BEST_YAML = "best.yaml"
RACE_WEIGHTS = "race-best.weights"


@dataclass(frozen=True)
class TrainRecipe:
    """How something is trained, in the words of `mtl train`.

    Attributes:
        benchmark: its name, with no losses of its own.
        strategy: the spec.
        losses: specs by task, of those that are not the benchmark's own.
        settings: training settings over the benchmark's recipe.
    """

    benchmark: str
    strategy: str
    losses: Mapping[str, str]
    settings: Mapping[str, Any]

    @property
    def options(self) -> dict[str, Any]:
        """Options by name, as `--config` takes them."""
        losses = {"loss": [f"{task}={spec}" for task, spec in self.losses.items()]} if self.losses else {}
        return {"strategy": self.strategy, **losses, **self.settings}

    def yaml(self) -> str:
        """The text of a file that `mtl train BENCHMARK --config` takes."""
        return write_values(self.options)

    @property
    def command(self) -> str:
        """The line that trains it."""
        words = ["mtl", "train", self.benchmark, "--strategy", self.strategy]
        if self.losses:
            words += ["--loss", *(f"{task}={spec}" for task, spec in self.losses.items())]
        for name, value in self.settings.items():
            words += [f"--{name.replace('_', '-')}", show(value)]
        return shlex.join(words)

    @property
    def python(self) -> str:
        """The same in Python."""
        settings = "".join(f"    {name!r}: {value!r},\n" for name, value in self.settings.items())
        return (
            "from mtl.benchmarks import find_benchmark, load_checked\n"
            "from mtl.train import Settings, train\n\n"
            f"benchmark = find_benchmark({named_with(self.benchmark, self.losses)!r})\n"
            "settings = Settings.of(benchmark.recipe, {\n"
            f"{settings}"
            "})\n"
            f"result = train(benchmark, load_checked(benchmark), {self.strategy!r}, settings, seed=0)\n"
            "print(result.metrics)\n"
        )


def make_recipe(values: Values, config: Config, plan: TimePlan) -> TrainRecipe:
    """The recipe of a point of the space.

    Args:
        values: of the point.
        config: of the study, with what the user gave.
        plan: says how long runs were.
    """
    member, (name, losses) = make_member(values, 0), parted(config["benchmark"])
    given = {key: value for key, value in config.get("options", {}).items() if key in domains(Settings)}
    if plan.length != plan.recipe:
        given = {**{key: value for key, value in given.items() if key != "epochs"}, "steps": plan.length}
    for task, changes in member.losses.items():
        keys = {key: value for key, value in changes.items() if key != "name"}
        losses[task] = str(dataclasses.replace(make_loss(changes["name"]), **keys))
    return TrainRecipe(name, str(member.strategy), losses, {**given, **member.settings})


def keep_best_so_far(directory: Path, leader: Leader | None) -> Path | None:
    """Give the weights of the best run of a race that was stopped their name; None where there is none yet."""
    kept, target = directory / "checkpoints" / RACE_WEIGHTS, directory / "checkpoints" / "best.pt"
    if leader is None or not kept.exists():
        return None
    shutil.copyfile(kept, target)
    about = {
        "run": leader.run,
        "strategy": make_member(leader.values, leader.seed).strategy,
        "hyperparameters": leader.values,
        "seed": leader.seed,
        "selection": leader.selection,
    }
    (directory / "checkpoints" / "best.json").write_text(json.dumps(about) + "\n", encoding="utf-8")
    return target
