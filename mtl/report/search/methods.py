"""Several searches of one problem by different methods: one chart and one table, at equal steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl.files.whole import write_whole
from mtl.report.again import again, write_again
from mtl.report.files import json_values, write_summary, write_tables
from mtl.report.numbers import ABSENT, count, four_digits
from mtl.report.search.progress import progress
from mtl.report.search.summary import SearchRun, counted, read_search
from mtl.report.table import Cell, Column, ReportTable

#: What has to be the same in all of them.
_SAME = ("benchmark", "training", "digests")
_KEPT = ("runs", "stopped", "diverged", "exploits", "budget", "best")
_NOTES = (
    "All methods searched the same space with the same seed, and their runs had the same length.",
    "The objective is that of validation data, by which the winner was chosen, so it is optimistic.",
    "A method that stops runs early begins more of them; the values after equal steps are what compares.",
)


def write_methods_report(directories: Sequence[Path], out: Path) -> dict[str, Any]:
    """Read the directories of several searches and write summary.json, best.yaml, tables/, figures/ and report.html.

    Raises:
        ValueError: one cannot be read, two are of one method, or they are not of one problem.
        OSError: `out` cannot be written.
    """
    searches = _read(directories)
    summary = summarize_methods(searches)
    out.mkdir(parents=True, exist_ok=True)
    write_again(summary["again"], out)
    write_summary(out, summary)
    table = methods_table(summary)
    write_tables(out, {"methods": table})
    figures = _drawn(searches, summary, out / "figures")
    links = {name: f"{path.name}/report.html" for name, path in zip(searches, directories, strict=True)}
    inside = all(path.resolve().parent == out.resolve() for path in directories)
    write_whole(out / "report.html", _page(summary, table, figures, links if inside else {}))
    return summary


def _read(directories: Sequence[Path]) -> dict[str, SearchRun]:
    """The searches by the name of their method, in the order of the directories."""
    found: dict[str, SearchRun] = {}
    for directory in directories:
        search = read_search(directory)
        first = next(iter(found.values()), search)
        name = str(search.config["search"]["method"])
        if name in found:
            raise ValueError(f"{str(directory)!r} is a second search by {name}: reports of those cannot be merged")
        for key in _SAME:
            if search.config.get(key) != first.config.get(key):
                raise ValueError(f"{str(directory)!r} was made with another {key} than {str(directories[0])!r}")
        if search.objective != first.objective:
            raise ValueError(f"{str(directory)!r} has another objective than {str(directories[0])!r}")
        found[name] = search
    return found


def summarize_methods(searches: Mapping[str, SearchRun]) -> dict[str, Any]:
    """What summary.json holds: of each method its runs, its cost, its winner, and its best so far at equal steps."""
    first = next(iter(searches.values()))
    name, higher = next(iter(first.objective.items()))
    courses = {method: progress(search.runs, higher=higher) for method, search in searches.items()}
    ends = [int(course.spent[-1]) for course in courses.values() if course is not None]
    equal = min(ends, default=0)
    entries: dict[str, dict[str, Any]] = {}
    for method, search in searches.items():
        course = courses[method]
        upto = None if course is None else int(np.searchsorted(course.spent, equal, side="right"))
        value = None if course is None or not upto else float(course.best[upto - 1])
        whole = json_values(counted(search))
        entries[method] = {**{key: whole[key] for key in _KEPT}, "at_equal_steps": value}
    sign = 1 if higher else -1

    def place(method: str) -> float:
        value = entries[method]["at_equal_steps"]
        return np.inf if value is None else -sign * float(value)

    ranking = sorted(entries, key=place)
    finished = {method: entry["best"]["objective"].get(name) for method, entry in entries.items() if entry["best"]}
    known = {method: value for method, value in finished.items() if value is not None}
    winner = max(known, key=lambda each: sign * known[each], default=None)
    return {
        "command": "search",
        "benchmark": first.config["benchmark"],
        "objective": first.objective,
        "space": first.config["search"]["space"],
        "seed": first.config["seeds"][0],
        "equal_steps": equal,
        "methods": entries,
        "ranking": ranking,
        "winner": winner,
        "again": None if winner is None else _again(searches[winner]),
    }


def _again(search: SearchRun) -> dict[str, Any] | None:
    return again(search.config, search.winner, search.runs)


def methods_verdict(summary: Mapping[str, Any]) -> str:
    """Which method was ahead after equal steps, in a sentence or two."""
    name, entries = next(iter(summary["objective"])), summary["methods"]
    known = [method for method in summary["ranking"] if entries[method]["at_equal_steps"] is not None]
    if not known:
        return "No run of any method gave a finite objective."
    said = [f"{method} {four_digits(entries[method]['at_equal_steps'])}" for method in known]
    return (
        f"After {count(summary['equal_steps'])} steps each, the best {name} so far is: {', '.join(said)}. "
        "One search each says little about methods: their order may be chance, and another --seed may turn it."
    )


def methods_table(summary: Mapping[str, Any]) -> ReportTable:
    """A row a method, the best at equal steps first."""
    name, higher = next(iter(summary["objective"].items()))
    columns = [
        Column("method", ("method",), numeric=False),
        Column(f"{name} after {count(summary['equal_steps'])} steps", ("at_equal_steps",), higher),
        Column(f"{name} of its winner", ("winner",), higher),
        Column("steps", ("steps",)),
        Column("runs", ("runs",)),
        Column("stopped early", ("stopped",)),
        Column("exploits", ("exploits",)),
        Column("strategy of its winner", ("strategy",), numeric=False),
    ]
    rows = []
    for method in summary["ranking"]:
        entry = summary["methods"][method]
        best = entry["best"] or {"objective": {}, "strategy": None}
        values = (entry["at_equal_steps"], best["objective"].get(name))
        strategy = best["strategy"]
        rows.append(
            [
                Cell(method, (method,)),
                *(Cell(ABSENT if value is None else four_digits(value), (value,)) for value in values),
                *(Cell(count(number), (number,)) for number in (entry["budget"]["steps"], entry["runs"])),
                *(Cell(count(entry[key]), (entry[key],)) for key in ("stopped", "exploits")),
                Cell(strategy.partition(":")[0] if strategy else ABSENT, (strategy,)),
            ]
        )
    return ReportTable(columns, rows)


def _drawn(searches: Mapping[str, SearchRun], summary: Mapping[str, Any], folder: Path) -> dict[str, str]:
    # Matplotlib is slow to import, and whoever only wants numbers does not need it.
    from mtl.report.figures.style import GREY, Colours, save, styled
    from mtl.report.numbers import shortened
    from mtl.report.search.figures import one_panel

    name, higher = next(iter(summary["objective"].items()))
    folder.mkdir(exist_ok=True)
    colours = Colours(list(searches), "")
    with styled():
        drawing, axes = one_panel(3.4)
        seen: list[float] = []
        for method, search in searches.items():
            if (course := progress(search.runs, higher=higher)) is not None:
                axes.plot(
                    course.spent, course.best, color=colours[method], linestyle=colours.dashes(method),
                    drawstyle="steps-post", linewidth=2, label=method,
                )  # fmt: skip
                seen += course.best[len(course.best) // 20 :].tolist()  # the first values would set the scale
        if seen:
            room = 0.06 * (max(seen) - min(seen) or 1.0)
            axes.set_ylim(min(seen) - room, max(seen) + room)
            axes.legend(loc="lower right" if higher else "upper right")
        axes.axvline(summary["equal_steps"], color=GREY, linewidth=0.8, linestyle=":")
        axes.set_xlabel("optimizer steps of all runs")
        axes.set_ylabel(f"best {shortened(name, 26)} so far")
        return {"methods": save(drawing, folder, "methods")}


def _page(summary: Mapping[str, Any], table: ReportTable, figures: Mapping[str, str], links: Mapping[str, str]) -> str:
    # The template engine is slow to import, and whoever only wants numbers does not need it.
    from mtl.report.html import rendered

    return rendered(
        "mtl.report.search",
        "methods.html",
        figures,
        summary=summary,
        verdict=methods_verdict(summary),
        overview=[
            ("methods", str(len(summary["methods"]))),
            ("objective", ", ".join(summary["objective"])),
            ("seed", str(summary["seed"])),
        ],
        table=table,
        links=links,
        notes=_NOTES,
        space=list(summary["space"].items()),
    )
