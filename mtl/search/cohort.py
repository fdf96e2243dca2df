"""What a search asks of the cohort that trains its runs, wherever that is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from mtl.train import Evaluation, Member, Result


class SearchCohort(Protocol):
    """Members of one benchmark that are trained together. A member's index is its place in the order in which they
    came.
    """

    def advance(self, steps: int, should_stop: Callable[[], bool]) -> None:
        """Make `steps` optimizer steps with every member. `should_stop` is asked now and then, and may raise to end
        it.
        """

    def evaluate(self) -> Sequence[Evaluation]:
        """How each member does on validation data, in order."""

    def remember(self, numbers: Sequence[int]) -> None:
        """Keep a copy of the present parameters of these members as their best."""

    def exploit(self, sources: Mapping[int, int], keeping: Collection[int] = ()) -> None:
        """Give members the state of others.

        Args:
            sources: by index of each member that changes, the index of the member whose state it gets.
            keeping: those of them that keep their own best parameters; the others get the best of their source.
        """

    def replace(self, changes: Mapping[int, Member]) -> None:
        """Give the members at these indices other values; their state stays."""

    def keep(self, indices: Sequence[int]) -> None:
        """End all members but those at these indices, which are numbered anew in this order."""

    def add(self, members: Sequence[Member]) -> None:
        """Begin new members, after those that are there."""

    def results(self, folds: int = 0) -> Sequence[Result | None]:
        """What the training of each member came to; None for one that is being trained just now.

        `folds` is as in `mtl.train.Cohort.results`.
        """

    def weights(self, number: int) -> dict[str, Any]:
        """The best parameters and buffers of one member, by name."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, for a checkpoint."""

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Go on from what `state_dict` returned."""


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
    """A cohort whose members are trained in several places."""

    @property
    def shards(self) -> int:
        """The number of shards that members are spread over, those without members included."""
        ...

    def places(self) -> Sequence[Place]:
        """The shards that have members, and what they do just now."""


@runtime_checkable
class Learning(Protocol):
    """A cohort that says how far the losses of its members are that learn before training."""

    @property
    def learning(self) -> tuple[int, int] | None:
        """While they do, how many of their steps were made, and how many there are in all."""
        ...


@runtime_checkable
class Arriving(Protocol):
    """A cohort whose shards do not wait for each other.

    While a shard is being trained, its members cannot be changed and have no results. They are saved, and taken over,
    as they were before that training began.
    """

    def arrivals(self, steps: int, should_stop: Callable[[], bool]) -> Mapping[int, Evaluation]:
        """Start to train each shard that is at rest for `steps` steps, then wait until some shard is done.

        Returns the evaluations of the members of the shards that are done, by index. While it waits it asks
        `should_stop`, which may raise.
        """


#: Makes a cohort of new members.
MakeCohort = Callable[[Sequence[Member]], SearchCohort]
