"""How each strategy weighted the tasks over training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtl.report.figures.curves import Array, mean_curve
from mtl.report.figures.style import GREY, WIDTH, grid, log_scale, make_room, task_colours
from mtl.report.labels import short_labels
from mtl.report.numbers import shortened, two_lines
from mtl.report.read import Study

_LEGEND_COLUMNS = 6
_MAX_LEGEND = 24


def weights_figure(summary: Mapping[str, Any], study: Study) -> Figure | None:
    """One panel a strategy, one line a task or a part of its loss that is weighed apart, mean over seeds."""
    tasks = list(summary["losses"])
    curves = {
        spec: curve
        for spec in summary["ranking"]
        if (curve := mean_curve(study.of("final", spec), "step", "weights", tasks)) is not None
    }
    if not curves:
        return None
    shown = tasks[:_MAX_LEGEND]
    longest = max(len(shortened(task, 20)) for task in shown)
    columns = max(1, min(len(shown), int(WIDTH / (0.62 + 0.085 * longest))))
    legend = 0.24 * -(-len(shown) // columns) + 0.12
    short = short_labels(summary)
    titles = [two_lines(short[spec], 30) for spec in curves]
    tall = any("\n" in title for title in titles)
    drawing, panels = grid(
        len(curves), 3, 1.75 if tall else 1.55, bottom=0.62, top=legend + (0.5 if tall else 0.3), gap=0.1
    )
    drawing.subplots_adjust(hspace=0.42 if tall else 0.24)
    colours = task_colours(len(tasks))
    low, high = _limits(list(curves.values()))
    logarithmic = low > 0 and high / low > 50
    for axes, title, (steps, values) in zip(panels, titles, curves.values(), strict=True):
        axes.axhline(1, color=GREY, linewidth=0.7, linestyle=(0, (2, 2)))
        for task, colour in enumerate(colours):
            axes.plot(steps, values[:, task], color=colour, linewidth=1.3 if len(tasks) <= 12 else 0.8)
        axes.set_title(title, pad=4, fontweight="normal")
        if logarithmic:
            log_scale(axes)
        axes.set_ylim(low, high)
        axes.margins(x=0.02)
    _share_labels(drawing, panels, "loss weight")
    handles = [Line2D([], [], color=colour, linewidth=2.2) for colour in colours[: len(shown)]]
    labels = [shortened(task, 20) for task in shown]
    if len(tasks) > len(shown):
        labels[-1] += f" … {len(tasks) - len(shown)} more"
    drawing.legend(
        handles, labels, loc="upper left", ncols=columns, bbox_to_anchor=(0.0, 1.0),
        handlelength=1.4, columnspacing=1.4, borderaxespad=0.3, labelspacing=0.3,
    )  # fmt: skip
    return drawing


def _share_labels(drawing: Figure, panels: list[Any], what: str) -> None:
    columns = max(axes.get_subplotspec().colspan.start for axes in panels) + 1
    for place, axes in enumerate(panels):
        axes.tick_params(labelleft=place % columns == 0, labelbottom=place + columns >= len(panels))
    make_room(drawing, panels, between=False)
    drawing.supxlabel("training step", y=0.1 / drawing.get_figheight())
    drawing.supylabel(what, x=0.04 / WIDTH)


def _limits(curves: list[tuple[Array, Array]]) -> tuple[float, float]:
    """The range of nearly all weights: a spike of one strategy must not flatten the others."""
    values = np.concatenate([values[np.isfinite(values)] for _, values in curves])
    low, high = (float(np.quantile(values, q)) for q in (0.002, 0.998))
    if low > 0 and high / low > 50:
        return low / 1.3, high * 1.3
    margin = 0.08 * max(high - low, 0.25)
    return min(low, 1) - margin, max(high, 1) + margin
