"""Every metric of every strategy as change on the baseline, in one glance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from mtl.report.figures.style import GREY, INK, WIDTH, figure, label_width, strategy_axis, text_width
from mtl.report.labels import reference_in_heads, short_labels
from mtl.report.numbers import number, shortened
from mtl.stats import relative_gains

_ROW, _FOOT = 0.3, 0.45
_MAX_LABELLED = 14
_MAX_SLANTED = 20
# Vermilion to blue through white: the ends of Okabe & Ito's palette, which no colour blindness merges.
_DIVERGING = LinearSegmentedColormap.from_list("gain", ["#c2550a", "#f1b98a", "#fbfbfb", "#8fc1de", "#00619b"])


def metrics_figure(summary: Mapping[str, Any]) -> Figure | None:
    """Heat map: strategies by metrics, blue where a strategy is better than the baseline."""
    gains, names = _gains(summary)
    if gains.size == 0 or not np.isfinite(gains).any():
        return None
    specs = summary["ranking"]
    head = min(1.6, text_width([shortened(name, 24) for name in names]) * 0.75 + 0.25)
    height = _ROW * len(specs) + head + _FOOT
    drawing = figure(WIDTH, height)
    labels = short_labels(summary)
    left = label_width([*labels.values()]) / WIDTH
    room = 1 - left - 0.55 / WIDTH
    width = min(room, 1.15 * len(names) / WIDTH)
    axes = drawing.add_axes((left, _FOOT / height, width, _ROW * len(specs) / height))
    sizes = np.abs(gains[np.isfinite(gains)])
    span = float(min(np.quantile(sizes, 0.95), 5 * np.median(sizes))) or float(sizes.max()) or 1.0
    axes.set_facecolor("#e3e6ea")
    axes.pcolormesh(
        np.ma.masked_invalid(gains), cmap=_DIVERGING, vmin=-span, vmax=span, edgecolors="white", linewidth=1.5
    )
    strategy_axis(axes, labels, summary["reference"])
    axes.set_yticks(np.arange(len(specs)) + 0.5, [*labels.values()])
    axes.set_ylim(len(specs), 0)
    axes.set_xticks(np.arange(len(names)) + 0.5, [shortened(name, 24) for name in names])
    axes.tick_params(axis="x", length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
    for label in axes.get_xticklabels():
        label.set(rotation=40 if len(names) <= _MAX_SLANTED else 90, ha="left", rotation_mode="anchor")
        label.set_verticalalignment("baseline" if len(names) <= _MAX_SLANTED else "center")
    for side in ("left", "bottom"):
        axes.spines[side].set_visible(False)
    digits = 1 if span < 20 else 0
    if len(names) <= _MAX_LABELLED:
        for (row, column), gain in np.ndenumerate(gains):
            if np.isfinite(gain):
                colour = "white" if abs(gain) > 0.75 * span else INK
                text = number(float(gain), digits, signed=True)
                axes.text(column + 0.5, row + 0.53, text, ha="center", va="center", color=colour)
    baseline = "single-task training" if summary["baseline"] == "single_task" else reference_in_heads(summary)
    legend = f"change on {baseline}, %; blue is better, orange is worse, full colour at ±{number(span, digits)}"
    drawing.text(0.1 / WIDTH, 0.12 / height, legend, color=GREY)
    return drawing


def _gains(summary: Mapping[str, Any]) -> tuple[npt.NDArray[np.float64], list[str]]:
    directions = {task: about["higher_is_better"] for task, about in summary["tasks"].items()}
    if summary["baseline"] == "single_task":
        source = {task: entry["metrics"] for task, entry in summary["single_task"].items()}
    else:
        source = summary["strategies"].get(summary["reference"], {}).get("metrics", {})
    baseline = _means(source)
    rows = []
    for spec in summary["ranking"]:
        gains = relative_gains(_means(summary["strategies"][spec]["metrics"]), baseline, directions)
        rows.append([np.nan if gain is None else gain for task in gains.values() for gain in task.values()])
    names = [
        f"{task} {metric}" if len(directions[task]) > 1 or len(directions) == 1 else task
        for task, metrics in relative_gains({}, baseline, directions).items()
        for metric in metrics
    ]
    return np.array(rows, dtype=float), names


def _means(metrics: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, float | None]]:
    return {task: {name: entry["mean"] for name, entry in values.items()} for task, values in metrics.items()}
