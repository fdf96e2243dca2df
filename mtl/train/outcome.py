"""The result of a run: whether it has one, and if not, why."""

from __future__ import annotations

import math
import resource
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from mtl.train.run import Run
from mtl.train.tally import Measured, Metrics

DONE, DIVERGED, FAILED = "done", "diverged", "failed"
LEARNED = "learned_losses"  # what was learned of losses, beside the curves of a run

#: Steps of these kinds are not finite; more of them than allowed end a run.
BAD_STEPS = ("nonfinite_loss", "nonfinite_gradient", "nonfinite_weights")


def bad_steps(skipped: Mapping[str, int]) -> int:
    """Steps in which something was not finite, of counts of steps by what was wrong in them."""
    return sum(skipped.get(kind, 0) for kind in BAD_STEPS)


@dataclass
class Result:
    """What a finished run leaves.

    Attributes:
        status: `done`; `diverged` when too many steps were not finite, or what there is at the end is not; `failed`
            when no evaluation on validation data could be judged, or a metric raised an error.
        metrics: on the test split, of the parameters that did best on validation data; a metric that is undefined
            there is NaN. Empty where no evaluation was judged.
        validation: the same parameters' metrics on the validation split.
        without: the metrics on the test split without each fold of its examples in turn, where they were asked for.
        cost: optimizer steps, forward and backward passes, seconds, peak memory in MiB.
        skipped: steps by what was wrong in them.
        history: curves of weights, losses and the validation selection; `tasks` names the columns of validation losses,
            `losses` those of weights and training losses, with the task of each.
        weights: the parameters and buffers that did best, by name; None where they are asked for otherwise.
        learned: losses that were learned while it trained, by task, as a file that `learned:start=FILE` takes has them.
        reason: why it is not `done`.
    """

    status: str
    metrics: Metrics
    validation: Metrics
    selection: float
    best_step: int
    cost: dict[str, float]
    skipped: dict[str, int]
    history: dict[str, Any] = field(repr=False, default_factory=dict)
    weights: dict[str, Tensor] | None = field(repr=False, default=None)
    learned: dict[str, dict[str, Any]] = field(repr=False, default_factory=dict)
    reason: str = ""
    without: Sequence[Metrics] = field(repr=False, default_factory=list)

    @property
    def written(self) -> dict[str, Any]:
        """What is written of it beside its line in results.jsonl: its curves, and what was learned of losses."""
        return {**self.history, LEARNED: self.learned} if self.learned else self.history

    @property
    def by_fold(self) -> dict[str, dict[str, list[float]]]:
        """By task and metric, the values without each fold of the test split, to eight digits; empty without any."""
        first = self.without[0] if self.without else {}
        return {
            task: {name: [float(f"{each[task][name]:.8g}") for each in self.without] for name in metrics}
            for task, metrics in first.items()
        }

    @classmethod
    def of_failure(cls, reason: str) -> Result:
        """That of a run which an exception ended."""
        return cls(FAILED, {}, {}, math.nan, 0, {}, {}, reason=reason)


def result_of(
    run: Run,
    skipped: dict[str, int],
    passes: tuple[int, int],
    device: torch.device,
    *,
    sound: bool,
    stumbled: bool,
    unjudged: Sequence[str],
    validation: Measured | None,
    test: Measured | None,
    learned: dict[str, dict[str, Any]] | None = None,
) -> Result:
    """The result of a run.

    Args:
        run: as it is at its end.
        skipped: counts of steps by what was wrong in them.
        passes: forward and backward.
        device: where it was trained.
        sound: whether its parameters are finite.
        stumbled: whether a loss of its last step was not.
        unjudged: metrics, as TASK/METRIC, that select and are not finite at its end.
        validation: its best parameters on the validation split; None where no evaluation could be judged.
        test: the same on the test split.
        learned: losses that were learned while it trained, by task.
    """
    status, reason = _outcome(run, skipped, sound=sound, stumbled=stumbled, unjudged=unjudged, test=test)
    forwards, backwards = passes
    return Result(
        status=status,
        metrics=test.metrics if test else {},
        validation=validation.metrics if validation else {},
        selection=run.state.best_selection,
        best_step=run.state.best_step,
        reason=reason,
        cost={
            "steps": run.state.step,
            "forwards": forwards,
            "backwards": backwards,
            "seconds": round(run.state.seconds, 3),
            "peak_memory_mb": peak_memory(device),
        },
        skipped=skipped,
        learned=learned or {},
        without=list(test.without) if test else [],
        history=run.curves.history([task.name for task in run.job.tasks], run.job.losses),
    )


def _outcome(
    run: Run,
    skipped: Mapping[str, int],
    *,
    sound: bool,
    stumbled: bool,
    unjudged: Sequence[str],
    test: Measured | None,
) -> tuple[str, str]:
    """The status of a run that has ended, and the reason where it is not `done`.

    What is not finite at its end is no result, nor is a run without an evaluation that could be judged: there is no
    checkpoint to test then but that of the untrained network. A last step that was left out, as by an example that is
    NaN, is like any other such step where the parameters and the evaluation are finite.
    """
    if run.state.failure:
        return FAILED, run.state.failure
    if (bad := bad_steps(skipped)) > run.job.settings.nan_limit:
        return DIVERGED, f"{bad} steps were not finite"
    if bad and bad >= run.state.step:
        return DIVERGED, f"something was not finite in all its {run.state.step} steps"
    if not sound:
        return DIVERGED, "its parameters are not finite"
    if run.curves.ends_in_nan:
        return DIVERGED, "its loss on validation data is NaN at the end"
    if stumbled and not run.curves.ends_finite:
        return DIVERGED, "its losses are not finite, neither in its last step nor on validation data"
    if test is None:
        named = f" of {', '.join(unjudged)}" if unjudged else ""
        return FAILED, f"no evaluation on validation data gave a finite value{named}"
    if test.failure:
        return FAILED, test.failure
    if any(math.isnan(loss) for loss in test.losses.values()):
        return DIVERGED, "its predictions on the test split are not finite"
    return DONE, ""


def peak_memory(device: torch.device) -> float:
    """Peak memory in MiB: the device's allocator on a GPU, the whole process on a CPU."""
    if device.type == "cuda":
        return round(torch.cuda.max_memory_allocated(device) / 2**20, 1)
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)
