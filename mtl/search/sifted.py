"""Leaves out of a space the losses that begin training in a wrong direction, which is known without training."""

from __future__ import annotations

import numpy as np

from mtl.losses import Loss, make_loss
from mtl.losses.labels import by_class
from mtl.search.space import Space, Values
from mtl.search.space.refusals import Refusals
from mtl.search.space.space import DRAWS
from mtl.study.setup import StudySetup
from mtl.train.values import make_member


def sifted(space: Space, setting: StudySetup) -> Space:
    """The space, of which no run begins with a loss that begins in a wrong direction.

    Where that is true of all points, as of a loss that the user has set, none is refused, which is said.
    """
    benchmark, targets = setting.benchmark, setting.splits.train.targets
    classes = {task.name: task.outputs if by_class(targets[task.name], task.outputs) else 2 for task in benchmark.tasks}

    def rule(values: Values) -> str | None:
        for task in make_member(values, 0).tasks(benchmark.tasks):
            if isinstance(task.loss, Loss) and (said := task.loss.wrong_start(classes[task.name])):
                return f"{task.loss.name} of task {task.name!r}: {said}"
        return None

    if not any(_may_begin_wrong(loss) for loss in _losses(space, setting)):
        return space
    rng = np.random.default_rng(0)
    some = [rule(space.completed({}, rng)) for _ in range(DRAWS)]
    if all(some):
        setting.tell(f"no point is refused, although all are like this: {some[0]}")
        return space
    return Space(space.dimensions, Refusals(rule))


def _may_begin_wrong(loss: object) -> bool:
    return isinstance(loss, Loss) and type(loss).wrong_start is not Loss.wrong_start


def _losses(space: Space, setting: StudySetup) -> list[object]:
    """Those that tasks may have whose loss, or a parameter of it, is searched."""
    found: list[object] = []
    for task in setting.benchmark.tasks:
        name = f"loss.{task.name}"
        if name in space.dimensions:
            found += [make_loss(spec) for spec in space.dimensions[name].parameter.grid(1)]
        elif any(other.startswith(f"{name}.") for other in space.dimensions):
            found.append(task.loss)
    return found
