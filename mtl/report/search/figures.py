"""The figures of a search."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtl.files.lineage import Stage, is_complete, source_steps
from mtl.report.figures.style import BLUE, FAINT, GREY, INK, WIDTH, figure, grid, log_scale, save, styled, text_width
from mtl.report.numbers import ends, shortened
from mtl.report.search.curves import curves_figure
from mtl.report.search.progress import progress
from mtl.report.search.summary import SearchRun, found_in, signed
from mtl.report.search.tree import family_tree
from mtl.stats.importance import expanded, numeric, spans_decades, varying

_FOOT, _HEAD = 0.55, 0.35


def draw_search(summary: Mapping[str, Any], search: SearchRun, folder: Path) -> dict[str, str]:
    """Write every figure that the search has data for as SVG and PNG, and return the SVGs for the page."""
    folder.mkdir(parents=True, exist_ok=True)
    with styled():
        drawings = {
            "progress": progress_figure(search),
            "front": front_figure(search) if len(search.objective) > 1 else None,
            "losses": losses_figure(search),
            "parallel": parallel_figure(search),
            "curves": curves_figure(search),
            "importance": importance_figure(summary),
            "lineage": lineage_figure(search) if search.exploits and is_complete(search.events) else None,
            "schedule": schedule_figure(search) if search.exploits else None,
        }
        return {name: save(drawing, folder, name) for name, drawing in drawings.items() if drawing is not None}


def losses_figure(search: SearchRun) -> Figure | None:
    """The losses that were found and their slopes, where losses were searched."""
    if not (found := found_in(search)):
        return None
    from mtl.report.search.found_figure import found_figure  # brings torch, which reports without it do not need

    return found_figure(found)


def progress_figure(search: SearchRun) -> Figure | None:
    """The first objective of every run at each evaluation, and the best so far, over the steps of all runs."""
    name, higher = next(iter(search.objective.items()))
    if (found := progress(search.runs, higher=higher)) is None:
        return None
    spent, values, _, best = found
    drawing, axes = one_panel(3.1)
    axes.plot(spent, values, "o", color=FAINT, markersize=3, rasterized=True)
    axes.plot(spent, best, color=BLUE, drawstyle="steps-post", linewidth=2)
    low, high = np.quantile(values, [0.02, 1.0] if higher else [0.0, 0.98])
    room = 0.06 * (high - low or 1.0)
    axes.set_ylim(low - room, high + room)
    axes.set_xlabel("optimizer steps of all runs")
    axes.set_ylabel(shortened(name, 30))
    return drawing


def front_figure(search: SearchRun) -> Figure | None:
    """Every run by its first two objectives; those on the front are filled."""
    names = list(search.objective)[:2]
    records = [run.record for run in search.runs if all(run.record["objective"].get(n) is not None for n in names)]
    if not records:
        return None
    from mtl.stats.pareto import pareto_front

    front = set(pareto_front([signed(record, search.objective) for record in records]))
    drawing, axes = one_panel(3.6)
    for index, record in enumerate(records):
        x, y = (record["objective"][name] for name in names)
        axes.plot(x, y, "o", color=BLUE if index in front else FAINT, markersize=7 if index in front else 5)
    labels = [f"{name} ({'higher' if search.objective[name] else 'lower'} is better)" for name in names]
    axes.set_xlabel(labels[0])
    axes.set_ylabel(labels[1])
    return drawing


def parallel_figure(search: SearchRun) -> Figure | None:
    """Parallel coordinates (Inselberg 1985): a line a run, through its values and its first objective."""
    name, higher = next(iter(search.objective.items()))
    runs = [run for run in search.runs if run.record["objective"].get(name) is not None]
    rows = [expanded(run.record["hyperparameters"]) for run in runs]
    names = list(dict.fromkeys(key for row in rows for key in row))
    columns = {key: [row.get(key) for row in rows] for key in names}
    columns = {key: column for key, column in columns.items() if len({repr(value) for value in column}) > 1}
    if len(runs) < 2 or not columns:
        return None
    columns[name] = [run.record["objective"][name] for run in runs]
    ranked = np.argsort(np.argsort([run.record["objective"][name] * (1 if higher else -1) for run in runs]))
    drawing, axes = one_panel(3.6)
    places = np.column_stack([_placed(axes, place, column) for place, column in enumerate(columns.values())])
    for row in np.argsort(ranked):
        share = ranked[row] / max(1, len(runs) - 1)
        known = ~np.isnan(places[row])
        axes.plot(
            np.arange(len(columns))[known],
            places[row][known],
            color=mpl.colormaps["viridis"](0.95 * (1 - share)),
            alpha=0.35 + 0.65 * share,
            linewidth=2.4 if ranked[row] == len(runs) - 1 else 1.0,
        )
    axes.set_xlim(-0.15, len(columns) - 0.55)
    axes.set_ylim(-0.06, 1.04)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.spines["bottom"].set_visible(False)
    size = 8.5 if len(columns) < 10 else 7
    axes.set_xticks(range(len(columns)), [_wrapped(key) for key in columns], fontsize=size)
    axes.tick_params(axis="x", length=0)
    return drawing


def importance_figure(summary: Mapping[str, Any]) -> Figure | None:
    """A bar a parameter, the most important on top."""
    shares = summary["importance"]
    if not shares:
        return None
    names = list(shares)[:12]
    height = 0.3 * len(names) + _FOOT + 0.1
    drawing = figure(WIDTH, height)
    left = (text_width([shortened(name) for name in names]) + 0.25) / WIDTH
    axes = drawing.add_axes((left, _FOOT / height, 1 - left - 0.3 / WIDTH, 1 - (_FOOT + 0.1) / height))
    axes.barh(range(len(names)), [shares[name] for name in names], color=BLUE, height=0.55)
    axes.set_yticks(range(len(names)), [shortened(name) for name in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlim(0, 1)
    axes.set_xlabel("share of the explained variance")
    return drawing


def lineage_figure(search: SearchRun) -> Figure:
    """The family tree of the runs at the end; what the winner descends from in blue."""
    branches = family_tree(search.events)
    length = search.config["search"]["length"]
    ends = sorted((branch for branch in branches if branch.end == math.inf), key=lambda branch: branch.row)
    height = min(6.0, max(2.2, 0.09 * len(ends) + 1.0)) + _FOOT
    drawing = figure(WIDTH, height)
    axes = drawing.add_axes((0.2 / WIDTH, _FOOT / height, 1 - 0.95 / WIDTH, 1 - (_FOOT + 0.15) / height))
    for branch in branches:
        axes.plot([branch.begin, min(branch.end, length)], [branch.row] * 2, color=GREY, linewidth=0.8)
        if branch.parent is not None:
            axes.plot([branch.begin] * 2, [branches[branch.parent].row, branch.row], color=GREY, linewidth=0.8)
    rows = {(branch.trial, branch.begin): branch.row for branch in branches}
    path = [
        (step, rows[stage.trial, stage.step])
        for stage, end in _ended(search.stages, length)
        for step in (stage.step, end)
    ]
    if path:
        axes.plot(*zip(*path, strict=True), color=BLUE, linewidth=2.0)
    axes.set_xlim(0, length)
    axes.set_ylim(len(ends) - 0.4, -0.6)
    axes.set_xlabel("step")
    axes.spines["left"].set_visible(False)
    axes.yaxis.tick_right()
    axes.yaxis.set_label_position("right")
    axes.set_ylabel("run")
    every = math.ceil(len(ends) / 40)
    axes.set_yticks([branch.row for branch in ends[::every]], [str(branch.trial) for branch in ends[::every]])
    axes.tick_params(axis="y", length=0, labelsize=7 if len(ends) > 16 else 9)
    return drawing


def schedule_figure(search: SearchRun) -> Figure | None:
    """Each number over time: all runs in grey, the schedule that led to the winner in blue."""
    length = search.config["search"]["length"]
    values = [expanded(event.after) for event in search.events]
    names = [name for name in dict.fromkeys(key for row in values for key in row) if _is_number(name, values)]
    names = [name for name in names if name in varying([row for row in values if name in row])]
    if not names:
        return None
    drawing, panels = grid(len(names), 3, 1.75, bottom=_FOOT, top=_HEAD, gap=0.42)
    drawing.subplots_adjust(hspace=0.5)
    for axes, name in zip(panels, names, strict=True):
        axes.set_title(shortened(name, 30), fontsize=9.5)
        shown = [float(row[name]) for row in values if name in row]
        if spans_decades(shown):
            log_scale(axes, shown)
        for trial in {event.target for event in search.events}:
            own = [(event.step, expanded(event.after).get(name)) for event in search.events if event.target == trial]
            _steps(axes, own, length, FAINT, 0.8)
        path = [(stage.step, expanded(stage.values).get(name)) for stage in search.stages]
        _steps(axes, path, length, BLUE, 2.0)
        axes.set_xlim(0, length)
    drawing.supxlabel("step", color=INK)
    return drawing


def one_panel(height: float) -> tuple[Figure, Axes]:
    """A figure with one pair of axes; height in inches."""
    drawing = figure(WIDTH, height)
    axes = drawing.add_axes((0.75 / WIDTH, _FOOT / height, 1 - 0.95 / WIDTH, 1 - (_FOOT + 0.15) / height))
    return drawing, axes


def _placed(axes: Axes, place: int, column: Sequence[Any]) -> np.ndarray:
    """Draw one axis of the parallel coordinates and return where each run crosses it, in [0, 1]."""
    axes.plot([place, place], [0, 1], color=GREY, linewidth=0.8, zorder=0)
    known = [value for value in column if value is not None]
    if numeric(known):
        log = spans_decades(known)
        low, high = (math.log(x) if log else float(x) for x in (min(known), max(known)))
        marks = dict(zip((0.0, 1.0), ends(min(known), max(known)), strict=True))
        where = [math.nan if v is None else ((math.log(v) if log else v) - low) / (high - low or 1) for v in column]
    else:
        choices = sorted({str(value) for value in column})
        position = {choice: k / max(1, len(choices) - 1) for k, choice in enumerate(choices)}
        marks = {at: shortened(choice, 16) for choice, at in position.items()}
        where = [position[str(value)] for value in column]
    for at, text in marks.items():
        ground = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.6}
        axes.text(place + 0.04, at, text, fontsize=8, color=GREY, va="center", bbox=ground)
    return np.array(where)


def _wrapped(name: str) -> str:
    parts = name.removeprefix("strategy.").replace("_", "_.").split(".")
    return "\n".join(shortened(part, 12) for part in parts)


def _is_number(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    return numeric([row[name] for row in rows if name in row])


def _ended(stages: Sequence[Stage], length: int) -> list[tuple[Stage, int]]:
    return list(zip(stages, [*(source_steps(stage) for stage in stages[1:]), length], strict=True))


def _steps(axes: Axes, path: Sequence[tuple[int, Any]], length: int, colour: str, width: float) -> None:
    """A stair of values, with gaps where the parameter does not exist."""
    values = [math.nan if value is None else float(value) for _, value in path]
    if values:
        steps = [step for step, _ in path]
        axes.step([*steps, length], [*values, values[-1]], where="post", color=colour, linewidth=width)
