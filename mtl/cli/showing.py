"""`mtl list` and `mtl report`: commands that show what is there and train nothing."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mtl.cli.console import console
from mtl.cli.errors import BadInput
from mtl.cli.options import ListOptions, ReportOptions


def list(options: ListOptions) -> int:
    """`mtl list`."""
    from mtl.cli.listing import show_list  # brings torch, which a report does not need

    show_list(options.what, grep=options.grep, by_cost=options.cost, as_json=options.json)
    return 0


def report(options: ReportOptions) -> int:
    """`mtl report`."""
    directories = [part for directory in options.directories for part in _parts(directory)]
    out = options.out or options.directories[0]
    try:
        summary = _written(directories, out)
    except ValueError as error:
        raise BadInput(str(error)) from error
    if options.json:
        print(json.dumps(summary, indent=2))
    else:
        _show(summary, out)
    return 0


def _parts(directory: Path) -> Sequence[Path]:
    """The directory itself, or where it only holds those of several jobs, all of them that have finished runs."""
    if (directory / "results.jsonl").is_file():
        return [directory]
    inside = sorted(path for path in directory.glob("*") if path.is_dir())
    parts = [path for path in inside if (path / "results.jsonl").is_file()]
    if not parts:
        raise BadInput(f"{str(directory)!r} holds no results.jsonl: is it the directory of a run?")
    for path in inside:
        if (path / "config.yaml").is_file() and path not in parts:
            print(f"mtl: {str(path)!r} holds no finished run and is left out", file=sys.stderr)
    return parts


def _written(directories: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write the report of these directories: of one decision, or of what `write_report` takes."""
    from mtl.report import write_report
    from mtl.report.read import read_config

    if len(directories) == 1 and read_config(directories[0]).get("command") == "auto":
        from mtl.auto.page import write_decision

        return write_decision(directories[0], out)
    return write_report(directories, out)


def show_report(directories: Sequence[Path], out: Path) -> dict[str, Any]:
    """Write the report of finished runs, show its main lines, and return its summary."""
    summary = _written(directories, out)
    _show(summary, out)
    return summary


def _show(summary: dict[str, Any], out: Path) -> None:
    if summary.get("command") == "auto":
        from mtl.cli.decision_table import show_decision

        show_decision(summary)
    elif "methods" in summary:
        from mtl.report.search.methods import methods_table, methods_verdict

        console.print(methods_table(summary).markdown(), markup=False, highlight=False, soft_wrap=True)
        console.print(methods_verdict(summary), highlight=False, markup=False)
    elif summary.get("command") == "search":
        from mtl.files.learned import found_loss_file
        from mtl.report.search.words import found_losses
        from mtl.report.search.words import verdict as search_verdict

        console.print(search_verdict(summary), highlight=False, markup=False)
        for task, option, equation in found_losses(summary):
            if equation:
                console.print(f"Loss of {task}: {equation}", highlight=False, markup=False, soft_wrap=True)
                file = found_loss_file(out, task)
                console.print(f"To train on it: --loss {task}={file}", highlight=False, markup=False, soft_wrap=True)
            elif f"{task}=learned:" in option:
                _show_learned(task, option)
    else:
        from mtl.report.tables import terminal
        from mtl.report.words import verdict

        console.print(terminal(summary, console.width))
        for remark in summary["remarks"]:
            console.print(remark, highlight=False, markup=False)
        console.print(verdict(summary), highlight=False, markup=False)
        for task, option in summary["learned"].items():
            _show_learned(task, option)
    from mtl.report.again import again_in_words

    for line in again_in_words(summary.get("again"), out):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    console.print(f"Report: {out / 'report.html'}", soft_wrap=True, markup=False)


def _show_learned(task: str, option: str) -> None:
    """Say how to train on a loss as it was learned."""
    console.print(f"Loss of {task}, as it was learned: {option}", highlight=False, markup=False, soft_wrap=True)
