"""`config.yaml`: how a study was made, as its command worked it out.

Versions before 0.2 wrote less of it, so that little is required; what later ones add is left alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Required, TypedDict, cast

from msgspec import Meta

from mtl.files.schema import fault
from mtl.files.yaml_files import line_of, read_values

FILE = "config.yaml"


class MetricEntry(TypedDict, total=False):
    """A metric of a task."""

    higher_is_better: Required[bool]
    computed: Annotated[str, Meta(description="what computes it")]


class TaskEntry(TypedDict, total=False):
    """A task of the benchmark."""

    metrics: Required[dict[str, MetricEntry]]
    primary: Annotated[str, Meta(description="the metric that counts")]
    loss: Annotated[str, Meta(description="what computes it")]
    outputs: Annotated[int, Meta(description="width of its head")]


class SearchEntry(TypedDict, total=False):
    """How a search was run: its method, the options of that, and the space."""

    objective: Required[Annotated[dict[str, bool], Meta(description="by name, whether higher is better")]]
    method: str
    engine: str
    members: int
    trials: Annotated[int, Meta(description="runs in all")]
    interval: Annotated[int, Meta(description="steps from one decision to the next")]
    length: Annotated[int, Meta(description="steps of a whole run")]
    space: dict[str, Any]
    quantile: float
    burn_in: int
    resample: float
    eta: float
    asynchronous: bool
    grid_points: int
    scheduler: Annotated[str | None, Meta(description="of Ray Tune")]
    searcher: Annotated[str | None, Meta(description="of Ray Tune")]
    shards: Annotated[int | None, Meta(description="of its members, for Ray Tune")]


class TuneEntry(TypedDict):
    """How the strategies of a comparison were tuned."""

    method: str
    budget: int


class AutoEntry(TypedDict, total=False):
    """What `mtl auto` was asked to decide, and within which time."""

    objective: Required[Annotated[dict[str, bool], Meta(description="by name, whether higher is better")]]
    time: Annotated[float, Meta(description="seconds in all")]
    only: Annotated[list[str], Meta(description="parts that were decided")]
    seeds: Annotated[int, Meta(description="of each finalist, at most")]
    finalists: Annotated[int, Meta(description="beside the default")]
    members: Annotated[int | None, Meta(description="runs of the first bracket")]
    space: dict[str, Any]
    holdout: Annotated[dict[str, Any], Meta(description="the split that it was taken from, and how many examples")]
    remarks: Annotated[list[str], Meta(description="what was left out, and why")]


class Config(TypedDict, total=False):
    """What a run directory says of itself."""

    study: Annotated[str, Meta(description="identifies the study wherever its runs are shown together")]
    command: Annotated[str, Meta(description="train, compare, search or auto")]
    options: Annotated[dict[str, Any], Meta(description="of the command, where they are not at their defaults")]
    benchmark: Required[Annotated[str, Meta(description="by which name it is found again")]]
    tasks: Required[dict[str, TaskEntry]]
    digests: Annotated[dict[str, str], Meta(description="of the splits and tasks")]
    data: dict[str, Any]
    strategies: list[str]
    seeds: list[int]
    reference: Annotated[str, Meta(description="the strategy that others are compared with")]
    training: Annotated[dict[str, str | int | float | bool | None], Meta(description="the training settings")]
    device: str
    versions: dict[str, str]
    machine: dict[str, Any]
    search: SearchEntry
    auto: AutoEntry
    tune: TuneEntry
    spaces: Annotated[dict[str, Any], Meta(description="what was tuned of each strategy")]


def read_config(directory: Path) -> Config:
    """The settings of a study.

    Raises:
        ValueError: they are not there or cannot be read; the line names the file and the place in it.
    """
    path = directory / FILE
    if not path.is_file():
        raise ValueError(f"{str(directory)!r} is no run directory: it has no {FILE}")
    return check_config(path)


def check_config(path: Path) -> Config:
    """The settings in a file of any name.

    Raises:
        ValueError: as of `read_config`.
    """
    config = read_values(path)
    if found := fault(config, Config):
        raise ValueError(f"{path}, line {line_of(path, found.keys)}: {found}")
    return cast(Config, config)
