"""The picture of a case: every seed of every variant, and how the selection went on validation data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from show import Measured, measured, short, together

from mtl.stats import mean_interval

INK, REFERENCE = "#1d2530", "#6b7480"
WIDEST = 42  # characters of a label
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933")


def draw(words: Sequence[str], results: Mapping[str, Any], path: Path) -> None:
    """Write the picture of one comparison; the same file from the same numbers and version of Matplotlib.

    Args:
        words: `RUN METRIC`, or `PREFIX METHOD ...` of searches.
        results: as kept.
        path: of the SVG.
    """
    searches = words[0] not in results["runs"]
    run = together(results["runs"], words[0], words[1:]) if searches else results["runs"][words[0]]
    found = measured(run, "skill" if searches else words[1])
    order = found.best_first()
    others = [variant for variant in order if variant != run["reference"]]
    colours = {**dict(zip(others, COLOURS * 3, strict=False)), run["reference"]: REFERENCE}
    curves = {} if searches else run["curves"]
    style = {"svg.hashsalt": path.stem, "svg.fonttype": "none", "font.size": 7, "axes.linewidth": 0.6}
    with mpl.rc_context(style):
        figure = Figure(figsize=(6.4, 0.75 + 0.2 * len(order)), layout="constrained")
        FigureCanvasSVG(figure)
        if curves:
            left, right = figure.subplots(1, 2, width_ratios=(3, 2))
            _curves(right, curves, order, colours)
        else:
            left = figure.subplots()
        _points(left, found, order, colours)
        for axes in figure.axes:
            axes.spines[["top", "right"]].set_visible(False)
            axes.tick_params(length=2, width=0.6)
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _points(axes: Axes, found: Measured, order: Sequence[str], colours: Mapping[str, str]) -> None:
    """A point for each seed, and the mean with its interval."""
    for row, variant in enumerate(order):
        values = [value for value in found.values[variant].values() if value is not None]
        axes.plot(values, [row] * len(values), "o", color=colours[variant], markersize=3, alpha=0.6, markeredgewidth=0)
        interval = mean_interval(values)
        if interval.mean is not None:
            axes.plot([interval.mean], [row], "|", color=INK, markersize=8)
        if interval.low is not None and interval.high is not None:
            axes.plot([interval.low, interval.high], [row, row], color=INK, linewidth=0.8)
    axes.set_yticks(range(len(order)), [_cut(short(variant, found.values)) for variant in order])
    axes.set_ylim(len(order) - 0.5, -0.5)
    axes.set_title(f"{found.name} on test data {'↑' if found.higher else '↓'}", fontsize=7)


def _curves(axes: Axes, curves: Mapping[str, Any], order: Sequence[str], colours: Mapping[str, str]) -> None:
    """The mean over seeds of the selection on validation data, over steps."""
    for variant in order:
        if variant in curves:
            axes.plot(curves[variant]["step"], curves[variant]["selection"], color=colours[variant], linewidth=1)
    axes.set_title("validation skill ↑, over steps", fontsize=7)


def _cut(label: str) -> str:
    """A label that leaves room for the points."""
    return label if len(label) <= WIDEST else f"{label[: WIDEST - 1]}…"
