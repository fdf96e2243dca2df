"""What training reaches on the benchmarks at a small scale, each task alone and all together: a table in benchmarks.md.

    python docs/reach.py                  # what is on this machine, as far as it has not been trained yet
    python docs/reach.py census scenes    # these

Every row is a comparison by `mtl compare`, whose report stays in the folder of `--folder`.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mtl.benchmarks import find_benchmark

PAGE = Path(__file__).parent / "benchmarks.md"
BEGIN, END = "<!-- from docs/reach.py -->", "<!-- to here -->"
STRATEGIES = ("equal", "uncertainty", "gradnorm", "famo")
#: Options of each comparison. All are short: they show that a benchmark is learned, not how far it can be.
ROWS: Mapping[str, str] = {
    "multidigits": "",
    "rf1": "--steps 500",
    "multi-mnist": "--steps 200",
    "multi-fashion": "--steps 200",
    "yeast": "",
    "chemicals": "--steps 500",
    "adult": "--steps 300",
    "census": "--architecture mmoe --steps 300",
    "movielens": "--steps 300",
    "reviews": "--steps 200",
    "qm9": "--model schnet:width=16 --steps 50 --batch-size 64",
    "scenes": "--steps 60 --batch-size 16",
    "nyuv2": "--architecture mtan --model segnet:width=4 --lr 1e-3 --steps 100 --batch-size 8",
}
_PICTURES = 200  # of `scenes` that stand for those of nyuv2, which nobody may pass on
_SAID = {"nyuv2": f" on {_PICTURES} pictures of `scenes` in its files"}
_FEW = 4  # tasks that are shown one by one; of more, the mean


def main() -> int:
    """Train what is asked for and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*ROWS, []], metavar="BENCHMARK")
    parser.add_argument("--folder", type=Path, default=Path("runs/reach"), help="of the comparisons")
    parser.add_argument("--table", action="store_true", help="train nothing, only write the table again")
    options = parser.parse_args()
    failed = [] if options.table else [name for name in options.names or ROWS if not trained(name, options.folder)]
    rows = [row(name, options.folder) for name in ROWS if (options.folder / name / "summary.json").is_file()]
    head = [
        "| `mtl compare` ... `--seeds 3` | metric | each task alone | equal weights | best of the others | Δm, % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    text = PAGE.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    PAGE.write_text("\n".join([before + BEGIN, *head, *rows, END]) + after, encoding="utf-8")
    print(f"{PAGE}: {len(rows)} rows" + (f"; not trained: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


def trained(name: str, folder: Path) -> bool:
    """Whether the comparison is there, after it was carried out as far as it was not."""
    options = f"--strategies {' '.join(STRATEGIES)} --seeds 3 {ROWS[name]}"
    if name == "nyuv2":
        write_rooms(folder / "data" / "nyuv2")
    command = [sys.executable, "-m", "mtl", "compare", name, *shlex.split(options), "--resume", "--wandb", "disabled"]
    there = {**os.environ, "MTL_DATA": str((folder / "data").resolve())} if name == "nyuv2" else None
    return subprocess.run([*command, "--out", str(folder / name)], check=False, env=there).returncode == 0


def write_rooms(folder: Path) -> None:
    """Pictures of `scenes` in the files of `nyuv2`, so that its reader and model are tried with something to learn."""
    splits = find_benchmark("scenes").load()
    for name, split, size in (("train", splits.train, _PICTURES), ("val", splits.test, _PICTURES // 4)):
        some = split.take(slice(size))
        depth = some.targets["depth"][..., None]
        parts = {"image": some.inputs.movedim(1, -1), "label": some.targets["segmentation"], "depth": depth}
        for part, values in {**parts, "normal": some.targets["normal"]}.items():
            (folder / name / part).mkdir(parents=True, exist_ok=True)
            for number, value in enumerate(values):
                np.save(folder / name / part / f"{number}.npy", value.numpy())


def row(name: str, folder: Path) -> str:
    """The row of a comparison."""
    summary: dict[str, Any] = json.loads((folder / name / "summary.json").read_text(encoding="utf-8"))
    alone, strategies = summary["single_task"], summary["strategies"]
    best = next(each for each in summary["ranking"] if each != "equal")
    gain = strategies["equal"]["delta_m"]["gain_over_tasks"]
    half = (gain["high"] - gain["low"]) / 2
    cells = [
        " ".join([f"`{name}`", f"`{ROWS[name]}`" if ROWS[name] else ""]).strip() + _SAID.get(name, ""),
        "; ".join(_metrics(summary["tasks"])),
        "; ".join(_reached(summary["tasks"], {task: found["metrics"] for task, found in alone.items()})),
        "; ".join(_reached(summary["tasks"], strategies["equal"]["metrics"])),
        f"{best}: " + "; ".join(_reached(summary["tasks"], strategies[best]["metrics"])),
        f"{gain['mean']:+.1f} ± {half:.1f}".replace("-", "−"),
    ]
    return f"| {' | '.join(cells)} |"


def _metrics(tasks: Mapping[str, Any]) -> Sequence[str]:
    if len(tasks) <= _FEW:
        return [f"{name}: {task['primary']}" for name, task in tasks.items()]
    (metric,) = {task["primary"] for task in tasks.values()}
    return [f"{metric}, mean of {len(tasks)} tasks"]


def _reached(tasks: Mapping[str, Any], metrics: Mapping[str, Any]) -> Sequence[str]:
    values = [metrics[name][task["primary"]]["mean"] for name, task in tasks.items()]
    return [f"{x:.3g}" for x in (values if len(tasks) <= _FEW else [math.fsum(values) / len(values)])]


if __name__ == "__main__":
    sys.exit(main())
