"""`mtl predict`."""

from __future__ import annotations

import csv
import io

import torch

from mtl.benchmarks.columns import read_table
from mtl.benchmarks.split import Split
from mtl.benchmarks.table_file import TableFile
from mtl.cli.errors import BadInput
from mtl.cli.options import PredictOptions
from mtl.cli.shared import tell
from mtl.files.whole import write_whole
from mtl.study.models import load_trained
from mtl.train.evaluate import CHUNK

FILE = "predictions.csv"


def predict(options: PredictOptions) -> int:
    """Write the rows of a table with the predictions beside them."""
    out = options.out or options.directory / FILE
    try:
        if out.resolve() == options.table.resolve():
            raise ValueError(f"--out {out}: that is the table to predict from")
        trained = load_trained(options.directory)
        benchmark = trained.benchmark
        if not isinstance(benchmark, TableFile):
            raise ValueError(
                f"{str(options.directory)!r} was trained on {benchmark.name}, which is no table in a text file: "
                "mtl.load gives its model"
            )
        if trained.changed:
            raise ValueError(f"{str(options.directory)!r}: {trained.changed}; put the table back as it was")
        table = read_table(options.table)
        rows = Split(benchmark.inputs_of(table), {})
        with torch.no_grad():
            parts = [trained.model(part.inputs) for part in rows.chunks(CHUNK)]
        found = {task: torch.cat([part[task] for part in parts]) for task in trained.tasks}
        said = benchmark.said(found)
        if twice := [name for name in said if name in table.names]:
            raise ValueError(f"table {str(table.path)!r} has a column {twice[0]!r}, as the predictions have")
    except ValueError as error:
        raise BadInput(str(error)) from error
    for task, values in found.items():
        if odd := int((~values.isfinite().reshape(len(values), -1).all(1)).sum()):
            tell(f"{task}: {odd:,} of {len(values):,} predictions are not finite")
    for line in benchmark.doubts(found):
        tell(line)
    written = io.StringIO()
    writer = csv.writer(written, lineterminator="\n")
    writer.writerow([*table.names, *said])
    writer.writerows(zip(*zip(*table.rows, strict=True), *said.values(), strict=True))
    write_whole(out, written.getvalue())
    print(f"{len(table.rows):,} rows with {', '.join(said)}: {out}")
    return 0
