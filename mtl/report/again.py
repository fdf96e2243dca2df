"""How the best run is trained again: said in the report, and written as `best.yaml`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mtl.files.lineage import Stage, read_events, tupled, winning_line
from mtl.files.whole import write_whole
from mtl.report.read import RecordedRun

FILE = "best.yaml"


def again(config: Mapping[str, Any], run: RecordedRun | None, runs: Sequence[RecordedRun]) -> dict[str, Any] | None:
    """What repeats the best run, as summary.json holds it; None where there is no such run.

    Args:
        config: of its directory.
        run: the best one.
        runs: of the study; a fresh seed is one that none of them had.

    Returns:
        `run`, its `seed`, its `values` by name, the `line` that trains it on a fresh seed, the `file` that repeats it,
        and `remarks`; or, in place of the last four, `fault`: why no line says it.
    """
    if run is None:
        return None
    from mtl.train.recipe import recipe_of  # brings torch

    found: dict[str, Any] = {"run": run.record["run"], "seed": run.seed}
    try:
        recipe = recipe_of(config, run.record)
    except ValueError as error:
        return {**found, "fault": str(error)}
    stages = _line_of(run)
    if stages:  # the best evaluation of a run may be one that it took over, of a run with another seed
        recipe = replace(recipe, seed=stages[-1].seed)
    remarks = [*_schedule(run, stages), *_evaluations(config, run)]
    fresh = max(each.seed for each in runs) + 1
    said = [f"{run.record['run']} of a study of {config['benchmark']}: mtl train --config {FILE}", *remarks]
    return {
        **found,
        "seed": recipe.seed,
        "values": [list(pair) for pair in recipe.words()],
        "line": recipe.line(fresh),
        "file": recipe.text("\n".join(said)),
        "remarks": remarks,
    }


def write_again(found: Mapping[str, Any] | None, out: Path) -> None:
    """Write `best.yaml`, or take away that of an earlier report where nothing can be said."""
    if found is not None and "file" in found:
        write_whole(out / FILE, found["file"])
    else:
        (out / FILE).unlink(missing_ok=True)


def again_in_words(found: Mapping[str, Any] | None, out: Path) -> list[str]:
    """The lines of a terminal: the values, what repeats them, and remarks."""
    if found is None:
        return []
    if "fault" in found:
        return [f"No line of mtl train repeats {found['run']}: {found['fault']}"]
    values = "  ".join(f"{name}={value}" for name, value in found["values"])
    return [
        f"Best run: {found['run']}, with {values}",
        f"On a fresh seed: {found['line']}",
        f"The same run again: mtl train --config {out / FILE}",
        *found["remarks"],
    ]


def _line_of(run: RecordedRun) -> list[Stage] | None:
    """The stages that led to the best evaluation of a run of a search; None where the schedule does not say.

    Of a run of no search there are none.
    """
    search = run.record.get("search")
    if not search:
        return []
    try:
        return winning_line(read_events(run.directory / "schedule.jsonl", search), run.record)
    except ValueError:
        return None


def _schedule(run: RecordedRun, stages: Sequence[Stage] | None) -> list[str]:
    """A remark where the values changed on the way, or its state came from other runs."""
    if stages is None:
        return ["How its values came about is not known; these are those at its best evaluation."]
    if not stages:
        return []
    # A run under a fresh seed changes its values as the run that it repeats did; of that there are no events.
    repeats = len(stages) == 1 and stages[0].values != tupled(run.record["hyperparameters"])
    changes, takeovers = len({repr(stage.values) for stage in stages}) > 1 or repeats, len(stages) - 1
    if not changes and not takeovers:
        return []
    times = "once on the way" if takeovers == 1 else f"{takeovers} times on the way"
    if changes:
        how = "on the way, as those of the tuned run did" if repeats else times
        what = f"Its values changed {how}: these are the last ones, and trained by them from the start"
    else:
        what = f"It took over the state of another run {times}: trained from the start"
    replayed = "; mtl replay trains it again." if run.record["phase"] == "search" else "."
    return [f"{what} it becomes another model. The schedule is in schedule.jsonl{replayed}"]


def _evaluations(config: Mapping[str, Any], run: RecordedRun) -> list[str]:
    """A remark where `mtl train` selects the best model at other steps."""
    if run.record.get("trial") is None:
        return []
    about, training = config.get("search") or {}, config["training"]
    interval = about.get("interval")
    if interval and training.get("steps") is None and interval * training["epochs"] == about.get("length"):
        return []  # after each epoch, as mtl train does
    every = f"every {interval} steps" if interval else "at every interval"
    return [f"The search looked for the best step {every}; mtl train does after epochs, and may keep another one."]
