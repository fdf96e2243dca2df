"""The tables of a report: ranking, metrics, single-task baselines, cost; and the ranking for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table as TerminalTable
from rich.text import Text

from mtl.report import numbers
from mtl.report.cost import StepCost
from mtl.report.labels import noun, reference_in_heads, table_labels
from mtl.report.summary import OVER_METRICS, OVER_TASKS
from mtl.report.table import Cell, Column, ReportTable

_BOUNDS = ("", "_low", "_high")
SIGNIFICANT = 0.05


def ranking(summary: Mapping[str, Any]) -> ReportTable:
    """Strategies, best first."""
    reference, published = summary["reference"], summary["baseline"] == "single_task"
    named, labels = reference_in_heads(summary), table_labels(summary)
    known = any(entry["over_examples"] for entry in summary["strategies"].values())
    among = f" in {summary['judged_by']}" if summary["judged_by"] else ""
    gain = "Δm over tasks" if published else f"gain{among} on {named}"
    drop = "Δm over metrics" if published else f"drop{among} from {named}"
    columns = [
        Column("#", ("rank",)),
        Column(noun(summary), ("strategy",), numeric=False),
        Column(f"{gain},\u00a0%", _fields("delta_m_gain_over_tasks"), True),
        Column(f"{drop},\u00a0%", _fields("delta_m_drop_over_metrics"), False),
        Column("mean rank", _fields("mean_rank"), False),
        Column(f"minus {named}", _fields("difference")),
        Column("p\u00a0(Holm)", ("p_adjusted", "p_value", "wilcoxon_p")),
        *([Column("p, other examples", ("p_examples_adjusted", "p_examples"))] if known else []),
        Column("d", ("effect_size",)),
        Column("runs", ("finished", "diverged", "failed", "missing"), numeric=False),
    ]
    entries = [summary["strategies"][spec] for spec in summary["ranking"]]
    digits = {
        name: numbers.decimals([pick(entry) for entry in entries])
        for name, pick in (("gain", _gain), ("drop", _drop), ("rank", _rank))
    }
    differences = numbers.decimals([entry["difference"] for entry in entries if entry["difference"]])
    rows = [
        [
            Cell(str(place), (place,)),
            Cell(labels[spec], (spec,)),
            _interval_cell(_gain(entry), digits["gain"], signed=True),
            _interval_cell(_drop(entry), digits["drop"], signed=True),
            _interval_cell(_rank(entry), min(digits["rank"], 2)),
            _interval_cell(entry["difference"], differences, signed=True),
            Cell(
                "reference" if spec == reference else numbers.p_value(entry["p_adjusted"]),
                (entry["p_adjusted"], entry["p_value"], entry["wilcoxon_p"]),
            ),
            *([_over_examples(entry["over_examples"])] if known else []),
            Cell(numbers.number(entry["effect_size"], 1, signed=True), (entry["effect_size"],)),
            Cell(runs_text(entry), (finished(entry), entry["diverged"], entry["failed"], entry["missing"])),
        ]
        for place, (spec, entry) in enumerate(zip(summary["ranking"], entries, strict=True), 1)
    ]
    return ReportTable(columns, rows, excluded=_excluded(entries))


def _over_examples(wider: Mapping[str, Any] | None) -> Cell:
    """The p-value for other seeds and other test examples."""
    if wider is None:
        return Cell(numbers.ABSENT, (None, None))
    return Cell(numbers.p_value(wider["p_adjusted"]), (wider["p_adjusted"], wider["p_value"]))


def metrics(summary: Mapping[str, Any]) -> ReportTable:
    """Test metrics of every task, with the single-task baselines on top."""
    single = {task: entry["metrics"] for task, entry in summary["single_task"].items()}
    entries = [summary["strategies"][spec] for spec in summary["ranking"]]
    sources = ([("single task", single)] if single else []) + [
        (spec, entry["metrics"]) for spec, entry in zip(summary["ranking"], entries, strict=True)
    ]
    columns = [Column(noun(summary), ("strategy",), numeric=False)]
    labels = table_labels(summary)
    rows = [[Cell(labels.get(name, name), (name,))] for name, _ in sources]
    for task, about in summary["tasks"].items():
        for metric, higher_is_better in about["higher_is_better"].items():
            columns.append(Column(metric, _fields(f"{task}_{metric}"), higher_is_better, group=task))
            found = [values.get(task, {}).get(metric) for _, values in sources]
            digits = numbers.decimals([entry for entry in found if entry])
            for row, entry in zip(rows, found, strict=True):
                row.append(_interval_cell(entry, digits))
    apart = len(rows) - len(entries)
    return ReportTable(columns, rows, apart, frozenset(row + apart for row in _excluded(entries)))


def single_task(summary: Mapping[str, Any]) -> ReportTable:
    """Each task trained alone, with the same steps and seeds."""
    columns = [
        Column("task", ("task",), numeric=False),
        Column("metric", ("metric",), numeric=False),
        Column("test value", _fields("value")),
        Column("runs", ("finished", "diverged", "failed"), numeric=False),
        Column("steps", ("steps",)),
    ]
    rows = []
    for task, entry in summary["single_task"].items():
        for metric, value in entry["metrics"].items():
            arrow = "↑" if summary["tasks"][task]["higher_is_better"][metric] else "↓"
            rows.append(
                [
                    Cell(task, (task,)),
                    Cell(f"{metric}\u00a0{arrow}", (metric,)),
                    _interval_cell(value, numbers.decimals([value])),
                    Cell(runs_text(entry), (finished(entry), entry["diverged"], entry["failed"])),
                    Cell(numbers.count(entry["budget"]["steps"]), (entry["budget"]["steps"],)),
                ]
            )
    return ReportTable(columns, rows)


def cost(summary: Mapping[str, Any], costs: Mapping[str, StepCost]) -> ReportTable:
    """What a strategy costs: relative time, passes and memory of one run, and what all of its runs spent."""
    columns = [
        Column(noun(summary), ("strategy",), numeric=False),
        Column(f"time per step, × {reference_in_heads(summary)}", ("relative_seconds_per_step",), False),
        Column("ms per step", ("milliseconds_per_step",), False),
        Column("backwards per step", ("backwards_per_step",), False),
        Column("forwards per step", ("forwards_per_step",), False),
        Column("peak memory, MiB", ("peak_memory_mb",), False),
        Column("steps in all", ("steps",)),
        Column("steps searched", ("search_steps",)),
    ]
    rows, labels = [], table_labels(summary)
    for spec in summary["ranking"]:
        one, entry = costs[spec], summary["strategies"][spec]
        steps, searched = entry["budget"]["steps"], entry["search_budget"]["steps"]
        rows.append(
            [
                Cell(labels[spec], (spec,)),
                Cell(numbers.number(one.relative_seconds, 2), (one.relative_seconds,)),
                Cell(numbers.number(one.milliseconds, 2), (one.milliseconds,)),
                Cell(numbers.number(one.backwards, 2), (one.backwards,)),
                Cell(numbers.number(one.forwards, 2), (one.forwards,)),
                Cell(numbers.count(one.peak_memory), (one.peak_memory,)),
                Cell(numbers.count(steps), (steps,)),
                Cell(numbers.count(searched), (searched,)),
            ]
        )
    return ReportTable(columns, rows)


def terminal(summary: Mapping[str, Any], width: int = 100) -> TerminalTable:
    """The ranking for a terminal; the tasks' primary metrics are added while they fit into `width` characters."""
    full, values = ranking(summary), metrics(summary)
    gain = "Δm, % ↑" if summary["baseline"] == "single_task" else f"gain on\n{reference_in_heads(summary, 16)}, % ↑"
    named = noun(summary)
    heads = ["#", named, gain, "mean rank ↓", "p (Holm)", "runs"]
    titles = [column.title for column in full.columns]
    shown = (0, 1, 2, 4, 6, titles.index("runs"))
    columns = [[row[index].text for row in full.rows] for index in shown]
    best: list[set[int]] = [full.best(index) for index in shown]
    extra = [
        (f"{column.group}\n{column.title_with_arrow}", index)
        for index, column in enumerate(values.columns)
        if index and column.title == summary["tasks"][column.group]["primary"]
    ]
    texts = {index: [row[index].text.split(" ±")[0] for row in values.rows[values.apart :]] for _, index in extra}
    needed = [*zip(heads, columns, strict=True), *((head, texts[index]) for head, index in extra)]
    if sum(_width(head, column) + 2 for head, column in needed) <= width:  # all tasks or none: no favourites
        heads += [head for head, _ in extra]
        columns += texts.values()
        best += [{row - values.apart for row in values.best(index)} for _, index in extra]
    result = TerminalTable(box=None, padding=(0, 1), header_style="bold", pad_edge=False)
    for head in heads:
        text = head in (named, "runs")
        result.add_column(Text(head), justify="left" if text else "right", overflow="fold", no_wrap=not text)
    for row, spec in enumerate(summary["ranking"]):
        cells = [Text(column[row], "bold" if row in top else "") for column, top in zip(columns, best, strict=True)]
        result.add_row(*cells, style="dim" if row in full.excluded else "cyan" if spec == summary["reference"] else "")
    return result


