"""The losses that the runs of a comparison have learned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mtl.files.learned import learned_loss_file
from mtl.report.read import RecordedRun, Study

if TYPE_CHECKING:
    from mtl.losses import Loss
    from mtl.report.search.found import FoundLoss


def learned_losses(summary: Mapping[str, Any], study: Study) -> dict[str, FoundLoss]:
    """Of each task whose loss was learned, that of the first run of the strategy that ranks highest of those with one.

    A file that cannot be read is left out.

    Args:
        summary: as in summary.json.
        study: has the runs.
    """
    found: dict[str, FoundLoss] = {}
    for strategy in summary["ranking"]:
        for run in study.of("final", strategy):
            for task, about in study.config["tasks"].items():
                if task not in found:
                    add_learned(found, run, task, about)
    return found


def add_learned(found: dict[str, FoundLoss], run: RecordedRun, task: str, about: Mapping[str, Any]) -> None:
    """Add the loss of a task, which config.yaml describes, as a run has learned it, in place of what it began with."""
    if (loss := learned_by(run, task)) is None:
        return
    from mtl.report.search.found import FoundLoss  # brings torch, which reports without it do not need

    found[task] = found[task]._replace(loss=loss) if task in found else FoundLoss(loss, loss.measure, about["outputs"])


def learned_by(run: RecordedRun, task: str) -> Loss | None:
    """The loss of a task that a run has learned, as a loss that stays as it is; None where there is none to read."""
    path = learned_loss_file(run.directory, run.record["run"], task)
    if not path.exists():
        return None
    from mtl.losses.learned import learned_in

    try:
        return learned_in(path)
    except ValueError:
        return None


def options_of(found: Mapping[str, FoundLoss]) -> list[tuple[str, str]]:
    """Of each task its name, and what `--loss` takes."""
    return [(task, f"--loss {task}={each.loss}") for task, each in found.items()]
