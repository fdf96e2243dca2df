"""How all figures look: colours that colour-blind readers tell apart, quiet axes, no global state."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.textpath import TextPath
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from mtl.files.whole import replaced, write_whole

INK, GREY, FAINT = "#1d2530", "#6b7480", "#d9dde2"
BLUE = "#0072b2"
WIDTH = 8.6  # inches at 72 points: 826 CSS pixels, the width of the report's column
SIZE = 10.5  # points: 14 CSS pixels

# Okabe & Ito (2008) without yellow and black, and two of Tol's muted scheme; the reference is drawn in ink.
_STRATEGIES = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#882255", "#999933")
_TASKS = ("#332288", "#cc6677", "#117733", "#ddaa33", "#44aa99", "#882255", "#88ccee", "#999933")
_OTHERS = "#b4bac2"

_MEASURED = 50  # texts, of which one is taken for the widest

Dashes = Literal["-"] | tuple[float, Sequence[float]]

_RC: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.sans-serif": ["Helvetica", "Arial", "DejaVu Sans"],
    "font.size": SIZE,
    "axes.labelsize": SIZE,
    "figure.labelsize": SIZE,
    "axes.titlesize": SIZE,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "text.color": INK,
    "text.parse_math": False,  # a name with dollar signs is a name
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": "#e8ebee",
    "grid.linewidth": 0.8,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "svg.fonttype": "none",
    "svg.hashsalt": "mtl",
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
}


@contextmanager
def styled() -> Iterator[None]:
    """The style, for the length of a block."""
    with mpl.rc_context(_RC):
        yield


class Colours:
    """One colour and line style a strategy, the same in every figure.

    The reference is ink, the eight best of the others have a colour each, and the rest is grey: more hues than that
    nobody tells apart.
    """

    def __init__(self, ranking: Sequence[str], reference: str) -> None:
        others = [spec for spec in ranking if spec != reference]
        self._named = dict(zip(others, _STRATEGIES, strict=False))
        self._reference = reference
        self.named = [spec for spec in ranking if spec == reference or spec in self._named]

    def __getitem__(self, spec: str) -> str:
        return INK if spec == self._reference else self._named.get(spec, _OTHERS)

    def dashes(self, spec: str) -> Dashes:
        """Line style: a second channel beside colour."""
        if spec == self._reference:
            return 0, (5.0, 1.5)
        place = list(self._named).index(spec) if spec in self._named else 0
        return "-" if place < 4 else (0, (2.5, 1.2))


def task_colours(count: int) -> list[Any]:
    """Colours of tasks; beyond eight, steps of viridis."""
    if count <= len(_TASKS):
        return list(_TASKS[:count])
    return list(mpl.colormaps["viridis"](np.linspace(0, 0.92, count)))


def figure(width: float, height: float) -> Figure:
    """An empty figure with a canvas of its own."""
    made = Figure(figsize=(width, height))
    FigureCanvasAgg(made)
    return made


def text_width(texts: Sequence[str], size: float = SIZE) -> float:
    """Width of the longest text in inches."""
    font = FontProperties(family=["DejaVu Sans"], size=size)
    longest = sorted(set(texts), key=lambda text: (len(text), text))[-_MEASURED:]  # the same ones in every process
    return max((TextPath((0, 0), text, prop=font).get_extents().width / 72 for text in longest if text), default=0.0)


def grid(
    panels: int, columns: int, height: float, *, bottom: float, top: float, gap: float
) -> tuple[Figure, list[Axes]]:
    """Small multiples with equal panels; heights in inches."""
    columns = max(1, min(columns, panels))
    rows = -(-panels // columns)
    made = figure(WIDTH, rows * height + bottom + top)
    total = float(made.get_figheight())
    axes = made.subplots(rows, columns, squeeze=False, sharex=True)
    made.subplots_adjust(
        left=0.62 / WIDTH, right=1 - 0.12 / WIDTH, wspace=gap, bottom=bottom / total, top=1 - top / total
    )
    flat = list(axes.flat)
    for spare in flat[panels:]:
        spare.remove()
    return made, flat[:panels]


def make_room(drawing: Figure, panels: Sequence[Axes], *, between: bool) -> None:
    """Move panels aside, so that a label at the figure's left edge and the numbers of the axes lie beside each other.

    Args:
        drawing: everything in it is there.
        panels: of `grid`.
        between: each column has numbers of its own, not the first alone.
    """
    # Asking for labels brings them up to date; drawing all of it for that took a third of a large report's time.
    texts = [label for axes in panels for label in axes.get_yticklabels() if label.get_visible() and label.get_text()]
    widest = max((text.get_window_extent().width / drawing.dpi for text in texts), default=0.0)
    left = max(0.62, 0.42 + widest)
    columns = max(_column(axes) for axes in panels) + 1
    drawing.subplots_adjust(left=left / WIDTH)
    if between and columns > 1:
        gap = widest + 0.32
        panel = (WIDTH - 0.12 - left - (columns - 1) * gap) / columns
        drawing.subplots_adjust(wspace=gap / panel)


def _column(axes: Axes) -> int:
    place = axes.get_subplotspec()
    assert place is not None
    return place.colspan.start


def log_scale(axes: Axes, values: Sequence[float] = ()) -> None:
    """A logarithmic value axis with plain numbers, for `values` over many decades with powers of ten only."""
    axes.set_yscale("log")
    positive = [value for value in values if value > 0]
    wide = bool(positive) and max(positive) > 300 * min(positive)
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0,) if wide else (1.0, 2.0, 5.0), numticks=6))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


def label_width(labels: Sequence[str]) -> float:
    """Inches beside an axis for these labels, one of which is in bold."""
    return 1.1 * text_width(labels) + 0.2


def strategy_axis(axes: Axes, labels: Mapping[str, str], reference: str) -> None:
    """Strategies down the side, best on top, the reference in bold.

    Args:
        axes: gets them.
        labels: by spec, in order.
        reference: one of the specs.
    """
    specs = list(labels)
    axes.set_yticks(range(len(specs)), list(labels.values()))
    axes.set_ylim(len(specs) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    for label, spec in zip(axes.get_yticklabels(), specs, strict=True):
        if spec == reference:
            label.set_fontweight("bold")


def save(drawing: Figure, folder: Path, name: str) -> str:
    """Write SVG and PNG, and return the SVG for the report: no comments, no namespaces, ids of its own."""
    text = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a reader's browser has more fonts than we do
        with replaced(folder / f"{name}.png") as file:
            drawing.savefig(file, format="png", dpi=160, metadata={"Software": None})
        drawing.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    svg = text.getvalue()
    write_whole(folder / f"{name}.svg", svg)
    return inline(svg, name)


def inline(svg: str, name: str) -> str:
    """An SVG file as an element of an HTML page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'\s+xmlns(:\w+)?="[^"]*"', "", svg)
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'((?:xlink:)?href="|url\()#', rf"\g<1>#{name}-", svg)
    return svg.strip()
