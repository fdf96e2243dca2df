"""The tables of what went into a study: its tasks with their losses and data, and what tuning chose."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mtl.report import numbers
from mtl.report.read import Study
from mtl.report.table import Cell, Column, ReportTable

_SPLITS = ("train", "validation", "test")


def tasks_and_data(config: Mapping[str, Any]) -> ReportTable:
    """A row a metric: its task's loss and labels, and what the best constant prediction reaches on test data.

    Studies of older versions lack the data's part, which is then empty.
    """
    data = config.get("data") or {}
    columns = [
        Column("task", ("task",), numeric=False),
        Column("loss", ("loss",), numeric=False),
        *(Column(f"{split}, labels missing", (f"{split}_missing",)) for split in _SPLITS),
        Column("metric", ("metric",), numeric=False),
        Column("constant prediction", ("constant",)),
    ]
    rows = []
    for task, about in config["tasks"].items():
        missing = [((data.get("missing") or {}).get(split) or {}).get(task) for split in _SPLITS]
        for metric, value in about["metrics"].items():
            arrow = "↑" if value["higher_is_better"] else "↓"
            constant = ((data.get("constant") or {}).get(task) or {}).get(metric)
            rows.append(
                [
                    Cell(task, (task,)),
                    Cell(str(about.get("loss") or numbers.ABSENT), (about.get("loss"),)),
                    *(Cell(numbers.count(count), (count,)) for count in missing),
                    Cell(f"{metric}\u00a0{arrow}", (metric,)),
                    Cell(numbers.number(constant, 4), (constant,)),
                ]
            )
    return ReportTable(columns, rows)


def sizes(config: Mapping[str, Any]) -> str:
    """How many examples each split has, as a sentence; empty where the study does not say."""
    examples = (config.get("data") or {}).get("examples") or {}
    return ", ".join(f"{numbers.count(count)} {split}" for split, count in examples.items())


def tuned(study: Study) -> ReportTable:
    """What the search of each baseline and strategy chose; no rows where nothing was tuned."""
    tuned_runs = {
        **{f"{task} alone": study.of("single_task") for task in study.directions if study.searched(task=task)},
        **{spec: study.of("final", spec) for spec in study.strategies if study.searched(strategy=spec)},
    }
    rows = []
    for name, runs in tuned_runs.items():
        final = [run for run in runs if name in (run.strategy, f"{run.record.get('task')} alone")]
        if final:
            values = dict(final[0].record["hyperparameters"])
            spec = str(values.pop("strategy", final[0].strategy))
            text = ", ".join(f"{key} {_value_in_words(value)}" for key, value in values.items())
            rows.append([Cell(name, (name,)), Cell(spec, (spec,)), Cell(text or numbers.ABSENT, (text,))])
    columns = [
        Column("variant" if study.varied else "strategy", ("strategy",), numeric=False),
        Column("as tuned", ("tuned",), numeric=False),
        Column("settings", ("settings",), numeric=False),
    ]
    return ReportTable(columns, rows)


def _value_in_words(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "/".join(_value_in_words(item) for item in value)
    return f"{value:.4g}" if isinstance(value, float) else str(value)
