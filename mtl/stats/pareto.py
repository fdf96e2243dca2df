"""Trade-offs between several objectives, all maximised: the front, and how much it covers (by moocore)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import moocore
import numpy as np

Scores = tuple[float, ...]


def pareto_front(points: Sequence[Scores]) -> list[int]:
    """The front of trade-offs: indices of the points that no other point beats in every objective.

    Args:
        points: each higher is better; a point that is not finite is never on the front.
    """
    finite = [index for index, point in enumerate(points) if all(map(math.isfinite, point))]
    if not finite:
        return []
    kept = moocore.is_nondominated(np.array([points[index] for index in finite]), maximise=True)
    return [index for index, good in zip(finite, kept, strict=True) if good]


def hypervolume(points: Sequence[Scores], reference: Scores) -> float:
    """The volume between the front of `points` and the corner `reference`, all maximised. It is 0 without a finite
    point.
    """
    kept = [points[index] for index in pareto_front(points)]
    return float(moocore.hypervolume(np.array(kept), ref=np.array(reference), maximise=True)) if kept else 0.0


def worst_corner(points: Sequence[Scores]) -> Scores | None:
    """The worst finite value of each objective, which is the reference point of a search's hypervolume; None without
    any.
    """
    finite = np.array([point for point in points if all(map(math.isfinite, point))])
    return tuple(float(low) for low in finite.min(0)) if len(finite) else None
