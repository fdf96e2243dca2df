"""`results.jsonl`: what a line says of a finished run, and which lines are none."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, NamedTuple, Required, TypedDict

from msgspec import Meta

from mtl.files.json_lines import read_lines
from mtl.files.schema import fault

#: By task and metric; None for what could not be measured.
Metrics = dict[str, dict[str, float | None]]


class Cost(TypedDict, total=False):
    """What a run took."""

    steps: float | None
    forwards: float | None
    backwards: float | None
    seconds: float | None
    peak_memory_mb: float | None


class Record(TypedDict, total=False):
    """A finished run. Those of a search have the fields from `search` on too."""

    run: Required[Annotated[str, Meta(description="its name")]]
    strategy: Required[Annotated[str, Meta(description="the strategy's spec")]]
    phase: Required[
        Annotated[str, Meta(description="search, final, single_task or path; search_single_task when tuned")]
    ]
    status: Required[Annotated[str, Meta(description="done, stopped, diverged or failed")]]
    benchmark: str
    hyperparameters: Annotated[dict[str, Any], Meta(description="of the strategy; of a search all that varies")]
    losses: Annotated[dict[str, str], Meta(description="that training labels decided, with their numbers, by task")]
    seed: int | None
    task: Annotated[str | None, Meta(description="the only one that it trained")]
    metrics: Annotated[Metrics | None, Meta(description="on test data")]
    metrics_without: Annotated[
        dict[str, dict[str, list[float | None]]] | None,
        Meta(description="on test data without each fold of it in turn"),
    ]
    validation: Annotated[Metrics | None, Meta(description="on validation data")]
    cost: Cost | None
    skipped: Annotated[dict[str, int] | None, Meta(description="steps that changed nothing, by reason")]
    best_step: Annotated[int | None, Meta(description="after which it was best on validation data")]
    selection: Annotated[float | None, Meta(description="its validation score then")]
    error: str | None
    traceback: Annotated[str | None, Meta(description="file with more of the error, within the directory")]
    history: Annotated[str | None, Meta(description="file with its curves, within the directory")]
    digests: Annotated[dict[str, str] | None, Meta(description="of the data and the tasks that it was made on")]
    search: Annotated[str | None, Meta(description="name of the search")]
    trial: Annotated[int | None, Meta(description="its number in the search")]
    best_trial: Annotated[int | None, Meta(description="the run whose evaluation was its best")]
    objective: Annotated[dict[str, float | None] | None, Meta(description="the objectives by name")]
    informed: Annotated[bool | None, Meta(description="whether the scores of other runs led to its values")]
    spent: Annotated[int | None, Meta(description="steps of all runs of the search when it ended")]
    holdout: Annotated[Metrics | None, Meta(description="of a finalist of mtl auto, on what the race never saw")]
    holdout_score: Annotated[float | None, Meta(description="its objective there, higher is better")]
    holdout_without: Annotated[list[float | None] | None, Meta(description="the same without each fold of it in turn")]
    shards: Annotated[int | None, Meta(description="in how many shards the search was trained")]


class Records(NamedTuple):
    """The finished runs of a file.

    Attributes:
        runs: by name, in the order in which each was first written; of several lines of one run the last counts.
        damaged: what is wrong with the lines that are no runs, by number; empty for one that is no JSON.
        cut: number of a last line that a crash cut short; None when there is none.
    """

    runs: dict[str, dict[str, Any]]
    damaged: dict[int, str]
    cut: int | None

    @property
    def why(self) -> str:
        """What is wrong with the first damaged line that is JSON, in brackets; empty where there is none."""
        said = next(filter(None, self.damaged.values()), "")
        return f" ({said})" if said else ""

    @property
    def unreadable(self) -> list[int]:
        """Numbers of all lines that are left out."""
        return [*self.damaged] + ([] if self.cut is None else [self.cut])


def read_records(path: Path) -> Records:
    """Read results.jsonl, which need not exist."""
    lines = read_lines(path)
    runs: dict[str, dict[str, Any]] = {}
    damaged = dict.fromkeys(lines.damaged, "")
    for number, value in lines.whole:
        if found := fault(value, Record):
            damaged[number] = str(found)
        else:
            runs[value["run"]] = value
    return Records(runs, dict(sorted(damaged.items())), lines.cut)


def named_lines(path: Path, numbers: list[int]) -> str:
    """How damaged lines are named: the file, and at most five of them."""
    listed = ", ".join(map(str, numbers[:5])) + (f" and {len(numbers) - 5} more" if len(numbers) > 5 else "")
    return f"{path}, line{'s' * (len(numbers) > 1)} {listed}"
