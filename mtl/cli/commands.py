"""What each command does."""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

import mtl
from mtl.benchmarks import Benchmark, Splits, find_benchmark, load_checked
from mtl.cli.interrupt import stop_on_signals
from mtl.cli.listing import show_list
from mtl.cli.parser import DEFAULT_STRATEGIES, TRAINING, BadInput
from mtl.cli.terminal import Terminal, console
from mtl.hyperparameters import domains
from mtl.strategy import Strategy
from mtl.study.execute import Setting, execute
from mtl.study.plan import Plan, RunPlan, compare_plan, parse_strategies
from mtl.study.rundir import RunDirectory, open_run_directory
from mtl.tracking import Tracker
from mtl.tracking.client import check_mode
from mtl.train import Settings, Stopped, check_model

# What a resumed study may not change: finished and new runs would not be comparable.
_FIXED = ("command", "benchmark", "training", "device")


def list(args: argparse.Namespace) -> int:
    """`mtl list`."""
    show_list(args.what, as_json=args.json)
    return 0


def train(args: argparse.Namespace) -> int:
    """`mtl train`."""
    try:
        setting = _setting(args)
        strategies = parse_strategies([args.strategy], setting.benchmark)
    except ValueError as error:
        raise BadInput(str(error)) from error
    plan = Plan((RunPlan("final", str(strategies[0]), args.seed),))
    config = _config(args, setting, strategies, [args.seed], strategies[0])
    return _carry_out(args, plan, setting, config)


def compare(args: argparse.Namespace) -> int:
    """`mtl compare`."""
    if args.seeds < 1:
        raise BadInput(f"--seeds {args.seeds}: must be at least 1")
    try:
        setting = _setting(args)
        specs = args.strategies or _default_strategies(setting.benchmark)
        strategies = parse_strategies(specs, setting.benchmark)
        reference = parse_strategies([args.reference], setting.benchmark)[0] if args.reference else strategies[0]
    except ValueError as error:
        raise BadInput(str(error)) from error
    if reference not in strategies:
        raise BadInput(f"--reference {reference}: it is not among the strategies")
    seeds = [args.seed + k for k in range(args.seeds)]
    plan = compare_plan(setting.benchmark, strategies, seeds, single=not args.no_single_task)
    config = _config(args, setting, strategies, seeds, reference)
    return _carry_out(args, plan, setting, config)


def report(args: argparse.Namespace) -> int:
    """`mtl report`."""
    directories = [part for directory in args.directories for part in _parts(directory)]
    from mtl.report import write_report

    out = args.out or args.directories[0]
    try:
        summary = write_report(directories, out)
    except ValueError as error:
        raise BadInput(str(error)) from error
    if args.json:
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


def _setting(args: argparse.Namespace) -> Setting:
    """Everything that the runs share, checked before any work starts."""
    check_mode(args.wandb)
    benchmark = find_benchmark(args.benchmark)
    chosen = {name: getattr(args, name) for name in TRAINING}
    settings = Settings.of(getattr(benchmark, "recipe", {}), chosen)
    if args.device == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: no CUDA device is available here")
    device = torch.device("cuda" if args.device != "cpu" and torch.cuda.is_available() else "cpu")
    splits: Splits = load_checked(benchmark)
    check_model(benchmark, splits, settings)
    return Setting(benchmark, splits, settings, device)


def _default_strategies(benchmark: Benchmark) -> tuple[str, ...]:
    """The nine of the main job; static weights only where their number fits."""
    return tuple(spec for spec in DEFAULT_STRATEGIES if len(benchmark.tasks) == 3 or not spec.startswith("static:"))


def _config(
    args: argparse.Namespace, setting: Setting, strategies: Any, seeds: Any, reference: Strategy
) -> dict[str, Any]:
    """The resolved settings, as recorded in config.yaml."""
    tasks = {
        task.name: {
            "loss": str(task.loss),
            "metrics": {metric.name: {"higher_is_better": metric.higher_is_better} for metric in task.metrics},
            "primary": task.metrics[0].name,
        }
        for task in setting.benchmark.tasks
    }
    settings = {name: getattr(setting.settings, name) for name in [*domains(setting.settings), "model"]}
    return {
        "command": args.command,
        "benchmark": args.benchmark,
        "tasks": tasks,
        "strategies": [str(strategy) for strategy in strategies],
        "seeds": [*seeds],
        "reference": str(reference),
        "training": settings | {"model": setting.settings.model or getattr(setting.benchmark, "trunk", "")},
        "device": str(setting.device),
        "versions": {"mtl": mtl.__version__, "torch": str(torch.__version__), "python": platform.python_version()},
        "machine": {"processor": platform.machine(), "cpu_count": os.cpu_count()},
    }


def _carry_out(args: argparse.Namespace, plan: Plan, setting: Setting, config: dict[str, Any]) -> int:
    out: Path = args.out or Path("runs") / f"{args.command}-{_slug(args.benchmark)}"
    try:
        opened = open_run_directory(out, resume=args.resume)
        directory = opened.__enter__()
    except ValueError as error:
        raise BadInput(str(error)) from error
    try:
        return _in_directory(args, plan, setting, config, directory)
    finally:
        opened.__exit__(None, None, None)


def _in_directory(
    args: argparse.Namespace, plan: Plan, setting: Setting, config: dict[str, Any], directory: RunDirectory
) -> int:
    before = directory.config()
    if before is not None:
        _check_same(before, config, directory.path)
    # Identifies the study wherever its runs are shown together; kept when it is resumed.
    # W&B's own variable names it where several processes carry out one study.
    named = os.environ.get("WANDB_RUN_GROUP") or f"{directory.path.resolve().name}-{secrets.token_hex(3)}"
    study = (before or {}).get("study") or named
    config = {"study": study, **config}
    directory.write_config(config)
    tracker = Tracker(args.wandb, directory.path, config, lambda text: print(f"mtl: {text}", file=sys.stderr))
    finished = len({record["run"] for record in directory.records()} & {run.name for run in plan.runs})
    terminal = Terminal(plan, finished, quiet=args.quiet)
    try:
        with stop_on_signals() as should_stop, terminal:
            execute(plan, setting, directory, [terminal, tracker], should_stop)
    except Stopped:
        print(f"mtl: stopped; the same command with --resume --out {directory.path} continues", file=sys.stderr)
        return 75
    finally:
        tracker.close()
    from mtl.report import write_report  # brings matplotlib, which training does not need

    _show(write_report([directory.path], directory.path), directory.path)
    return 0


def _check_same(before: dict[str, Any], now: dict[str, Any], path: Path) -> None:
    for key in _FIXED:
        if before.get(key) == now[key]:
            continue
        old, new = before.get(key), now[key]
        if isinstance(old, dict):
            key = next(name for name in new if old.get(name) != new[name])
            old, new = old.get(key), new[key]
        raise BadInput(
            f"output directory {str(path)!r} was started with {key}={old}, now {key}={new}; use another --out"
        )


def _show(summary: dict[str, Any], out: Path) -> None:
    from mtl.report.tables import terminal
    from mtl.report.words import verdict

    console.print(terminal(summary, console.width))
    console.print(verdict(summary), highlight=False)
    console.print(f"Report: {out / 'report.html'}", soft_wrap=True)


def _slug(benchmark: str) -> str:
    return (
        Path(benchmark.rpartition(":")[0]).stem + "-" + benchmark.rpartition(":")[2] if ":" in benchmark else benchmark
    )
