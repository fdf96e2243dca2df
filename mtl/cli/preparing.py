"""`mtl data`: a benchmark's data is prepared, checked and described, before anything is trained on it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from mtl.benchmarks import Benchmark, Splits, digest, find_benchmark, load_checked
from mtl.benchmarks.cache import cache_folder, watched
from mtl.benchmarks.repeats import repeated_inputs
from mtl.cli.console import console
from mtl.cli.errors import BadInput
from mtl.cli.options import DataOptions, named_in_full
from mtl.train.check import label_remarks
from mtl.train.facts import data_facts


def data(options: DataOptions) -> int:
    """`mtl data`."""
    started = time.perf_counter()
    try:
        benchmark = find_benchmark(named_in_full(options.benchmark, options.target))
        with _shown(benchmark.name, quiet=options.quiet or options.json):
            splits = load_checked(benchmark)
        found = _described(benchmark, splits)
    except ValueError as error:
        raise BadInput(str(error)) from error
    found["seconds"] = round(time.perf_counter() - started, 3)
    if options.json:
        print(json.dumps(found, indent=2))
    else:
        _show(found)
    return 0


@contextmanager
def _shown(name: str, *, quiet: bool) -> Iterator[None]:
    """A bar while data is prepared; a file that was prepared before needs none."""
    if quiet:
        yield
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bars:
        number = bars.add_task(f"preparing {escape(name)}", visible=False)

        def progress(done: int, total: int) -> None:
            bars.update(number, completed=done, total=total, visible=True)

        with watched(progress):
            yield


def _described(benchmark: Benchmark, splits: Splits) -> dict[str, Any]:
    """What is in the splits, as plain values."""
    facts = data_facts(benchmark.tasks, splits)
    prepared = sorted(cache_folder().glob(f"{benchmark.name}-*.pt"), key=lambda path: path.stat().st_mtime)
    return {
        "benchmark": benchmark.name,
        "about": list(getattr(benchmark, "about", ())),
        "files": sorted({str(path) for path in benchmark.files()}) if hasattr(benchmark, "files") else [],
        "prepared": str(prepared[-1]) if prepared else None,
        "splits": {
            name: {"examples": len(split), "digest": one, "inputs": _shapes(split.first(1))}
            for (name, split), one in zip(splits.parts(), digest.of_splits(splits).values(), strict=True)
        },
        "tasks": {
            task.name: {
                "loss": digest.described(task.loss),
                "metrics": [metric.name for metric in task.metrics],
                "missing": {name: counts[task.name] for name, counts in facts["missing"].items()},
                "constant": facts["constant"][task.name],
            }
            for task in benchmark.tasks
        },
        "remarks": _remarks(benchmark, splits),
    }


def _remarks(benchmark: Benchmark, splits: Splits) -> list[str]:
    """What training would say of the labels, or refuse them for, and examples that are in two splits."""
    repeated = repeated_inputs(splits)
    try:
        return label_remarks(benchmark.tasks, splits, f"benchmark {benchmark.name!r}") + repeated
    except ValueError as error:
        return [f"this data will not be trained on: {error}", *repeated]


def _shapes(inputs: Any) -> Any:
    """The shape and kind of one example, in the nesting of the inputs."""
    if isinstance(inputs, Tensor):
        return f"{' x '.join(map(str, inputs.shape[1:])) or 'one'} {str(inputs.dtype).removeprefix('torch.')}"
    if isinstance(inputs, Mapping):
        return {str(name): _shapes(part) for name, part in inputs.items()}
    return [_shapes(part) for part in inputs]


def _show(found: dict[str, Any]) -> None:
    sizes = ", ".join(f"{name} {split['examples']:,}" for name, split in found["splits"].items())
    inputs = next(iter(found["splits"].values()))["inputs"]
    lines = [f"{found['benchmark']}: {sizes} examples", f"an example: {_words(inputs)}"]
    lines += found["about"]
    if found["prepared"]:
        lines.append(f"prepared in {found['prepared']}")
    for name, task in found["tasks"].items():
        judge, *others = task["metrics"]
        lines.append(f"task {name}: {task['loss']}, selected by {judge}" + "".join(f", {other}" for other in others))
        if missing := ", ".join(f"{split} {count:,}" for split, count in task["missing"].items() if count):
            lines.append(f"    missing labels: {missing}")
        if constant := ", ".join(f"{key} {x:.4g}" for key, x in task["constant"].items() if x is not None):
            lines.append(f"    best constant prediction, test split: {constant}")
    lines += found["remarks"]
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    print(f"mtl: read and checked in {found['seconds']:.1f} s", file=sys.stderr)


def _words(inputs: Any) -> str:
    if isinstance(inputs, str):
        return inputs
    if isinstance(inputs, dict):
        return ", ".join(f"{name} ({_words(part)})" for name, part in inputs.items())
    return ", ".join(f"({_words(part)})" for part in inputs)
