"""Writes the tables of docs/performance.md from the rows that `mtl bench NAME --json` left in benchmarks/results.

python benchmarks/performance.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from tabulate import tabulate

from mtl.bench import BENCHES, find_bench
from mtl.bench.bench import Row

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "performance.md"
RESULTS = ROOT / "benchmarks" / "results"

#: The bench, and the engine of it, whose rows are in a file of that name.
SECTIONS = {**{name: (name, "population") for name in BENCHES}, "engine-ray": ("search", "ray")}


def section(name: str, rows: Sequence[Row]) -> str:
    """Command, machine, bars and tables of one bench."""
    bench = find_bench(*SECTIONS[name])
    parts = [f"    {command}" for command in dict.fromkeys(str(cast(Any, row)["command"]) for row in rows)]
    parts += [f"{machine}." for machine in dict.fromkeys(str(cast(Any, row)["machine"]) for row in rows)]
    parts.append("\n".join(f"* {'met' if bar.met else '**missed**'}: {bar.text}" for bar in bench.bars(rows)))
    for table in bench.tables(rows):
        aligned = ["left", *["right"] * (len(table.columns) - 1)]
        body = tabulate(table.lines, table.columns, "pipe", colalign=aligned, disable_numparse=True)
        parts.append(f"**{table.title}**\n\n{body}")
    return "\n\n".join(parts)


def main() -> None:
    """Replace what stands between `<!-- NAME -->` and `<!-- end -->` for every bench with results."""
    page = PAGE.read_text(encoding="utf-8")
    for name in SECTIONS:
        path = RESULTS / f"{name}.json"
        if path.exists():
            text = section(name, json.loads(path.read_text(encoding="utf-8")))
            pattern = rf"(<!-- {name} -->\n).*?(<!-- end -->)"
            whole = re.compile(pattern, flags=re.S)
            place = whole.search(page)
            if place is not None:
                page = f"{page[: place.start()]}{place[1]}\n{text}\n\n{place[2]}{page[place.end() :]}"
            else:
                raise SystemExit(f"{PAGE.name} has no place for {name}: <!-- {name} --> ... <!-- end -->")
    PAGE.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
