"""What the processes of a run do that do not lead it: the same steps, without a word and without a file."""

from __future__ import annotations

from collections.abc import Callable

from mtl.study.bundle import cohort_of
from mtl.study.plan import RunPlan
from mtl.study.setup import StudySetup
from mtl.train.loop import Stopped, train_to_the_end


def follow(run: RunPlan, setting: StudySetup, should_stop: Callable[[], bool]) -> bool:
    """Train as often as the leading process does, from where it begins, until it says that there is no more.

    Returns whether the training was stopped.

    Raises:
        ProcessLost: another process has ended.
    """
    processes, stopped = setting.processes, False
    assert processes is not None
    with processes.noticing():
        while (order := processes.said(lambda: None)) is not None:
            cohort = cohort_of([run], setting, alone=True)
            if order["cohort"] is not None:
                cohort.load_state_dict(order["cohort"])
            try:
                # All make a checkpoint, for a strategy may read its last batch again first; the leading one writes it.
                train_to_the_end(cohort, cohort.state_dict, should_stop=should_stop)
                cohort.results(setting.folds)
            except Stopped:
                stopped = True
    return stopped
