"""From options to a search that can be run."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mtl.benchmarks.benchmark import Benchmark
from mtl.benchmarks.losses import fitted_tasks
from mtl.losses import Loss, make_loss
from mtl.search.cohort import MakeCohort
from mtl.search.methods import SPECIAL, Method, MethodOptions, Problem, find_method
from mtl.search.objective import DELTA_M, Objective
from mtl.search.search import Search
from mtl.search.sifted import sifted
from mtl.search.space import Space
from mtl.search.space.dimension import Dimension
from mtl.search.space.parameters import Choice, Number, Parameter
from mtl.study.plan import Plan, RunPlan
from mtl.study.setup import StudySetup
from mtl.train import Cohort, Member, Settings, check_losses
from mtl.train.batches import check_batches, steps_per_epoch
from mtl.train.heads import HEADS
from mtl.train.model import build_model
from mtl.train.moving import check_cutmix, check_moves


def run_length(setting: StudySetup) -> int:
    """Optimizer steps of one run under the settings of `setting`."""
    return setting.settings.length(steps_per_epoch(setting.splits.train, setting.settings.batch_size))


def member_settings(setting: StudySetup) -> Settings:
    """The settings of the runs of a search: all have the length of `setting` in steps, and none stops early."""
    return dataclasses.replace(setting.settings, steps=run_length(setting), patience=None)


def cohort_maker(setting: StudySetup) -> Callable[[Sequence[Member]], Cohort]:
    """What makes cohorts in this process."""
    settings = member_settings(setting)

    def make(members: Sequence[Member]) -> Cohort:
        return Cohort(
            setting.benchmark,
            setting.splits,
            members,
            settings,
            device=setting.device,
            vectorised=not setting.one_at_a_time,
            told=True,
            tell=setting.tell,
        )

    return make


def make_search(
    setting: StudySetup,
    method: str,
    options: MethodOptions,
    space: Space,
    objective: Objective,
    seed: int,
    *,
    name: str = "search",
    label: str = "",
    make_cohort: MakeCohort | None = None,
    task: str | None = None,
) -> Search:
    """A search, ready to be run; unless `make_cohort` says otherwise in this process.

    Args:
        setting: of its runs; where they are those of a single-task baseline, with that task alone.
        method: its name.
        options: of the method.
        space: what is searched.
        objective: what counts.
        seed: of the search.
        name: prefix of its runs' names.
        label: the strategy that its runs count for.
        make_cohort: trains.
        task: of a single-task baseline.

    Raises:
        ValueError: an unknown method, options that do not fit it, several objectives for a method that takes one; a
            loss in the space that cannot take a task's outputs and labels.
    """
    space = sifted(decided(space, setting), setting)
    chosen = make_method(method, options, space, objective, seed, run_length(setting))
    check_losses(setting.benchmark, setting.splits, setting.settings, searched_losses(setting.benchmark, space))
    cohorts = make_cohort or cohort_maker(setting)
    return Search(name, label, chosen, chosen.problem, objective, cohorts, tell=setting.tell, task=task)


def make_method(
    method: str, options: MethodOptions, space: Space, objective: Objective, seed: int, length: int
) -> Method:
    """A method for runs of `length` steps.

    Raises:
        ValueError: an unknown method, options that do not fit it, several objectives for a method that takes one.
    """
    cls = find_method(method)
    if objective.several and not cls.several:
        raise ValueError(
            f"--objective {' '.join(objective.names)}: {method} pursues one objective; nsga2 takes several"
        )
    unlike = [name for name in ("model", "architecture") if name in space.varied]
    if cls.copies and unlike:
        written = f"{unlike[0]}={space.varied[unlike[0]].describe()}"
        raise ValueError(
            f"{method}: it copies parameters from run to run, and with {written} they do not fit; random, tpe, asha "
            "and others begin each run anew"
        )
    usual = MethodOptions()
    for option in sorted(SPECIAL - cls.hears):
        if (value := getattr(options, option)) != getattr(usual, option):
            raise ValueError(f"--{option.replace('_', '-')} {value}: {method} has no use for it")
    interval = options.interval if options.interval is not None else default_interval(length)
    if interval > length:
        raise ValueError(f"--interval {interval}: a run has only {length} steps")
    return cls(Problem(space, length, interval, seed, len(objective.names)), options)


def default_interval(length: int) -> int:
    """The usual number of steps from one decision to the next: about a twentieth of a run.

    A divisor of `length` is preferred, so that a run is a whole number of intervals.
    """
    near = [steps for steps in range(max(1, length // 40), max(1, length // 10) + 1) if length % steps == 0]
    return min(near, key=lambda steps: abs(math.log(20 * steps / length)), default=math.ceil(length / 20))


def decided(space: Space, setting: StudySetup) -> Space:
    """The space with what training labels decide, such as `class_weights=inverse`, as numbers in the losses it names.

    So what is recorded of a run says what it was trained with.
    """
    names: dict[str, dict[str, str]] = {}
    for task in setting.benchmark.tasks:
        dimension = space.dimensions.get(f"loss.{task.name}")
        for spec in dimension.parameter.grid(1) if dimension is not None else ():
            if (loss := make_loss(spec)).undecided():
                known = fitted_tasks([dataclasses.replace(task, loss=loss)], setting.splits.train)
                names.setdefault(f"loss.{task.name}", {})[spec] = str(known[0].loss)
    if not names:
        return space
    dimensions = {}
    for name, dimension in space.dimensions.items():
        parameter, condition = dimension.parameter, dimension.condition
        if name in names:
            parameter = Choice(tuple(names[name].get(spec, spec) for spec in parameter.grid(1)))
        if condition is not None and condition.parent in names:
            new = frozenset(names[condition.parent].get(choice, choice) for choice in condition.choices)
            condition = dataclasses.replace(condition, choices=new)
        dimensions[name] = Dimension(parameter, condition)
    return Space(dimensions)


def check_searched_settings(space: Space, settings: Settings) -> None:
    """Raise `ValueError` for the first two values of settings that do not go with each other, as `ema` and `swa`.

    Settings are drawn independently of each other, so that any two of their values meet in some run.
    """
    names = {field.name for field in dataclasses.fields(Settings)} & {*space.dimensions}
    grids = {name: _outermost(space.dimensions[name].parameter) for name in sorted(names)}
    first = {name: grid[0] for name, grid in grids.items()}
    for one, other in itertools.combinations(grids, 2):
        for values in itertools.product(grids[one], grids[other]):
            settings.over({**first, one: values[0], other: values[1]})
    for name, grid in grids.items():
        for value in grid:
            settings.over({**first, name: value})


def _outermost(parameter: Parameter) -> list[Any]:
    """Both ends of a range, or all choices."""
    return [parameter.at(0.0), parameter.at(1.0)] if isinstance(parameter, Number) else parameter.grid(1)


def check_searched_batches(space: Space, setting: StudySetup) -> None:
    """Raise `ValueError` for the first `augment`, `cutmix` or `sampling` of a space that the data does not allow."""
    where, splits = f"benchmark {setting.benchmark.name!r}", setting.splits
    for name in ("augment", "cutmix", "sampling"):
        dimension = space.dimensions.get(name)
        for value in dimension.parameter.grid(1) if dimension is not None else ():
            settings = Settings.of(dataclasses.asdict(setting.settings), {name: value})
            check_batches(where, splits.train, settings)
            check_moves(f"{where}, train split", setting.benchmark.tasks, splits.train, settings.augment)
            check_cutmix(f"{where}, train split", setting.benchmark.tasks, splits.train, settings.cutmix)


def check_searched_models(space: Space, setting: StudySetup) -> None:
    """Raise `ValueError` for a dropout of a space that a model has no place for, and for values of heads where there
    are none that are known as such."""
    benchmark, inputs, dimensions = setting.benchmark, setting.splits.train.first(2), space.dimensions
    models = dimensions["model"].parameter.grid(1) if "model" in dimensions else [setting.settings.model]
    for name in dimensions:
        if not (name.startswith(HEADS) or name in ("heads", "head_dropout", "dropout", "stochastic_depth")):
            continue
        for model, value in itertools.product(models, dimensions[name].parameter.grid(1)):
            with torch.random.fork_rng():
                build_model(benchmark, benchmark.tasks, inputs, setting.settings.over({"model": model, name: value}))


def searched_losses(benchmark: Benchmark, space: Space) -> dict[str, list[Loss]]:
    """By task, the losses that the space chooses among; tasks whose loss is fixed are left out."""
    dimensions = {task.name: space.dimensions.get(f"loss.{task.name}") for task in benchmark.tasks}
    return {
        task: [make_loss(name) for name in dimension.parameter.grid(1)]
        for task, dimension in dimensions.items()
        if dimension is not None
    }


def baseline_plan(setting: StudySetup, objective: Objective, seed: int) -> Plan:
    """The single-task runs that the objective compares with; most objectives need none."""
    tasks = setting.benchmark.tasks if DELTA_M in objective.names else ()
    return Plan(tuple(RunPlan("single_task", "equal", seed, task.name) for task in tasks))


def baseline_metrics(records: Sequence[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """The validation metrics of the single-task runs, by task."""
    return {record["task"]: record["validation"].get(record["task"], {}) for record in records}
