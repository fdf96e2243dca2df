"""What a search maximises: the mean skill, delta m, a metric on validation data, or several of these."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mtl.benchmarks.benchmark import Benchmark
from mtl.suggestions import nearest
from mtl.train import Evaluation

SELECTION, DELTA_M = "selection", "delta_m"

#: One number an objective, higher is better; -inf for what is not finite.
Scores = tuple[float, ...]


class Objective:
    """One or several objectives, read from validation metrics.

    Args:
        names: `selection` (mean skill of the primary metrics), `delta_m` (gain in percent over single-task training),
            `TASK/METRIC`, or `TASK` for its primary metric.
        benchmark: has the tasks.

    Raises:
        ValueError: a name that is none of these, or twice the same.
    """

    def __init__(self, names: Sequence[str], benchmark: Benchmark) -> None:
        self._directions = {
            task.name: {metric.name: metric.higher_is_better for metric in task.metrics} for task in benchmark.tasks
        }
        self.names = [self._resolved(name) for name in names]
        if len(set(self.names)) < len(self.names):
            raise ValueError(f"--objective {' '.join(names)}: each can be given once")
        #: Validation metrics of single-task training; has to be set before `delta_m` is read.
        self.baseline: Mapping[str, Mapping[str, float | None]] = {}

    @property
    def several(self) -> bool:
        """Whether there is a front of trade-offs rather than a best."""
        return len(self.names) > 1

    def scores(self, metrics: Mapping[str, Mapping[str, float | None]], selection: float) -> Scores:
        """The objectives of one evaluation."""
        return tuple(self._score(name, metrics, selection) for name in self.names)

    def of(self, evaluation: Evaluation) -> Scores:
        """The objectives of a run on validation data: all -inf if it is not finite any more."""
        if not evaluation.finite:
            return (-math.inf,) * len(self.names)
        return self.scores(evaluation.metrics, evaluation.selection)

    def natural(self, scores: Scores) -> dict[str, float | None]:
        """Scores by name, with the metric's own sign; None for what is not finite."""
        return {
            name: None if not math.isfinite(score) else score if self._higher(name) else -score
            for name, score in zip(self.names, scores, strict=True)
        }

    def words(self, scores: Scores) -> str:
        """Scores for a progress bar."""
        natural = self.natural(scores)
        return "  ".join(f"{name} {'–' if value is None else format(value, '.4f')}" for name, value in natural.items())

    def higher_is_better(self) -> dict[str, bool]:
        """The direction of each objective's own numbers."""
        return {name: self._higher(name) for name in self.names}

    def _score(self, name: str, metrics: Mapping[str, Mapping[str, float | None]], selection: float) -> float:
        value: float | None
        if name == SELECTION:
            value = selection
        elif name == DELTA_M:
            from mtl.stats import delta_m_over_tasks  # brings SciPy's statistics, which take a second to import

            value = delta_m_over_tasks(metrics, self.baseline, self._directions)
        else:
            task, metric = self._parts(name)
            found = metrics.get(task, {}).get(metric)
            value = None if found is None else found if self._higher(name) else -found
        return value if value is not None and math.isfinite(value) else -math.inf

    def _higher(self, name: str) -> bool:
        if name in (SELECTION, DELTA_M):
            return True
        task, metric = self._parts(name)
        return self._directions[task][metric]

    def _parts(self, name: str) -> tuple[str, str]:
        """Task and metric; the task's name may have a slash of its own."""
        found = {f"{task}/{metric}": (task, metric) for task, metrics in self._directions.items() for metric in metrics}
        return found[name]

    def _resolved(self, name: str) -> str:
        if name in (SELECTION, DELTA_M):
            return name
        known = [f"{task}/{metric}" for task, metrics in self._directions.items() for metric in metrics]
        if name in known:
            return name
        if name in self._directions:
            return f"{name}/{next(iter(self._directions[name]))}"
        raise ValueError(f"--objective {name!r}: {nearest(name, [SELECTION, DELTA_M, *self._directions, *known])}")
