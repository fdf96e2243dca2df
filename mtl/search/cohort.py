"""What a search asks of the population that it drives."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from mtl.train import Evaluation, Member, Result


class SearchCohort(Protocol):
    """Members of one benchmark that are trained together; `advance` asks `should_stop`, which may raise, as it goes."""

    def advance(self, steps: int, should_stop: Callable[[], bool]) -> None: ...
    def evaluate(self) -> Sequence[Evaluation]: ...
    def remember(self, numbers: Sequence[int]) -> None: ...
    def exploit(self, sources: Mapping[int, int], keeping: Collection[int] = ()) -> None: ...
    def replace(self, changes: Mapping[int, Member]) -> None: ...
    def keep(self, indices: Sequence[int]) -> None: ...
    def add(self, members: Sequence[Member]) -> None: ...
    def results(self) -> Sequence[Result | None]: ...
    def weights(self, number: int) -> dict[str, Any]: ...
    def state_dict(self) -> dict[str, Any]: ...
    def load_state_dict(self, saved: dict[str, Any]) -> None: ...


class Place(NamedTuple):
    """A part of a cohort that is trained in one place.

    Attributes:
        where: the address of the node.
        members: their numbers.
        state: what they do, in a word.
    """

    where: str
    members: tuple[int, ...]
    state: str


@runtime_checkable
class Scattered(Protocol):
    """A cohort that is trained in several places."""

    @property
    def shards(self) -> int:
        """How many there are to spread members over, the empty ones included."""
        ...

    def places(self) -> Sequence[Place]: ...


@runtime_checkable
class Arriving(Protocol):
    """A cohort in parts that do not wait for each other.

    Parts on their way: their members cannot be changed, have no results yet, and are sources and saved as they were
    when they set out.
    """

    def arrivals(self, steps: int, should_stop: Callable[[], bool]) -> Mapping[int, Evaluation]:
        """Let all parts make so many steps that are not on their way, and wait for some; their members' evaluations.

        While it waits it asks `should_stop`, which may raise.
        """


#: Makes a cohort of new members.
MakeCohort = Callable[[Sequence[Member]], SearchCohort]
