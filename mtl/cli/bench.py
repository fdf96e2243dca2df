"""`mtl bench`: times as a table, and as JSON."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from rich.markup import escape
from rich.table import Table

from mtl.bench.registry import circumstances, load, run, verdicts
from mtl.cli.parser import BadInput
from mtl.cli.terminal import console


def show_bench(args: argparse.Namespace) -> None:
    """Run a bench; print its table and what it says about the bars; write its rows."""
    options = {key: getattr(args, key) for key in ("rounds", "models", "strategies")}
    options |= {"quick": args.quick or None, "device": _device(args.device)}
    before = torch.get_num_threads()
    try:
        load(args.bench)
        for key in ("rounds", "threads"):
            if getattr(args, key) is not None and getattr(args, key) < 1:
                raise ValueError(f"--{key} {getattr(args, key)}: must be at least 1")
        torch.set_num_threads(args.threads)
        rows = run(args.bench, options)
    except ValueError as error:
        raise BadInput(str(error)) from error
    finally:
        torch.set_num_threads(before)
    where = circumstances(args.threads)
    console.print(_table(rows))
    for text, met in verdicts(args.bench, rows):
        console.print(f"{'[green]met[/]' if met else '[red]missed[/]'}  {escape(text)}", highlight=False)
    console.print(escape("\n".join(where.values())), style="dim", highlight=False)
    if args.json is not None:
        command = " ".join(["mtl bench", args.bench, *_said(args)])
        args.json.write_text(json.dumps([row | where | {"command": command} for row in rows], indent=1) + "\n")


def _device(name: str | None) -> str | None:
    if name is None or name == "cpu":
        return name
    if torch.cuda.is_available():
        return "cuda"
    if name == "cuda":
        raise BadInput("--device cuda: no CUDA device is available here")
    return "cpu"


def _said(args: argparse.Namespace) -> list[str]:
    """The options that decide what is timed, as they are given."""
    said = ["--quick"] if args.quick else []
    for key in ("rounds", "models", "strategies", "device"):
        value = getattr(args, key)
        if value is not None:
            said += [f"--{key}", *(value if isinstance(value, list) else [str(value)])]
    return said + ([] if args.threads == 1 else ["--threads", str(args.threads)])


def _table(rows: Sequence[Mapping[str, Any]]) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    with_floor = any("floor" in row for row in rows)
    for column in ("case", "ours", "peer", "ratio", *(("over floor",) if with_floor else ()), "peer's name"):
        table.add_column(column, justify="left" if column in ("case", "peer's name") else "right", overflow="fold")
    for row in rows:
        over = [f"{row['ours'] / row['floor']:.2f}" if "floor" in row else ""] if with_floor else []
        cells = [row["case"], duration(row["ours"]), duration(row["peer"]), f"{row['ratio']:.2f}", *over]
        table.add_row(*map(escape, [*cells, row["peer_name"]]))
    return table


def duration(seconds: float) -> str:
    """Three digits, in the unit that suits."""
    for factor, unit in ((1.0, "s"), (1e3, "ms")):
        if seconds * factor >= 1:
            return f"{seconds * factor:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"
