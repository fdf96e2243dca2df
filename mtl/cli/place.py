"""Where the files of a command go, and what is there before it is at work; told without torch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from mtl.cli.options import RunOptions, SearchOptions
from mtl.files.begun import begun
from mtl.files.records import read_records
from mtl.files.table_name import parted_table


def out_of(options: RunOptions) -> Path:
    """The output directory: that of `--out`, or `runs/COMMAND-BENCHMARK`."""
    return options.out or Path("runs") / f"{options.command}-{_slug(options.benchmark)}"


def what_is_kept(options: RunOptions) -> str | None:
    """What a command that goes on finds in its directory, and how to go on with it; None where there is nothing."""
    out, several = out_of(options), options.methods if isinstance(options, SearchOptions) else None
    if not options.resume and not several:  # another run's directory is refused
        return None
    if not (held := [path for path in _directories(out, several) if begun(path)]):
        return None
    count = sum(len(read_records(path / "results.jsonl").runs) for path in held)
    runs = f"{count or 'no'} finished run{'s' * (count != 1)}" + ("" if count else ", and those on their way")
    return f"{out} keeps what was saved before ({runs}), and the same command with --resume --out {out} continues"


def _directories(out: Path, methods: Sequence[str] | None) -> list[Path]:
    return [out / method for method in methods] if methods else [out]


def _slug(benchmark: str) -> str:
    if table := parted_table(benchmark):
        return Path(table[0]).stem
    return (
        Path(benchmark.rpartition(":")[0]).stem + "-" + benchmark.rpartition(":")[2] if ":" in benchmark else benchmark
    )
