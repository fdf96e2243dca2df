"""The figures of a decision."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from mtl.auto.clock import shown
from mtl.auto.finals import USUAL_LABEL
from mtl.auto.summary import AutoStudy
from mtl.report.figures.style import BLUE, FAINT, GREY, INK, WIDTH, figure, save, styled, text_width
from mtl.report.numbers import shortened
from mtl.report.search.progress import progress

_FOOT = 0.55
_PARTS = {"race": "preparation and race", "final": "finals", "path": "path"}


def draw_decision(summary: Mapping[str, Any], study: AutoStudy, folder: Path) -> dict[str, str]:
    """Write every figure that there is data for as SVG and PNG, and return the SVGs for the page."""
    folder.mkdir(parents=True, exist_ok=True)
    with styled():
        drawings = {
            "race": race_figure(study),
            "finalists": finalists_figure(summary),
            "path": path_figure(summary),
            "importance": importance_figure(summary),
            "dimensions": dimensions_figure(summary),
            "time": time_figure(summary),
        }
        return {name: save(drawing, folder, name) for name, drawing in drawings.items() if drawing is not None}


def race_figure(study: AutoStudy) -> Figure | None:
    """The objective of every run of the race at each evaluation, the best so far, and the default, over time."""
    name, higher = study.objective
    pace, found = study.state.pace, progress(study.race, higher=higher)
    if found is None or not pace:
        return None
    seconds = np.interp(found.spent, [steps for _, steps in pace], [at for at, _ in pace])
    unit, per = ("minutes", 60.0) if pace[-1][0] >= 180 else ("seconds", 1.0)
    times, values, usual = seconds / per, found.values, found.trials == 0
    drawing = figure(WIDTH, 3.1)
    axes = drawing.add_axes((0.75 / WIDTH, _FOOT / 3.1, 1 - 0.95 / WIDTH, 1 - (_FOOT + 0.3) / 3.1))
    axes.plot(times, values, "o", color=FAINT, markersize=3, rasterized=True)
    axes.plot(times[usual], values[usual], color=INK, linewidth=1.4, linestyle=(0, (5, 1.5)), label="default")
    axes.plot(times, found.best, color=BLUE, drawstyle="steps-post", linewidth=2, label="best so far")
    low, high = np.quantile(values, [0.1, 1.0] if higher else [0.0, 0.9])
    room = 0.06 * (high - low or 1.0)
    axes.set_ylim(low - room, high + room)
    axes.set_xlabel(f"{unit} since the command began")
    axes.set_ylabel(shortened("mean skill" if name == "selection" else name, 30))
    axes.legend(loc="lower right" if higher else "upper right")
    return drawing


def finalists_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Each finalist's runs on the holdout, a dot a seed, with the mean and its interval."""
    entries: Sequence[Mapping[str, Any]] = summary["finalists"]
    if not entries or all(each["holdout"]["mean"] is None for each in entries):
        return None
    height = 0.42 * len(entries) + _FOOT + 0.15
    drawing = figure(WIDTH, height)
    labels = [each["label"] for each in entries]
    left = (text_width(labels) + 0.3) / WIDTH
    axes = drawing.add_axes((left, _FOOT / height, 1 - left - 0.3 / WIDTH, 1 - (_FOOT + 0.1) / height))
    for row, entry in enumerate(entries):
        found, colour = entry["holdout"], INK if entry["label"] == USUAL_LABEL else BLUE
        scores = [score for score in found["scores"].values() if score is not None]
        axes.plot(
            scores, [row] * len(scores), "o", color=FAINT, markersize=5, markeredgecolor=GREY, markeredgewidth=0.5
        )
        if found["low"] is not None:
            axes.plot([found["low"], found["high"]], [row + 0.22] * 2, color=colour, linewidth=1.6)
        if found["mean"] is not None:
            axes.plot(found["mean"], row + 0.22, "o", color=colour, markersize=6)
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    name, higher = next(iter(summary["objective"].items()))
    word = "mean skill" if name == "selection" else name if higher else f"−{name}"
    axes.set_xlabel(f"{shortened(word, 40)} on the examples held out; higher is better")
    return drawing


def path_figure(summary: Mapping[str, Any]) -> Figure | None:
    """The holdout from the default to the winner, a part at a time."""
    points: Sequence[Mapping[str, Any]] = summary["path"]
    if not points:
        return None
    drawing = figure(WIDTH, 3.0)
    axes = drawing.add_axes((0.75 / WIDTH, _FOOT / 3.0, 1 - 0.95 / WIDTH, 1 - (_FOOT + 0.3) / 3.0))
    means = [point["holdout"]["mean"] for point in points]
    axes.plot(range(len(points)), means, color=BLUE, marker="o", markersize=6)
    for place, point in enumerate(points):
        if point["holdout"]["low"] is not None:
            axes.plot([place] * 2, [point["holdout"]["low"], point["holdout"]["high"]], color=BLUE, linewidth=1.2)
    labels = [f"+ {point['part']}" if point["part"] else point["label"] for point in points]
    labels[-1] += f"\n= {points[-1]['label']}"
    axes.set_xticks(range(len(points)), labels)
    axes.set_xlim(-0.3, len(points) - 0.7)
    axes.set_ylabel("on the examples held out")
    return drawing


def importance_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Main effects of the parts, and the largest interactions between two of them."""
    found = summary["importance"]
    if not found:
        return None
    pairs = sorted(found["pairs"].items(), key=lambda each: -each[1])[:5]
    bars = [(name, share, BLUE) for name, share in sorted(found["parts"].items(), key=lambda each: -each[1])]
    return _bars([*bars, *((name, share, GREY) for name, share in pairs)])


def dimensions_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Main effects of single dimensions, the most important on top."""
    found = summary["importance"]
    return _bars([(name, share, BLUE) for name, share in found["dimensions"].items()][:10]) if found else None


def _bars(bars: Sequence[tuple[str, float, str]]) -> Figure:
    height = 0.3 * len(bars) + _FOOT + 0.1
    drawing = figure(WIDTH, height)
    left = (text_width([shortened(name) for name, *_ in bars]) + 0.25) / WIDTH
    axes = drawing.add_axes((left, _FOOT / height, 1 - left - 0.3 / WIDTH, 1 - (_FOOT + 0.1) / height))
    places = range(len(bars))
    axes.barh(places, [share for _, share, _ in bars], color=[colour for *_, colour in bars], height=0.55)
    axes.set_yticks(places, [shortened(name) for name, *_ in bars])
    axes.set_ylim(len(bars) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.set_xlabel("share of the forest's variance")
    return drawing


def time_figure(summary: Mapping[str, Any]) -> Figure | None:
    """How the time was spent."""
    found, begun, parts = summary["time"], 0.0, []
    for part, until in found["ended"].items():
        parts.append((_PARTS[part], begun, until))
        begun = until
    if not parts:
        return None
    parts.append(("page", begun, max(begun, found["elapsed"])))
    drawing = figure(WIDTH, 1.15)
    axes = drawing.add_axes((0.2 / WIDTH, 0.5 / 1.15, 1 - 0.4 / WIDTH, 0.35 / 1.15))
    for shade, (name, low, high) in zip((BLUE, INK, GREY, FAINT), parts, strict=False):
        axes.barh([0], [high - low], left=[low], color=shade, height=0.8, label=f"{name} {shown(high - low)}")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.set_xlim(0, max(found["limit"], found["elapsed"]))
    axes.set_xlabel(f"seconds of {found['limit']:g}")
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncols=4, handlelength=1, borderaxespad=0)
    return drawing
