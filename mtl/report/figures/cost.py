"""What a strategy costs: time and backward passes of a step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mtl.report.cost import StepCost
from mtl.report.figures.style import FAINT, GREY, WIDTH, Colours, figure, label_width, strategy_axis
from mtl.report.labels import reference_in_heads, short_labels
from mtl.report.numbers import number

_ROW, _FOOT, _HEAD = 0.3, 0.3, 0.42


def cost_figure(summary: Mapping[str, Any], costs: Mapping[str, StepCost], colours: Colours) -> Figure | None:
    """Two panels with the same rows: seconds a step relative to the reference, and backward passes per step."""
    specs, reference = summary["ranking"], summary["reference"]
    time = [costs[spec].relative_seconds for spec in specs]
    passes = [costs[spec].backwards for spec in specs]
    if all(value is None for value in (*time, *passes)):
        return None
    height = _ROW * len(specs) + _HEAD + _FOOT
    drawing = figure(WIDTH, height)
    labels = short_labels(summary)
    left = label_width([*labels.values()]) / WIDTH
    room = 1 - left - 0.1 / WIDTH
    for place, (title, values) in enumerate(
        ((f"time per step, × {reference_in_heads(summary, 16)}", time), ("backward passes per step", passes))
    ):
        axes = drawing.add_axes((left + place * room * 0.53, _FOOT / height, room * 0.44, 1 - (_HEAD + _FOOT) / height))
        strategy_axis(axes, labels, reference)
        axes.tick_params(labelleft=place == 0)
        axes.set_title(title, pad=8)
        _bars(axes, values, [colours[spec] for spec in specs])
    return drawing


def _bars(axes: Axes, values: list[float | None], colours: list[str]) -> None:
    longest = max((value for value in values if value is not None), default=1.0) or 1.0
    axes.set_xlim(0, longest * 1.25)
    axes.axvline(1, color=GREY, linewidth=0.8, linestyle=(0, (2, 2)))
    for row, (value, colour) in enumerate(zip(values, colours, strict=True)):
        if value is not None:
            axes.plot([0, value], [row, row], color=FAINT, linewidth=2.4, solid_capstyle="butt", zorder=1)
            axes.plot([value], [row], "o", color=colour, markersize=6.5)
        axes.text((value or 0) + 0.05 * longest, row, number(value, 2), va="center", color=GREY)
    axes.spines["bottom"].set_visible(False)
    axes.set_xticks([])
