"""What a search method is: it starts trials, hears how they do after each segment, and decides what changes."""

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
    """What a method is told about the search before it starts.

    Attributes:
        space: what varies.
        length: steps of a whole run.
        interval: steps from one decision to the next.
        seed: all of a method's choices follow from it.
        objectives: how many there are.
    """

    space: Space
    length: int
    interval: int
    seed: int
    objectives: int = 1

    def rng(self, *place: int) -> Generator:
        """A generator for one choice: without a state, so that nothing has to be saved."""
        return np.random.default_rng([self.seed, *place])


@dataclass(frozen=True)
class Start:
    """A run to begin.

    Attributes:
        seed: that of the method when not given.
        informed: whether the values were proposed by what is known of the scores of other runs; None for a method that
            proposes none.
    """

    values: Values
    seed: int | None = None
    informed: bool | None = None


@dataclass(frozen=True)
class Report:
    """How one living run does, at the end of a segment.

    Attributes:
        scores: of its present state.
        kept: scores of the best evaluation so far, which is what the run is recorded with; those of the present state
            when not given.
    """

    trial: int
    step: int
    values: Values
    scores: Scores
    finished: bool
    kept: Scores = ()

    @property
    def yielded(self) -> Scores:
        """What the run is worth now that it has ended: its best evaluation, nothing if it broke."""
        return self.scores if self.broken or not self.kept else self.kept

    @property
    def score(self) -> float:
        """The objective, for methods that have one."""
        return self.scores[0]

    @property
    def broken(self) -> bool:
        """Whether it is not finite any more."""
        return not all(map(math.isfinite, self.scores))


@dataclass(frozen=True)
class Exploit:
    """`target` continues with the state of `source`, and with `values`."""

    target: int
    source: int
    values: Values


@dataclass(frozen=True)
class Decision:
    """What changes before the next segment; runs that finished end without being named."""

    exploits: Sequence[Exploit] = ()
    stop: frozenset[int] = frozenset()
    start: Sequence[Start] = ()
    changes: Mapping[int, Values] = field(default_factory=dict)


class Method(ABC):
    """A search method.

    A search is over when no run is alive and `decide` starts none. Methods draw from `problem.rng(...)` only, so equal
    seeds make equal searches; what they remember is in `state_dict`.
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
    #: It can decide on some of the living runs while others are being trained.
    waits: ClassVar[bool] = True

    def __init__(self, problem: Problem, options: MethodOptions) -> None:
        if options.asynchronous and self.waits:
            raise ValueError(f"--asynchronous: {self.name} decides on all runs together; pbt can do without")
        if options.members < self.fewest:
            raise ValueError(f"--members {options.members}: {self.name} needs at least {self.fewest}")
        self.problem, self.options, self.space = problem, options, problem.space
        self.trials = options.trials if options.trials is not None else self.waves * options.members

    @classmethod
    def members_for(cls, trials: int) -> int:
        """How many members to train side by side where only the number of trials is known."""
        return max(cls.fewest, 2, trials // cls.waves)

    @abstractmethod
    def begin(self) -> list[Start]:
        """The first runs."""

    def more(self) -> list[Start]:
        """The next runs of a search that was over, and now has more trials."""
        return []

    def seed_of(self, number: int, start: Start) -> int:
        """The seed of the run with this number, see `shares_seed`, unless it is given."""
        own = self.problem.seed + (0 if self.shares_seed else number)
        return own if start.seed is None else start.seed

    def decide(self, reports: Sequence[Report]) -> Decision:  # noqa: ARG002
        """What follows from the reports of all living runs, in order of their numbers; of those that are not being
        trained, where the search is asynchronous.
        """
        return Decision()

    @property
    def work(self) -> int:
        """Steps of all runs together, for the progress bar; an upper bound where runs may be stopped."""
        return self.trials * self.problem.length

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:  # noqa: B027
        """Continue from `state_dict`."""


def random_starts(problem: Problem, count: int, first: int = 0) -> list[Start]:
    """Points drawn at random for runs from number `first` on; the same for every method under one seed."""
    return [Start(problem.space.sample(problem.rng(0, number))) for number in range(first, first + count)]


def make_options(method: type[Method], given: Mapping[str, Any]) -> MethodOptions:
    """The options of a method from those that were given.

    Where only the number of trials is known, the number of members leaves several waves to a method that learns.
    """
    if "members" not in given and given.get("trials") is not None:
        members = min(method.members_for(given["trials"]), MethodOptions().members)
        return MethodOptions(**{**given, "members": max(1, members)})
    return MethodOptions(**given)
