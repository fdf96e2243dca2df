"""The figures of a report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mtl.report.cost import StepCost
from mtl.report.figures.cost import cost_figure
from mtl.report.figures.losses import losses_figure
from mtl.report.figures.metrics import metrics_figure
from mtl.report.figures.ranking import ranking_figure
from mtl.report.figures.style import Colours, save, styled
from mtl.report.figures.weights import weights_figure
from mtl.report.read import Study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from mtl.report.search.found import FoundLoss

__all__ = ["draw"]


def draw(
    summary: Mapping[str, Any],
    study: Study,
    costs: Mapping[str, StepCost],
    folder: Path,
    learned: Mapping[str, FoundLoss],
) -> dict[str, str]:
    """Write every figure that the study has data for as SVG and PNG, and return the SVGs for the page."""
    folder.mkdir(parents=True, exist_ok=True)
    colours = Colours(summary["ranking"], summary["reference"])
    with styled():
        drawings = {
            "ranking": ranking_figure(summary, colours),
            "metrics": metrics_figure(summary),
            "weights": weights_figure(summary, study),
            "losses": losses_figure(summary, study, colours, "validation"),
            "training": losses_figure(summary, study, colours, "train"),
            "learned": learned_figure(learned),
            "cost": cost_figure(summary, costs, colours),
        }
        return {name: save(drawing, folder, name) for name, drawing in drawings.items() if drawing is not None}


def learned_figure(learned: Mapping[str, FoundLoss]) -> Figure | None:
    """The losses that were learned and their slopes, where there are some."""
    if not learned:
        return None
    from mtl.report.search.found_figure import found_figure  # brings torch, which reports without it do not need

    return found_figure(learned)
