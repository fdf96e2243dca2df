"""The pages of docs/strategies, losses.md and models.md in docs, from the code: `python docs/generate.py` writes them.

`--check` compares them.

A page has the definition, a picture of the update on two conflicting gradients, the deviations, the parameters with
their ranges, and what a step reads and costs. `--check` compares the text and leaves the pictures alone.
"""

from __future__ import annotations

import argparse
import inspect
import re
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mtl.cli.listing import cost_class
from mtl.hyperparameters import defaults, domains, show
from mtl.strategies import REGISTRY
from mtl.strategies.combinators import COMBINATORS
from mtl.strategies.combinators.normalize import sum_to_k
from mtl.strategies.strategy import DOMAINS, SIGNALS, Strategy

TARGET = Path(__file__).resolve().parent / "strategies"
LOSSES_PAGE = TARGET.with_name("losses.md")
MODELS_PAGE = TARGET.with_name("models.md")
LOSSES_PICTURES = TARGET.with_name("losses")
GRADIENTS = torch.tensor([[1.0, 0.25], [-0.55, 0.75]], dtype=torch.float64)
STEPS, DRAWS = 40, 12
INK, FIRST, SECOND, UPDATE = "#6b7480", "#0072b2", "#d55e00", "#1d2530"


FALLS_BACK = "; the balancer says once when a task's loss is not, see [losses of zero](README.md#losses-of-zero)"
ZERO = """\
Many formulas divide by a loss or take its logarithm, and their papers leave open what a loss of zero means: a hinge
that is met, a batch without an example of the task. Taken literally, that task outweighs all others without end, and
with weights scaled to sum K nothing else trains. Here a task whose loss is not in the domain of its strategy (the
column *losses*) says nothing: the others are weighed as if they were alone, and it has the mean of their weights, so
that it takes no part of their scale. What a strategy remembers of it (a first loss, a learned scale) waits for its next
positive loss. Negative losses, such as an actor's or a log density's, are treated alike. The balancer and the
population warn once, naming the task: a strategy made for losses of any sign is the better choice then. In MGDA and its
relatives a task whose loss and gradient are both zero has nothing left to gain and takes no part; a gradient of zero
alone makes the point stationary, and the update is zero, as the papers have it."""
PRECISION = """\
Losses and gradients in float32 give the weights that they give in float64 to 1e-5, also where tasks differ by factors
up to 1e6: a strategy computes in float64 from a Gramian whose rounding is relative to the lengths of two gradients, and
tells what is rounding from their cosines, not their products. What no computation can give back are directions lost
when the Gramian was formed: gradients that nearly depend on each other (a matrix of cosines of condition c) leave
errors of c x 1e-7 in strategies that use that direction, and beyond c = 1e6 it counts as none. Three strategies are
less exact, and `tests/strategies/test_precision.py` says how much: pmgda (1e-2), moml (5e-3), wc-mgda (1e-4)."""


# --- text -------------------------------------------------------------------------------------------------------------


def page(name: str, cls: type[Strategy]) -> str:
    """The page of a strategy in Markdown."""
    first, rest, deviations = described(cls)
    parts = [f"# {name}", first, f"![Update of {name} on two conflicting gradients]({name}.svg)"]
    parts += rest
    if deviations:
        parts += ["## Deviations", deviations]
    parts += ["## Parameters", parameters(cls), "## Needs and cost", needs(cls), "## Source", source(cls)]
    return "\n\n".join(parts) + "\n"


def described(cls: type) -> tuple[str, list[str], str]:
    """The first paragraph of a docstring, the others, and the sentences on deviations."""
    paragraphs = [" ".join(piece.split()) for piece in inspect.cleandoc(cls.__doc__ or "").split("\n\n")]
    rest, deviations = [], ""
    for paragraph in paragraphs[1:]:
        text, _, departs = paragraph.partition(" Deviation: ")
        if not departs:
            text, _, departs = paragraph.partition(" Deviations: ")
        if departs:
            deviations = departs[0].upper() + departs[1:]
        rest.append(escaped(text))
    return escaped(paragraphs[0]), rest, escaped(deviations)


