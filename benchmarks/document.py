"""Put the tables of `benchmarks/results/*.json` into docs/performance.md, between the marks that name them."""

from __future__ import annotations

import json
import re
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from mtl.bench.registry import available, verdicts
from mtl.cli.bench import duration

ROOT = Path(__file__).parents[1]
Rows = Sequence[Mapping[str, Any]]


def section(name: str, rows: Rows) -> str:
    """Command, bars, tables, machine and versions of one bench."""
    tables = {"steps": steps, "solvers": solvers}.get(name, plain)(rows)
    bars = "\n".join(f"- {'met' if met else '**missed**'}: {text}" for text, met in verdicts(name, rows))
    where = f"{rows[0]['machine']}; {rows[0]['versions']}."
    return "\n\n".join(part for part in (f"`{rows[0]['command']}`", bars, *tables, where) if part)


def steps(rows: Rows) -> list[str]:
    """Strategy by model: against TorchJD, the floor, equal weighting and other ways of computing."""
    against = [row for row in rows if "floor" in row]
    plain = [row for row in rows if row["peer_name"] == "equal weighting"]
    other = [row for row in rows if row not in against and row not in plain]
    found = []
    if against:
        found += [
            f"Times faster than {against[0]['peer_name']}:",
            _pivot(against, lambda row: row["ratio"]),
            "Step time over the floor:",
            _pivot(against, lambda row: row["ours"] / row["floor"]),
            "Step time over equal weighting:",
            _pivot(against, lambda row: row["ours"] / row["equal"]),
        ]
    if plain:
        found += [
            "Strategies that read losses, step time over equal weighting:",
            _pivot(plain, lambda row: 1 / row["ratio"]),
        ]
    for peer_name in dict.fromkeys(row["peer_name"] for row in other):
        chosen = [row for row in other if row["peer_name"] == peer_name]
        found += [f"Times faster than {peer_name}:", _pivot(chosen, lambda row: row["ratio"])]
    return found


def _pivot(rows: Rows, value: Any) -> str:
    """Strategies down, models across."""
    cells: dict[str, dict[str, float]] = {}
    for row in rows:
        strategy, model = row["case"].split(", ")
        cells.setdefault(strategy, {})[model] = value(row)
    models = list(dict.fromkeys(model for line in cells.values() for model in line))
    lines = [[name, *(f"{line[model]:.2f}" for model in models)] for name, line in cells.items()]
    if len(lines) > 1:
        lines.append(["*median*", *(f"{statistics.median(line[m] for line in cells.values()):.2f}" for m in models)])
    return tabulate(lines, headers=["", *models], tablefmt="github", disable_numparse=True)


def solvers(rows: Rows) -> list[str]:
    """Solver and peer by K: single and batched ratios, and our time one at a time."""
    cells: dict[tuple[str, str], dict[str, dict[str, Mapping[str, Any]]]] = {}
    for row in rows:
        name, size, how = row["case"].split(", ")
        cells.setdefault((name, row["peer_name"]), {}).setdefault(size, {})[how.split()[0]] = row
    sizes = list(dict.fromkeys(size for line in cells.values() for size in line))
    ratios, times = [], []
    for (name, peer_name), line in cells.items():
        both = [f"{line[s]['single']['ratio']:.1f} / {line[s]['batch']['ratio']:.0f}" for s in sizes]
        ratios.append([name, peer_name, *both])
        both = [f"{duration(line[s]['single']['ours'])} / {duration(line[s]['batch']['ours'])}" for s in sizes]
        times.append([name, *both])
    once = list({line[0]: line for line in times}.values())
    return [
        "Times faster, one Gramian at a time / 64 at once:",
        tabulate(ratios, headers=["", "peer", *sizes], tablefmt="github", disable_numparse=True),
        "Our time a Gramian, one at a time / 64 at once:",
        tabulate(once, headers=["", *sizes], tablefmt="github", disable_numparse=True),
    ]


def plain(rows: Rows) -> list[str]:
    """A line a case."""
    lines = [
        [row["case"], duration(row["ours"]), duration(row["peer"]), f"{row['ratio']:.2f}", row["peer_name"]]
        for row in rows
    ]
    return [tabulate(lines, headers=["case", "ours", "peer", "ratio", "peer's name"], tablefmt="github")]


def main(page: Path = ROOT / "docs/performance.md", results: Path = ROOT / "benchmarks/results") -> None:
    """Rewrite the page in place."""
    text = page.read_text()
    for name in available():
        path = results / f"{name}.json"
        if path.is_file():
            written = section(name, json.loads(path.read_text()))
            mark = re.compile(rf"(<!-- {name} -->\n).*?(\n<!-- end -->)", re.DOTALL)
            if not mark.search(text):
                raise ValueError(f"{page} has no <!-- {name} --> ... <!-- end -->")
            text = mark.sub(lambda found, written=written: f"{found[1]}{written}{found[2]}", text)  # type: ignore[misc]
    page.write_text(text)


if __name__ == "__main__":
    main()
