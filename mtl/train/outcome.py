"""Whether a run that has ended has a result, and if not, why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mtl.train.evaluate import Measured
from mtl.train.record import Record

DONE, DIVERGED, FAILED = "done", "diverged", "failed"

#: Steps of these kinds are not finite; more of them than allowed end a run.
BAD_STEPS = ("nonfinite_loss", "nonfinite_gradient", "nonfinite_weights")


def bad_steps(skipped: Mapping[str, int]) -> int:
    """Steps in which something was not finite, of counts of steps by what was wrong in them."""
    return sum(skipped.get(kind, 0) for kind in BAD_STEPS)


def outcome(
    record: Record,
    skipped: Mapping[str, int],
    limit: int,
    *,
    sound: bool,
    unjudged: Sequence[str],
    test: Measured | None,
) -> tuple[str, str]:
    """The status of a run that has ended, and the reason where it is not `done`.

    What is not finite at its end is no result, nor is a run without an evaluation that could be judged: there is no
    checkpoint to test then but that of the untrained network.

    Args:
        record: of the run.
        skipped: counts of steps by what was wrong in them.
        limit: bad steps that a run may have.
        sound: whether its parameters and its last losses are finite.
        unjudged: metrics, as TASK/METRIC, that select and are not finite at its end.
        test: its best parameters on the test split; None where no evaluation could be judged.
    """
    if record.failure:
        return FAILED, record.failure
    if (bad := bad_steps(skipped)) > limit:
        return DIVERGED, f"{bad} steps were not finite"
    if not sound:
        return DIVERGED, "its parameters or its losses of the last step are not finite"
    if any(math.isnan(loss) for row in record.history["validation_loss"][-1:] for loss in row):
        return DIVERGED, "its loss on validation data is NaN at the end"
    if test is None:
        named = f" of {', '.join(unjudged)}" if unjudged else ""
        return FAILED, f"no evaluation on validation data gave a finite value{named}"
    if test.failure:
        return FAILED, test.failure
    if any(math.isnan(loss) for loss in test.losses.values()):
        return DIVERGED, "its predictions on the test split are not finite"
    return DONE, ""
