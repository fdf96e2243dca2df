"""What every experiment ends with: claims beside measurements, as a table, a picture and a file."""

from __future__ import annotations

import argparse
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure
from PIL import Image
from tabulate import tabulate

import mtl


@dataclass(frozen=True)
class Claim:
    """A published statement, its figure and ours; `holds` is None where the sources set no bar."""

    text: str
    published: str
    ours: str
    holds: bool | None

    @property
    def verdict(self) -> str:
        return {True: "yes", False: "NO", None: "no bar"}[self.holds]


def arguments(about: str, name: str) -> argparse.ArgumentParser:
    """A parser with the options that all experiments share."""
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs") / name, help="directory for picture and results.json")
    return parser


def publish(
    out: Path, claims: Sequence[Claim], figures: Mapping[str, Any], picture: Figure, seconds: float, settings: Any
) -> None:
    """Print the claims as a table; write `results.json` and `picture.png` into `out`.

    Args:
        out: made where it does not exist.
        claims: rows of the table.
        figures: further measurements, of plain JSON types.
        picture: drawn already.
        seconds: wall clock of the experiment.
        settings: what was run, of plain JSON types.
    """
    rows = [(claim.text, claim.published, claim.ours, claim.verdict) for claim in claims]
    print(tabulate(rows, ["claim", "published", "ours", "holds"], tablefmt="github", disable_numparse=True))
    out.mkdir(parents=True, exist_ok=True)
    pixels = io.BytesIO()
    picture.savefig(pixels, dpi=100)
    Image.open(pixels).convert("P", palette=Image.Palette.ADAPTIVE, colors=64).save(out / "picture.png", optimize=True)
    record = {
        "claims": [asdict(claim) for claim in claims],
        "figures": figures,
        "settings": settings,
        "seconds": round(seconds, 1),
        "versions": {"mtl": mtl.__version__, "torch": torch.__version__},
    }
    (out / "results.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    print(f"\n{seconds:.0f} s; wrote {out / 'results.json'} and {out / 'picture.png'}")