def escaped(text: str) -> str:
    """The text with what Markdown would take for markup made plain, outside of code."""
    pieces = re.split(r"(`[^`]*`)", text)
    return "".join(piece if piece.startswith("`") else re.sub(r"([*<])", r"\\\1", piece) for piece in pieces)


def cell(text: str) -> str:
    """The text for a table."""
    return escaped(text).replace("|", r"\|")


def parameters(cls: type) -> str:
    """A table of the hyperparameters."""
    usual = defaults(cls)
    if not usual:
        return "None."
    rows = ["| name | default | range | search | meaning |", "| --- | --- | --- | --- | --- |"]
    for key, domain in domains(cls).items():
        searched = ""
        if domain.search:
            searched = f"{domain.search[0]:g} to {domain.search[1]:g}" + (", log" if domain.log else "")
        default = show(usual[key]) or "empty"
        rows.append(f"| `{key}` | {default} | {cell(domain.interval())} | {searched or '-'} | {cell(domain.doc)} |")
    return "\n".join(rows)


def needs(cls: type[Strategy]) -> str:
    """What a step reads and costs."""
    lines = [f"* `{name}`: {escaped(text)}" for name, text in SIGNALS.items() if name in cls.needs]
    lines.append(f"* Made for {DOMAINS[cls().domain]}{FALLS_BACK if cls().domain != 'any' else ''}.")
    form = "(K, D), one a coordinate" if cls.elementwise else "(K,), one a task"
    lines.append(f"* Weights: {form}" + ("; they apply to gradients that it tracks itself." if cls.tracking else "."))
    lines.append(f"* Cost of a step with K tasks: one forward pass and {cost_class(cls)}.")
    return "\n".join(lines)


def source(cls: type[Strategy]) -> str:
    return f"{escaped(cls.paper)}. Code: `{cls.__module__.replace('.', '/')}.py`; oracle: [oracles.md](../oracles.md)."


def index() -> str:
    """The list of all pages."""
    rows = [
        f"| [{name}]({name}.md) | {', '.join(sorted(cls.needs))} | {cls().domain} | {cost_class(cls)} "
        f"| {cell(cls.paper)} |"
        for name, cls in REGISTRY.items()
    ]
    wrappers = [f"* `{name}`: {described(cls)[0]}" for name, cls in COMBINATORS.items()]
    return "\n".join(
        [
            "# Strategies",
            "",
            f"{len(REGISTRY)} strategies; these pages are made from the docstrings by `make docs`. Pictures show two"
            " conflicting gradients (blue, orange), their hull, and the update in black, scaled to weights of sum"
            f" |w| = 1, after {STEPS} steps in which the first task's loss falls much faster; several updates where it"
            " is random.",
            "",
            "| name | reads | losses | cost beyond one forward pass | source |",
            "| --- | --- | --- | --- | --- |",
            *rows,
            "",
            "## Losses of zero",
            "",
            ZERO,
            "",
            "## Float32",
            "",
            PRECISION,
            "",
            "## Wrappers",
            "",
            *wrappers,
            "",
        ]
    )


def texts() -> dict[str, str]:
    """Every page by its file's name."""
    return {"README.md": index()} | {f"{name}.md": page(name, cls) for name, cls in REGISTRY.items()}


# --- pictures ---------------------------------------------------------------------------------------------------------


