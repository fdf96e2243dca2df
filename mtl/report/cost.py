"""What one step of a strategy costs, from the clocks of its runs."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import median

from mtl.report.read import RecordedRun, Study


@dataclass(frozen=True)
class StepCost:
    """What a step costs: medians over a strategy's runs, so that one run on a busy machine does not count.

    Attributes:
        relative_seconds: time of a step over that of the reference strategy, seed by seed where both were run.
        milliseconds: time of a step.
        forwards: forward passes of a step.
        backwards: backward passes of a step.
        peak_memory: in MiB.
    """

    relative_seconds: float | None
    milliseconds: float | None
    forwards: float | None
    backwards: float | None
    peak_memory: float | None


def costs(study: Study) -> dict[str, StepCost]:
    """The cost of every strategy. A number is None where no run has it."""
    reference = {run.seed: _per_step(run, "seconds") for run in study.of("final", study.reference)}
    found = {}
    for spec in study.strategies:
        runs = study.of("final", spec)
        seconds = {run.seed: _per_step(run, "seconds") for run in runs}
        relative = [
            value / base for seed, value in seconds.items() if value is not None and (base := reference.get(seed))
        ]
        typical = _median(list(seconds.values()))
        found[spec] = StepCost(
            relative_seconds=_median([*relative]),
            milliseconds=None if typical is None else 1000 * typical,
            forwards=_median([_per_step(run, "forwards") for run in runs]),
            backwards=_median([_per_step(run, "backwards") for run in runs]),
            peak_memory=_median([run.cost("peak_memory_mb") for run in runs]),
        )
    return found


def _per_step(run: RecordedRun, what: str) -> float | None:
    value, steps = run.cost(what), run.cost("steps")
    return None if value is None or not steps else value / steps


def _median(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None
