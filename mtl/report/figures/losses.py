"""Loss of every task under every strategy, on validation and on training data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from mtl.report.figures.curves import Array, mean_curve
from mtl.report.figures.style import WIDTH, Colours, grid, log_scale, make_room
from mtl.report.labels import short_labels
from mtl.report.numbers import shortened
from mtl.report.read import Study


def losses_figure(summary: Mapping[str, Any], study: Study, colours: Colours, split: str) -> Figure | None:
    """One panel a task, one line a strategy, mean over seeds; what the legend does not name is grey.

    On training data there is a panel for each part of a loss that was weighed apart too.

    Args:
        summary: as in summary.json.
        study: has the curves.
        colours: of the strategies.
        split: `validation` or `train`.
    """
    at = {"validation": "eval_step", "train": "step"}[split]
    tasks = list(summary["tasks"])
    if split == "train":
        tasks += [name for name in summary["losses"] if name not in tasks]
    curves = {
        spec: curve
        for spec in summary["ranking"]
        if (curve := mean_curve(study.of("final", spec), at, f"{split}_loss", tasks)) is not None
    }
    if not curves:
        return None
    named = [spec for spec in colours.named if spec in curves]
    others = len(curves) - len(named)
    short = short_labels(summary)
    labels = [shortened(short[spec], 30) for spec in named] + ([f"{others} others"] if others else [])
    columns = max(1, min(len(labels), int(WIDTH / (0.7 + 0.085 * max(map(len, labels))))))
    legend = 0.24 * -(-len(labels) // columns) + 0.12
    drawing, panels = grid(len(tasks), 3, 2.4 if len(tasks) <= 6 else 1.9, bottom=0.62, top=legend + 0.3, gap=0.2)
    for task, axes in enumerate(panels):
        for spec in sorted(curves, key=named.__contains__):  # grey lines below
            steps, values = curves[spec]
            axes.plot(
                steps, values[:, task], color=colours[spec], linestyle=colours.dashes(spec),
                linewidth=1.4 if spec in named else 0.7, marker="o" if len(steps) == 1 else None, markersize=5,
            )  # fmt: skip
        axes.set_title(shortened(tasks[task], 30), pad=4)
        scale_to(axes, [values[:, task] for _, values in curves.values()])
        axes.margins(x=0.02)
    drawing.supxlabel("training step", y=0.1 / drawing.get_figheight())
    drawing.supylabel(f"{'training' if split == 'train' else split} loss", x=0.04 / WIDTH)
    make_room(drawing, panels, between=True)
    handles = [Line2D([], [], color=colours[spec], linestyle=colours.dashes(spec), linewidth=2) for spec in named]
    handles += [Line2D([], [], color=colours[""], linewidth=0.9)] if others else []
    drawing.legend(
        handles, labels, loc="upper left", ncols=columns, bbox_to_anchor=(0.0, 1.0),
        handlelength=1.8, columnspacing=1.4, borderaxespad=0.3, labelspacing=0.3,
    )  # fmt: skip
    return drawing


def scale_to(axes: Axes, curves: list[Array]) -> None:
    """A logarithmic axis where losses are positive and shrink a lot; never room for one that blew up."""
    values = np.concatenate(curves)
    values = values[np.isfinite(values)]
    if not len(values):
        return
    low, high = float(values.min()), float(np.quantile(values, 0.995))
    if low > 0 and high / low > 5:
        log_scale(axes)
        axes.set_ylim(low / 1.15, high * 1.15)
    elif high > low:
        axes.set_ylim(low - 0.05 * (high - low), high + 0.05 * (high - low))
