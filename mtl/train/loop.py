"""The outer loop of all training that decides by itself when to evaluate: steps, checkpoints, and a wish to stop."""

from __future__ import annotations

import time
from collections.abc import Callable

from mtl.train.cohort import Cohort


class Stopped(Exception):
    """The training was asked to stop; its checkpoint is written, and it continues from there."""


def nothing(*_told: object) -> None:
    """For whoever does not watch."""


def never() -> bool:
    """For whoever does not stop."""
    return False


def train_to_the_end(
    cohort: Cohort,
    save: Callable[[], object] = nothing,
    progress: Callable[[int, int], None] = nothing,
    should_stop: Callable[[], bool] = never,
    clock: Callable[[], float] = time.monotonic,
    learning: Callable[[int, int], None] = nothing,
) -> None:
    """Train the members of a cohort until none has anything left to do.

    Args:
        cohort: whose members may have made steps before.
        save: writes a checkpoint; called after each evaluation but the last, where the last call is as long ago as the
            cohort's `checkpoint_minutes`, and before the training stops.
        progress: called with (steps made, steps in all) after each step.
        should_stop: asked before each step, and now and then in what precedes the first.
        clock: gives seconds.
        learning: called with (steps made, steps in all) now and then while losses learn before training.

    Raises:
        Stopped: `should_stop` said so.
    """
    length, stretch = cohort.length, cohort.stretch
    minutes, saved = cohort.settings.checkpoint_minutes, clock()
    try:
        while not cohort.over:
            if cohort.agreed(should_stop()):
                save()
                raise Stopped
            stepped = not cohort.begin()
            if stepped:
                cohort.advance(1)
            made = cohort.step
            if cohort.learning is None:
                progress(made, length)
            else:
                learning(*cohort.learning)
            old = minutes is not None and cohort.agreed(clock() - saved >= 60 * minutes)
            if ((stepped and made % stretch == 0) or old) and not cohort.over:
                save()
                saved = clock()
    finally:
        cohort.close()
