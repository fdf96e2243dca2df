"""The validation losses of a search's runs over their steps."""

from __future__ import annotations

from matplotlib.figure import Figure

from mtl.report.figures.curves import mean_curve
from mtl.report.figures.losses import scale_to
from mtl.report.figures.style import BLUE, FAINT, WIDTH, grid, make_room
from mtl.report.numbers import shortened
from mtl.report.search.summary import SearchRun


def curves_figure(search: SearchRun) -> Figure | None:
    """One panel a task: all runs in grey, the winner in blue."""
    tasks = list(search.config["tasks"])
    curves = [
        (search.best is not None and run.record["run"] == search.best["run"], curve)
        for run in search.runs
        if (curve := mean_curve([run], "eval_step", "validation_loss", tasks)) is not None
    ]
    if not curves:
        return None
    drawing, panels = grid(len(tasks), 3, 2.2, bottom=0.62, top=0.35, gap=0.2)
    for task, axes in enumerate(panels):
        for best, (steps, values) in sorted(curves, key=lambda pair: pair[0]):  # the winner on top
            axes.plot(steps, values[:, task], color=BLUE if best else FAINT, linewidth=2.0 if best else 0.8)
        axes.set_title(shortened(tasks[task], 30), pad=4)
        scale_to(axes, [values[:, task] for _, (_, values) in curves])
        axes.margins(x=0.02)
    drawing.supxlabel("training step", y=0.1 / drawing.get_figheight())
    drawing.supylabel("validation loss", x=0.04 / WIDTH)
    make_room(drawing, panels, between=True)
    return drawing
