"""What a speed bench is: cases measured against a peer, and the bars that they are held to."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple, NotRequired, TypedDict

import torch

from mtl.bench.peers import check_peers_are_here
from mtl.extras import install
from mtl.suggestions import nearest


class Row(TypedDict):
    """One case. Times are in seconds for a step or a solve, medians over rounds.

    `case` is `ROW, COLUMN`, its place in a table. `ratio` is peer / ours: above one, we are faster.
    """

    case: str
    ours: float
    peer: float
    peer_name: str
    ratio: float
    #: Relative distance between our update and the peer's; None where draws or definitions differ.
    difference: NotRequired[float | None]
    #: A step of the least work that an exact Gramian takes, and one of equal weighting.
    floor: NotRequired[float]
    equal: NotRequired[float]


class Bar(NamedTuple):
    """What a bench must reach. `text` says what, and what was reached."""

    text: str
    met: bool


class BenchTable(NamedTuple):
    """A table to be printed: its title, the heads of its columns, and the cells of each line."""

    title: str
    columns: list[str]
    lines: list[list[str]]


@dataclass(frozen=True)
class BenchScope:
    """What to measure and how.

    Attributes:
        rounds: how often each candidate has its turn; None for the bench's own number.
        quick: fewest rounds and cases, to see that everything works; its times mean little.
        models: names of models, None for the usual ones.
        strategies: names of strategies, None for all.
        device: where to run.
    """

    rounds: int | None = None
    quick: bool = False
    models: Sequence[str] | None = None
    strategies: Sequence[str] | None = None
    device: torch.device = torch.device("cpu")  # noqa: RUF009

    def __post_init__(self) -> None:
        if self.rounds is not None and self.rounds < 1:
            raise ValueError(f"rounds={self.rounds} must be at least 1")


class Bench(ABC):
    """A speed bench."""

    #: What it compares with: import names of packages of the extra `peers`.
    peers: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def check(self, options: BenchScope) -> None:
        """Raise `ValueError`, before any work, where the user asks for a case that this bench does not have."""

    @abstractmethod
    def run(self, options: BenchScope) -> Iterator[Row]:
        """Measure. Each case is given as soon as it is done."""

    @abstractmethod
    def tables(self, rows: Sequence[Row]) -> list[BenchTable]:
        """The rows, laid out for reading."""

    @abstractmethod
    def bars(self, rows: Sequence[Row]) -> list[Bar]:
        """Whether the bars of this bench are met, those that the rows have a case for."""

    def check_peers(self) -> None:
        """Raise `ValueError` where a peer, or what runs it, is not installed."""
        if self.peers:
            check_peers_are_here()
        missing = [name for name in self.peers if importlib.util.find_spec(name) is None]
        if missing:
            raise ValueError(f"this bench compares with {', '.join(missing)}, not installed: {install('peers')}")


def chosen(option: str, names: Sequence[str] | None, known: Sequence[str], usual: Sequence[str]) -> list[str]:
    """The names that the user gave, checked, or the usual ones."""
    for name in names or ():
        if name not in known:
            hint = nearest(name, known, f"known are {', '.join(known)}")
            raise ValueError(f"--{option} {name!r} is not in this bench: {hint}")
    return list(names or usual)


def pivot(title: str, cells: Mapping[str, str]) -> BenchTable:
    """A table of cells whose case is `ROW, COLUMN`, both in order of appearance."""
    heads = [tuple(case.split(", ", 1)) for case in cells]
    columns = list(dict.fromkeys(column for _, column in heads))
    rows = list(dict.fromkeys(row for row, _ in heads))
    lines = [[row, *(cells.get(f"{row}, {column}", "") for column in columns)] for row in rows]
    return BenchTable(title, ["", *columns], lines)
