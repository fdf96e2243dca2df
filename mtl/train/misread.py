"""Losses that read a task's predictions in another way than its metrics do."""

from __future__ import annotations

from collections.abc import Sequence

from mtl.losses import LOSSES, Exponential, Loss
from mtl.losses.one_each import Regression
from mtl.losses.sums import Sum
from mtl.losses.wrapped import Wrapped
from mtl.metrics import Metric

_FIT = [name for name, cls in LOSSES.items() if cls.kind == "counts" and cls is not Exponential]


def misread(loss: Loss, metrics: Sequence[Metric]) -> str | None:
    """Why a loss cannot train a task with such metrics, or None.

    A loss of errors takes a prediction for the number itself. A model that learned so, judged by metrics that take it
    for the logarithm of the number, would be far off, or infinitely so.
    """
    judge = next((metric.name for metric in metrics if metric.logarithms), "")
    if not judge:
        return None
    for part in [part for _, part in loss.weighed] if isinstance(loss, Sum) else [loss]:
        if (part.examples if isinstance(part, Wrapped) else part.kind) == "numbers":
            which = "" if part is loss else f"cannot take {part.name}, which "
            instead = f"; exp:of={part} compares that number" if isinstance(part, Regression) else ""
            return (
                f"{which}compares the output with the label, but here the output is the logarithm of the number that "
                f"is expected, as {judge} reads it{instead}; {', '.join(_FIT[:-1])} and {_FIT[-1]} fit"
            )
    return None
