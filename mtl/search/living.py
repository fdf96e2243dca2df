"""The cohort of a search's living runs, which comes and goes with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mtl.search.cohort import Arriving, MakeCohort, Place, Scattered, SearchCohort
from mtl.search.takeover import Takeover
from mtl.train import Evaluation, Member, Result


class LivingRuns:
    """Trains the living runs of a search, in the order of `Standing.living`; nothing while there are none.

    Args:
        make_cohort: makes the cohort when the first runs begin.
    """

    def __init__(self, make_cohort: MakeCohort) -> None:
        self._make_cohort = make_cohort
        self._made: SearchCohort | None = None

    @property
    def places(self) -> Sequence[Place] | None:
        """Where the runs are trained; None if it is in this process."""
        return self._made.places() if isinstance(self._made, Scattered) else None

    @property
    def shards(self) -> int | None:
        """In how many shards they are trained; None where they are one program, wherever that is."""
        shards = self._made.shards if isinstance(self._made, Scattered) else 1
        return shards if shards > 1 else None

    def begin(self, members: Sequence[Member]) -> None:
        """Runs begin."""
        if self._made is not None:
            self._made.add(members)
        elif members:
            self._made = self._make_cohort(members)

    def train(self, steps: int, should_stop: Callable[[], bool], *, wait: bool) -> Mapping[int, Evaluation]:
        """Make so many steps with each run and evaluate them; the evaluations by index.

        Args:
            steps: optimizer steps.
            should_stop: asked as it goes; may raise.
            wait: for all runs. Otherwise only those come back that are there first, where the cohort can do so.
        """
        if not wait and isinstance(self._made, Arriving):
            return self._made.arrivals(steps, should_stop)
        self._cohort.advance(steps, should_stop)
        return dict(enumerate(self._cohort.evaluate()))

    def remember(self, indices: Sequence[int]) -> None:
        """The present parameters of these are their best."""
        if indices:
            self._cohort.remember(indices)

    def results(self) -> Sequence[Result | None]:
        """What the training of each came to; None for those on their way."""
        return self._cohort.results()

    def weights(self, index: int) -> dict[str, Any]:
        """The parameters of a run's best evaluation."""
        return self._cohort.weights(index)

    def keep(self, indices: Sequence[int], of: int) -> None:
        """All runs but these end.

        Args:
            indices: of those that go on.
            of: how many there are.
        """
        if not indices:
            self._made = None
        elif len(indices) < of:
            self._cohort.keep(indices)

    def take_over(self, change: Takeover) -> None:
        """Runs take over others and go on with other values."""
        if change.members:
            self._cohort.exploit(change.sources, change.keeping)
            self._cohort.replace(change.members)

    def state_dict(self) -> dict[str, Any] | None:
        """The state of the cohort, if there is one."""
        return None if self._made is None else self._made.state_dict()

    def load_state_dict(self, members: Sequence[Member], saved: Any) -> None:
        """Go on from `state_dict`, with the members as they were then."""
        self._made = self._make_cohort(members) if members else None
        if self._made is not None:
            self._made.load_state_dict(saved)

    @property
    def _cohort(self) -> SearchCohort:
        assert self._made is not None, "a search without living runs trains nothing"
        return self._made
