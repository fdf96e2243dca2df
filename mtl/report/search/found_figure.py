"""The picture of the losses that a search found."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.figure import Figure

from mtl.losses import Loss
from mtl.losses.view import VIEWS, LossView, curve, view_of
from mtl.report.figures.style import BLUE, GREY, grid, make_room
from mtl.report.numbers import shortened
from mtl.report.search.found import FoundLoss


def found_figure(found: Mapping[str, FoundLoss]) -> Figure | None:
    """A row a task: the loss and its slope in blue; what the task has without a search in grey, if it is alike."""
    rows = [(task, each, view) for task, each in found.items() if (view := _view(each.loss, each.outputs)) is not None]
    if not rows:
        return None
    drawing, panels = grid(2 * len(rows), 2, 2.5, bottom=0.1, top=0.35, gap=0.2)
    for number, (task, each, view) in enumerate(rows):
        left, right = panels[2 * number : 2 * number + 2]
        for loss, colour, width in ((each.usual, GREY, 1.2), (each.loss, BLUE, 2.0)):
            if _view(loss, each.outputs) is view:
                points, values, slopes = curve(loss, view)
                left.plot(points, values, color=colour, linewidth=width, label=shortened(loss.name, 24))
                right.plot(points, slopes, color=colour, linewidth=width)
        for axes, title in ((left, f"{shortened(task, 20)}: loss"), (right, "slope")):
            axes.set_title(title, pad=4)
            axes.set_xlabel(view.axis)
            axes.tick_params(labelbottom=True)
            axes.margins(x=0.02)
        left.legend(frameon=False)
    height = drawing.get_figheight()
    drawing.subplots_adjust(hspace=0.55, bottom=0.65 / height)
    make_room(drawing, panels, between=True)
    return drawing


def _view(loss: Loss, outputs: int) -> LossView | None:
    """What to show; None for a loss that does not say of what it is, or that has a number for each class or label."""
    if loss.kind not in VIEWS or loss.undecided() or any(isinstance(value, tuple) for value in vars(loss).values()):
        return None
    return VIEWS["yes or no"] if loss.kind == "classes" and outputs == 1 else view_of(loss)