def runs_text(entry: Mapping[str, Any]) -> str:
    """`3 of 3`, and what became of the others."""
    lost = [f"{entry[key]}\u00a0{key}" for key in ("diverged", "failed", "missing") if entry.get(key)]
    return ", ".join([f"{finished(entry)} of {entry['runs'] + entry.get('missing', 0)}", *lost])


def finished(entry: Mapping[str, Any]) -> int:
    """Runs that trained to their end."""
    return int(entry["runs"] - entry["diverged"] - entry["failed"])


def _gain(entry: Mapping[str, Any]) -> Any:
    return entry["delta_m"][OVER_TASKS]


def _drop(entry: Mapping[str, Any]) -> Any:
    return entry["delta_m"][OVER_METRICS]


def _rank(entry: Mapping[str, Any]) -> Any:
    return entry["mean_rank"]


def _excluded(entries: Sequence[Mapping[str, Any]]) -> frozenset[int]:
    return frozenset(row for row, entry in enumerate(entries) if entry["diverged"] + entry["failed"])


def _fields(name: str) -> tuple[str, ...]:
    return (*(name + bound for bound in _BOUNDS), f"{name}_n")


def _interval_cell(entry: Mapping[str, Any] | None, digits: int, signed: bool = False) -> Cell:
    values = (None, None, None, 0) if entry is None else (entry["mean"], entry["low"], entry["high"], entry["n"])
    return Cell(numbers.interval(entry, digits, signed), values)


def _width(head: str, texts: Sequence[str]) -> int:
    return max(len(line) for line in [*head.split("\n"), *texts])