def step_signals(t: int, seed: int) -> dict[str, Tensor]:
    """The signals of step t: fixed gradients, a first loss that falls and a second that hardly does."""
    generator = torch.Generator().manual_seed(1000 * seed + t)
    gramian = GRADIENTS @ GRADIENTS.T
    losses = torch.tensor([0.95**t, 2 * 0.995**t], dtype=torch.float64)
    return {
        "losses": losses,
        "after": torch.tensor([0.95**t, 2 * 0.995**t], dtype=torch.float64),
        "jacobian": GRADIENTS,
        **dict.fromkeys(("gramian", "cross", "align", "implicit"), gramian),
        "noise": torch.randn(2, 2, generator=generator, dtype=torch.float64),
        "dither": torch.rand(2, generator=generator, dtype=torch.float64),
        "epoch": torch.tensor(t // 4),
    }


def update(cls: type[Strategy], seed: int) -> list[float]:
    """The update (2,) of the last step."""
    strategy = cls()
    state = strategy.init_sized(torch.ones(2, dtype=torch.float64), 2)
    for t in range(STEPS):
        weights, state = strategy(state, step_signals(t, seed))
    weights, rows = sum_to_k(weights) / 2, strategy.gradients(state, GRADIENTS)
    combined: Tensor = (weights * rows).sum(0) if weights.ndim == 2 else weights @ rows
    return combined.tolist()


def draw(name: str, cls: type[Strategy], path: Path) -> None:
    """Write the picture of a strategy; the same file from the same version of Matplotlib."""
    import matplotlib as mpl
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    random = bool(cls.needs & {"noise", "dither"})
    arrows: list[tuple[Any, str, float]] = [
        (row, colour, 1.4) for row, colour in zip(GRADIENTS, (FIRST, SECOND), strict=True)
    ]
    ends = [update(cls, seed) for seed in range(DRAWS if random else 1)]
    unlike = {tuple(round(x, 3) for x in end) for end in ends}
    arrows += [(end, UPDATE, 0.9 if len(unlike) > 1 else 2.0) for end in sorted(unlike)]
    with mpl.rc_context({"svg.hashsalt": name, "svg.fonttype": "none", "path.simplify": True}):
        figure = Figure(figsize=(2.2, 1.8))
        FigureCanvasSVG(figure)
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0))
        for end, colour, width in arrows:
            style = {"arrowstyle": "-|>", "color": colour, "lw": width, "shrinkA": 0, "shrinkB": 0, "mutation_scale": 9}
            axes.annotate("", tuple(float(x) for x in end), (0.0, 0.0), arrowprops=style, annotation_clip=False)
        axes.plot(*GRADIENTS.T.tolist(), ":", color=INK, linewidth=1)
        axes.plot(0, 0, "o", color=INK, markersize=3)
        axes.set(xlim=(-1.1, 1.1), ylim=(-0.85, 0.95), aspect="equal")
        axes.axis("off")
        save(figure, path)


def save(figure: Any, path: Path) -> None:
    """Write a picture without dates and trailing blanks."""
    figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
    text = path.read_text(encoding="utf-8")
    path.write_text("\n".join(line.rstrip() for line in text.splitlines()) + "\n", encoding="utf-8")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="fail when a page is not what the docstrings give")
    import generate_losses  # which take their parts from here
    import generate_models

    wanted, losses = texts(), generate_losses.page()
    if parser.parse_args().check:
        there = {path.name: path.read_text(encoding="utf-8") for path in TARGET.glob("*.md")}
        stale = sorted(name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name))
        stale += [f"{name}.svg" for name in REGISTRY if not (TARGET / f"{name}.svg").exists()]
        for path, text in ((LOSSES_PAGE, losses), (MODELS_PAGE, generate_models.page())):
            stale += [path.name] if not path.exists() or path.read_text(encoding="utf-8") != text else []
        drawn = {path.name for path in LOSSES_PICTURES.glob("*.svg")}
        stale += [f"losses/{name}" for name in sorted(drawn ^ generate_losses.pictures().keys())]
        if stale:
            print(f"not current, run `make docs`: {', '.join(stale)}", file=sys.stderr)
        return 1 if stale else 0
    TARGET.mkdir(exist_ok=True)
    for path in TARGET.iterdir():
        path.unlink()
    for name, text in wanted.items():
        (TARGET / name).write_text(text, encoding="utf-8")
    for name, cls in REGISTRY.items():
        draw(name, cls, TARGET / f"{name}.svg")
    LOSSES_PAGE.write_text(losses, encoding="utf-8")
    MODELS_PAGE.write_text(generate_models.page(), encoding="utf-8")
    LOSSES_PICTURES.mkdir(exist_ok=True)
    for path in LOSSES_PICTURES.iterdir():
        path.unlink()
    for name, loss in generate_losses.pictures().items():
        generate_losses.draw(loss, LOSSES_PICTURES / name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
