"""The sentences and the table of a search's report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtl.report.numbers import ABSENT, count, four_digits, rounded
from mtl.report.read import RecordedRun
from mtl.report.search.summary import signed
from mtl.report.table import Cell, Column, ReportTable


def verdict(summary: Mapping[str, Any]) -> str:
    """What was found, and at what cost."""
    cost = f"{count(summary['runs'])} runs, {count(summary['budget']['steps'])} optimizer steps"
    best = summary["best"]
    if best is None:
        return f"No run of {summary['method']} was trained to its end without breaking ({cost})."
    if "front" in summary:
        objectives = " and ".join(summary["objective"])
        size = len(summary["front"])
        trade_offs = f"{size} trade-off{'s' * (size != 1)}"
        return f"{summary['method']} found {trade_offs} between {objectives} ({cost}).{_useless(summary)}"
    name, value = next(iter(best["objective"].items()))
    reached = (
        f"{summary['method']} reached {name} {four_digits(value)} on validation data with {rounded(best['strategy'])}"
    )
    return f"{reached} ({cost}).{_useless(summary)}"


def found_losses(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Of each task whose loss was searched: its name, what `--loss` takes, and the loss in words."""
    return [
        (
            task,
            f"--loss {task}={found['spec']}",
            _equation(found),
        )
        for task, found in summary.get("losses", {}).items()
    ]


def _equation(found: Mapping[str, Any]) -> str:
    """The loss of a label, with the numbers of its polynomial; empty where it is none."""
    if found["f"] is None:
        return ""
    whole = f"{found['of_label']}, with " if found.get("of_label") else ""  # not in what earlier versions wrote
    return f"{whole}f(x, y) = {found['f']}, of a label x and a prediction y"


def _useless(summary: Mapping[str, Any]) -> str:
    """A sentence where the best that was found is of no use."""
    skill = summary["skill"]
    if skill is None or skill >= 0:
        return ""
    worse, reached = "worse than a constant prediction", four_digits(skill)
    if "front" in summary:
        return f" All are {worse}: the best mean skill is {reached}, that of a constant 0."
    return f" It is {worse}: its mean skill is {reached}, that of a constant 0."


def overview(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The few facts that stand under the title."""
    return [
        ("method", summary["method"]),
        ("runs", str(summary["runs"])),
        ("objective", ", ".join(summary["objective"])),
        ("strategies", str(len(summary["strategies"]))),
    ]


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What a careful reader asks."""
    found = [
        "The winner was chosen by its validation score among all runs, so that score is optimistic; its test metrics "
        "were not used to choose. For a fair comparison of strategies, rerun on fresh seeds: mtl compare --tune."
    ]
    if summary["proposals"]:
        seen, proposals = summary["proposals"]["informed"], summary["proposals"]["all"]
        found.append(
            f"{seen} of {proposals} proposals of {summary['method']} had seen scores of other runs; the rest were drawn"
            " without."
            + ("" if seen else " So this was a random search: give more --trials, or fewer --members at a time.")
        )
    if summary["diverged"]:
        found.append(f"{summary['diverged']} runs diverged.")
    if summary["replaced_nonfinite"]:
        found.append(f"{summary['replaced_nonfinite']} runs that were not finite any more were replaced by others.")
    if summary["stopped"]:
        found.append(f"{summary['stopped']} runs were stopped early by the method; they cannot win.")
    if summary["missing"]:
        found.append(f"{summary['missing']} runs are not finished yet.")
    if summary["importance"] and summary["importance_at"] is not None:
        found.append(
            f"Importance is that of the values that runs began with, for their scores after {summary['importance_at']} "
            "steps: until then no run had taken over another. Runs that descend from each other say nothing of it."
        )
    if summary["exploits"]:
        found.append(
            f"{summary['exploits']} exploits. The values of a run are those at its best evaluation: how they came "
            "about is in schedule.jsonl, and mtl replay trains the winner's schedule again from scratch."
        )
    return found


def runs_table(summary: Mapping[str, Any], runs: Sequence[RecordedRun], most: int | None = None) -> ReportTable:
    """The runs, best first: objectives, values and status."""
    objective = summary["objective"]
    ranked = sorted(runs, key=lambda run: signed(run.record, objective), reverse=True)[:most]
    names = list(dict.fromkeys(key for run in ranked for key in run.record["hyperparameters"]))
    columns = [
        Column("run", ("run",)),
        *(Column(name, (name,), higher) for name, higher in objective.items()),
        *(Column(name, (name,), numeric=name != "strategy") for name in names),
        Column("steps", ("steps",)),
        Column("status", ("status",), numeric=False),
    ]
    rows = [
        [
            Cell(str(run.record["trial"]), (run.record["trial"],)),
            *(_cell(run.record["objective"].get(name)) for name in objective),
            *(_cell(run.record["hyperparameters"].get(name)) for name in names),
            _cell(run.record["cost"].get("steps")),
            Cell(run.status, (run.status,)),
        ]
        for run in ranked
    ]
    return ReportTable(columns, rows)


def metrics_table(summary: Mapping[str, Any]) -> ReportTable:
    """Validation and test metrics of the winner."""
    columns = [Column("task", ("task",), numeric=False), Column("metric", ("metric",), numeric=False)]
    columns += [Column("validation", ("validation",)), Column("test", ("test",))]
    best = summary["best"] or {"validation": {}, "metrics": {}}
    rows = [
        [
            Cell(task, (task,)),
            Cell(metric, (metric,)),
            _cell(value),
            _cell(best["metrics"].get(task, {}).get(metric)),
        ]
        for task, metrics in best["validation"].items()
        for metric, value in metrics.items()
    ]
    return ReportTable(columns, rows)


def _cell(value: Any) -> Cell:
    if value is None:
        return Cell(ABSENT, (None,))
    if isinstance(value, list | tuple):
        return Cell("/".join(f"{item:.3g}" for item in value), ("/".join(map(str, value)),))
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return Cell(text.replace("-", "−") if isinstance(value, float) else text, (value,))
