"""What a reader of a study should know of its data: sizes, missing labels, what a prediction without inputs reaches."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mtl.benchmarks.benchmark import Splits, Task
from mtl.losses.labels import known
from mtl.train.evaluate import constant_metrics


def data_facts(tasks: Sequence[Task], splits: Splits) -> dict[str, Any]:
    """Plain values, to be recorded.

    Returns:
        `examples`: of each split, or of each task's own, such as `train of amazon`. `missing`: labels that are not
        there, by split and task; where labels are too many to be held, `sampled` has the number of examples that these
        and `constant` are of. `constant`: metrics on the test split of the best constant prediction, by task; None
        where a metric has no value for one.
    """
    constant = constant_metrics(tasks, splits.train, splits.test)
    sampled = {name: len(next(iter(part.targets.values()))) for name, part in splits.parts() if part.sampled}
    return {
        "examples": {name: len(part) for name, part in splits.parts()},
        **({"sampled": sampled} if sampled else {}),
        "missing": {
            name: {task.name: int((~known(split.targets[task.name])).sum()) for task in tasks}
            for name, split in splits.items()
        },
        "constant": {
            task: {name: value if math.isfinite(value) else None for name, value in values.items()}
            for task, values in constant.items()
        },
    }
