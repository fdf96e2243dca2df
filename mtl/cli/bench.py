"""`mtl bench`: runs a speed bench, prints its tables and what became of the bars, writes its rows as JSON."""

from __future__ import annotations

import json
import os
import platform
import shlex
import warnings
from pathlib import Path

import rich.table
import torch
from rich.console import Console
from rich.markup import escape

from mtl.bench import find_bench
from mtl.bench.bench import BenchScope
from mtl.cli.errors import BadInput
from mtl.cli.options import BenchOptions
from mtl.cli.shared import find_device
from mtl.cli.terminal import console
from mtl.files.whole import write_whole


def bench(asked: BenchOptions) -> int:
    """Measure; exit code 0 whether bars are met or not, since that is what the output tells."""
    try:
        chosen = find_bench(asked.name, asked.engine)
        options = BenchScope(asked.rounds, asked.quick, asked.models, asked.strategies, find_device(asked.device))
        chosen.check(options)
        if asked.json is not None:
            _check_writable(asked.json)
        chosen.check_peers()
    except ValueError as error:
        raise BadInput(str(error)) from error
    rows = []
    before = torch.get_num_threads()
    torch.set_num_threads(asked.threads)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # peers warn of deprecations at every step
            for row in chosen.run(options):
                rows.append(row)
                if console.is_terminal:
                    told = f"{row['case']} against {row['peer_name']}: {row['ratio']:.2f}"
                    console.print(told, highlight=False, markup=False)
    finally:
        torch.set_num_threads(before)
    for table in chosen.tables(rows):
        console.print(escape(table.title), style="bold", highlight=False, soft_wrap=True)
        shown = rich.table.Table(show_edge=False, pad_edge=False)
        for number, column in enumerate(table.columns):
            shown.add_column(escape(column), justify="right" if number else "left", no_wrap=True)
        for line in table.lines:
            shown.add_row(*map(escape, line))
        # Figures are not cut where the terminal is narrow.
        wanted = console.measure(shown, options=console.options.update(width=1000)).maximum
        Console(width=max(console.width, wanted), emoji=False).print(shown)
        console.print()
    for bar in chosen.bars(rows):
        console.print(
            f"[{'green' if bar.met else 'red'}]{'met ' if bar.met else 'miss'}[/]  {escape(bar.text)}",
            highlight=False,
            soft_wrap=True,
        )
    where = {"command": _command(asked), "machine": _machine(options.device, asked.threads)}
    if asked.json is not None:
        write_whole(asked.json, json.dumps([{**row, **where} for row in rows], indent=1) + "\n")
    return 0


def _check_writable(path: Path) -> None:
    """Before minutes of measuring."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("ab").close()
    except OSError as error:
        raise BadInput(f"--json {str(path)!r} cannot be written: {error.strerror}") from error


def _command(asked: BenchOptions) -> str:
    """The command that measures the same again."""
    words = ["mtl", "bench", asked.name]
    if asked.engine != "population":
        words += ["--engine", asked.engine]
    for name in ("models", "strategies"):
        if getattr(asked, name) is not None:
            words += [f"--{name}", *getattr(asked, name)]
    if asked.rounds is not None:
        words += ["--rounds", str(asked.rounds)]
    return shlex.join([*words, *(["--quick"] if asked.quick else []), "--threads", str(asked.threads)])


def _machine(device: torch.device, threads: int) -> str:
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{_processor()}, {os.cpu_count()} cores"
    return f"{where}, {threads} thread{'s' if threads > 1 else ''}; Python {platform.python_version()}, {_versions()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _versions() -> str:
    from importlib.metadata import PackageNotFoundError, version

    found = []
    for package in ("torch", "ray", "torchjd", "cvxpy", "clarabel", "ecos", "scipy", "quadprog"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return ", ".join(found)
