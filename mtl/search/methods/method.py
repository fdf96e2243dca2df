"""What a search method is. It starts runs, is told how they do after each segment, and decides what changes."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from mtl.search.objective import Scores
from mtl.search.options import MethodOptions
from mtl.search.space import Space, Values
from mtl.search.space.parameters import Generator


@dataclass(frozen=True)
class Problem:
    """What a method knows of the search before it starts.

    Attributes:
        space: what varies.
        length: optimizer steps of a whole run.
        interval: optimizer steps from one decision to the next.
        seed: of the search; all of the method's choices follow from it.
        objectives: the number of objectives.
    """

    space: Space
    length: int
    interval: int
    seed: int
    objectives: int = 1

    def rng(self, *place: int) -> Generator:
        """A new generator of random numbers for one choice.

        It is a function of the seed and of `place`, numbers that no other choice has. So there is no generator to save.
        """
        return np.random.default_rng([self.seed, *place])


@dataclass(frozen=True)
class Start:
    """A run that is to begin.

    Attributes:
        values: its values.
        seed: its seed; see `Method.seed_of` where it is None.
        informed: whether its values were proposed by a model that knew scores of other runs; None for a method that has
            no
            model.
    """

    values: Values
    seed: int | None = None
    informed: bool | None = None


@dataclass(frozen=True)
class Report:
    """How one living run does at the end of a segment.

    Attributes:
        trial: number of the run.
        step: optimizer steps that it has made.
        values: its values.
        scores: its objectives now; -inf where it is not finite any more.
        finished: whether it has come to its end.
        kept: the objectives of its best evaluation so far, with which it will be recorded; `scores` where not given.
    """

    trial: int
    step: int
    values: Values
    scores: Scores
    finished: bool
    kept: Scores = ()

    @property
    def yielded(self) -> Scores:
        """What the run was worth, once it has ended: the objectives of its best evaluation, or -inf if it broke."""
        return self.scores if self.broken or not self.kept else self.kept

    @property
    def score(self) -> float:
        """The first objective, for methods that have one only."""
        return self.scores[0]

    @property
    def broken(self) -> bool:
        """Whether the run is not finite any more."""
        return not all(map(math.isfinite, self.scores))


@dataclass(frozen=True)
class Exploit:
    """Run `target` goes on from the state of run `source`, with `values`."""

    target: int
    source: int
    values: Values


@dataclass(frozen=True)
class Decision:
    """What changes before the next segment. Runs that have come to their end need not be named.

    Attributes:
        exploits: runs that take over others.
        stop: numbers of runs that end early.
        start: runs that begin.
        changes: other values by number of the run, for runs that keep their state.
    """

    exploits: Sequence[Exploit] = ()
    stop: frozenset[int] = frozenset()
    start: Sequence[Start] = ()
    changes: Mapping[int, Values] = field(default_factory=dict)


class Method(ABC):
    """A search method.

    A search is over when no run is alive and `decide` starts none. A method draws random numbers from
    `problem.rng(...)` only, so equal seeds make equal searches. All that it remembers is in `state_dict`.

    Args:
        problem: what it knows of the search.
        options: how the search is run.

    Raises:
        ValueError: the options do not fit the method; one line.
    """

    name: ClassVar[str]
    about: ClassVar[str]
    #: It can pursue several objectives at once.
    several: ClassVar[bool] = False
    #: MethodOptions of `SPECIAL` that it heeds.
    hears: ClassVar[frozenset[str]] = frozenset()
    #: Members that it takes at least.
    fewest: ClassVar[int] = 1
    #: Waves of runs, one after another, that it makes unless it is told how many trials there are.
    waves: ClassVar[int] = 1
    #: All runs have the seed of the search, so that what differs between them are their values: they begin with equal
    #: parameters and see equal batches. Otherwise run n has the seed of the search plus n.
    shares_seed: ClassVar[bool] = True
    #: A run that takes over another loses its own best evaluation, even if that is the better one.
    forgets: ClassVar[bool] = False
    #: Runs take over the parameters of others, and it trains the runs that it began with and no others.
    copies: ClassVar[bool] = False
    #: It can decide on some of the living runs while others are being trained.
    waits: ClassVar[bool] = True

    def __init__(self, problem: Problem, options: MethodOptions) -> None:
        if options.asynchronous and self.waits:
            raise ValueError(f"--asynchronous: {self.name} decides on all runs together; pbt can do without")
        if options.members < self.fewest:
            raise ValueError(f"--members {options.members}: {self.name} needs at least {self.fewest}")
        if self.copies and options.trials not in (None, options.members):
            raise ValueError(f"--trials {options.trials}: {self.name} trains its members and no others")
        self.problem, self.options, self.space = problem, options, problem.space
        self.trials = options.trials if options.trials is not None else self.waves * options.members

    @classmethod
    def members_for(cls, trials: int) -> int:
        """The usual number of members where only the number of trials is given."""
        return max(cls.fewest, 2, trials // cls.waves)

    @abstractmethod
    def begin(self) -> list[Start]:
        """The runs that begin first."""

    def more(self) -> list[Start]:
        """The runs that begin where a search was over and is gone on with, since it may have more trials now."""
        return []

    def seed_of(self, number: int, start: Start) -> int:
        """The seed of a run: that of its `Start` or, where it has none, the one that `shares_seed` tells."""
        own = self.problem.seed + (0 if self.shares_seed else number)
        return own if start.seed is None else start.seed

    def decide(self, reports: Sequence[Report]) -> Decision:  # noqa: ARG002
        """Decide what changes before the next segment.

        Args:
            reports: of all living runs, in order of their numbers. Where shards do not wait for each other, of the runs
                of
                those shards alone that have just come to the end of a segment.
        """
        return Decision()

    @property
    def work(self) -> int:
        """Optimizer steps of all runs together, for the progress bar. Where runs may be stopped early it is an upper
        bound.
        """
        return self.trials * self.problem.length

    @property
    def expected_work(self) -> float:
        """Optimizer steps of all runs together as they usually come to be, where `work` is only a bound."""
        return self.work

    def state_dict(self) -> dict[str, Any]:
        """All that the method remembers, as plain values for a checkpoint."""
        return {}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:  # noqa: B027
        """Go on from what `state_dict` returned."""


def random_starts(problem: Problem, count: int, first: int = 0) -> list[Start]:
    """Runs whose values are drawn at random. Under one seed they are the same for every method.

    Args:
        problem: has the space and the seed.
        count: the number of runs.
        first: the number of the first of them.
    """
    return [Start(problem.space.sample(problem.rng(0, number))) for number in range(first, first + count)]


def make_options(method: type[Method], given: Mapping[str, Any]) -> MethodOptions:
    """The options of a method from those that were given.

    Where the number of trials is given and that of members is not, a method that learns gets several waves of runs.
    """
    if "members" not in given and given.get("trials") is not None:
        members = min(method.members_for(given["trials"]), MethodOptions().members)
        return MethodOptions(**{**given, "members": max(1, members)})
    return MethodOptions(**given)
