"""Delta m of every strategy: mean, 95 % interval and each seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtl.report.figures.style import GREY, WIDTH, Colours, figure, label_width, strategy_axis
from mtl.report.labels import reference_in_heads, short_labels
from mtl.report.numbers import number
from mtl.report.summary import OVER_TASKS
from mtl.report.tables import SIGNIFICANT

_ROW, _HEAD, _HEAD_TWO_AXES, _FOOT = 0.3, 0.4, 0.65, 0.55
_TALL = 25  # rows from which the axis is needed on top as well


def ranking_figure(summary: Mapping[str, Any], colours: Colours) -> Figure | None:
    """Dots with intervals, best on top; filled where the difference from the reference is significant."""
    specs, reference = summary["ranking"], summary["reference"]
    entries = [summary["strategies"][spec] for spec in specs]
    if all(entry["delta_m"][OVER_TASKS]["mean"] is None for entry in entries):
        return None
    labels = {spec: _label(label, summary["strategies"][spec]) for spec, label in short_labels(summary).items()}
    head = _HEAD_TWO_AXES if len(specs) > _TALL else _HEAD
    height = _ROW * len(specs) + head + _FOOT
    drawing = figure(WIDTH, height)
    left = label_width([*labels.values()]) / WIDTH
    axes = drawing.add_axes((left, _FOOT / height, 1 - left - 0.15 / WIDTH, 1 - (head + _FOOT) / height))
    strategy_axis(axes, labels, reference)
    low, high = _limits(entries)
    axes.set_xlim(low, high)
    axes.grid(axis="x")
    axes.set_axisbelow(True)
    axes.axvline(0, color=GREY, linewidth=1)
    for row, (spec, entry) in enumerate(zip(specs, entries, strict=True)):
        _strategy(axes, row, entry, colours[spec], spec == reference)
    if len(specs) > _TALL:
        axes.tick_params(axis="x", top=True, labeltop=True)
    published = summary["baseline"] == "single_task"
    axes.set_xlabel(
        "Δm over tasks: gain on single-task training, %"
        if published
        else f"gain on {reference_in_heads(summary)}, {summary['judged_by'] or 'mean of tasks'}, %"
    )
    key = "dot: mean · bar: 95 % interval · ticks: seeds · filled: differs significantly from the reference"
    if any(_cut(entry["delta_m"][OVER_TASKS], low, high) for entry in entries):
        key += " · ▸: goes on"
    if len(summary["seeds"]) == 1:
        key = "one seed: no intervals and no tests"
    drawing.text(0.1 / WIDTH, 1 - 0.2 / height, key, color=GREY)
    return drawing


def _cut(gain: Mapping[str, Any], low: float, high: float) -> bool:
    """Whether an interval goes beyond the axis."""
    return gain["high"] is not None and (gain["low"] < low or gain["high"] > high)


def _label(label: str, entry: Mapping[str, Any]) -> str:
    lost = ", ".join(f"{entry[key]} {key}" for key in ("diverged", "failed", "missing") if entry[key])
    return f"{label} ({lost})" if lost else label


def _strategy(axes: Axes, row: int, entry: Mapping[str, Any], colour: str, reference: bool) -> None:
    gain = entry["delta_m"][OVER_TASKS]
    low, high = axes.get_xlim()
    if gain["mean"] is None:
        return
    if not low <= gain["mean"] <= high:
        right, text = gain["mean"] > high, f"{number(gain['mean'], 1, signed=True)} %"
        axes.text(
            high if right else low, row, f"{text} ▸" if right else f"◂ {text}", ha="right" if right else "left",
            va="center", color=colour, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
        return
    if gain["high"] is not None:
        axes.plot(
            [gain["low"], gain["high"]], [row, row], color=colour, linewidth=2.4, solid_capstyle="butt", alpha=0.55
        )
        for cut, end, marker in ((gain["low"] < low, low, "<"), (gain["high"] > high, high, ">")):
            if cut:  # the bar goes on beyond the axis
                axes.plot([end], [row], marker, color=colour, markersize=7, clip_on=False, zorder=3)
    seeds = [value for value in entry["delta_m_by_seed"].values() if value is not None]
    if len(seeds) > 1:
        axes.plot(seeds, [row] * len(seeds), "|", color=colour, markersize=7, markeredgewidth=1)
    p = entry["p_adjusted"]
    filled = reference or (p is not None and p < SIGNIFICANT)
    axes.plot(
        [gain["mean"]],
        [row],
        "D" if reference else "o",
        color=colour,
        markersize=6 if reference else 7,
        markerfacecolor=colour if filled else "white",
        markeredgewidth=1.6,
    )


def _limits(entries: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """Wide enough for all means but outliers, which would squeeze the rest into one dot, and for usual intervals."""
    means = np.array([m for entry in entries if (m := entry["delta_m"][OVER_TASKS]["mean"]) is not None])
    centre = float(np.median(means))
    reach = max(8 * float(np.median(np.abs(means - centre))), 1e-3)
    inside = means[np.abs(means - centre) <= reach]
    points = [*inside.tolist(), 0.0] if abs(centre) <= 4 * reach else inside.tolist()
    low, high = min(points), max(points)
    allowance = max(0.6 * (high - low), 1e-3)
    for entry in entries:
        gain = entry["delta_m"][OVER_TASKS]
        if gain["high"] is not None and abs(gain["mean"] - centre) <= reach:
            low = min(low, max(gain["low"], min(points) - allowance))
            high = max(high, min(gain["high"], max(points) + allowance))
    margin = max(0.05 * (high - low), 1e-3)  # a single strategy without seeds to compare still needs an axis
    return low - margin, high + margin
