"""What a decision leaves to be used: how it is trained by `mtl train` and in Python, and the weights."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

from mtl.auto.state import Leader
from mtl.benchmarks import Benchmark
from mtl.benchmarks.losses import named_with
from mtl.files.config import Config
from mtl.search.space import Values
from mtl.study.models import write_best
from mtl.train import Settings
from mtl.train.recipe import RunRecipe, make_recipe
from mtl.train.values import make_member

RACE_WEIGHTS = "race-best.weights"


def recipe_for(values: Values, seed: int, config: Config, benchmark: Benchmark, steps: int | None) -> RunRecipe:
    """How a point of the space is trained.

    Args:
        values: of the point.
        seed: that the line of `mtl train` has.
        config: of the study, with what the user gave.
        benchmark: that it names.
        steps: for how long; None for as long as the benchmark's recipe says.

    Raises:
        ValueError: an option of `mtl train` cannot say it; one line.
    """
    settings = dataclasses.replace(Settings.of(config["training"]), patience=None)
    if steps is not None:
        settings = dataclasses.replace(settings, steps=steps)
    return make_recipe(config["benchmark"], benchmark, settings, make_member(values, seed))


def in_python(recipe: RunRecipe) -> str:
    """The Python that trains it."""
    changed = {name: value for name, value in recipe.training.items() if name in recipe.changed}
    settings = "".join(f"    {name!r}: {value!r},\n" for name, value in changed.items())
    return (
        "from mtl.benchmarks import find_benchmark, load_checked\n"
        "from mtl.train import Settings, train\n\n"
        f"benchmark = find_benchmark({named_with(recipe.benchmark, recipe.losses)!r})\n"
        "settings = Settings.of(benchmark.recipe, {\n"
        f"{settings}"
        "})\n"
        f"result = train(benchmark, load_checked(benchmark), {recipe.strategy!r}, settings, seed={recipe.seed})\n"
        "print(result.metrics)\n"
    )


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
    write_best(target.parent, about)
    return target
