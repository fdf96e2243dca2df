"""The cohort of a search's living runs, which comes and goes with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mtl.search.cohort import Arriving, Learning, MakeCohort, Place, Scattered, SearchCohort
from mtl.search.takeover import Takeover
from mtl.train import Evaluation, Member, Result


class LivingRuns:
    """Trains the runs of a search that are alive. Its indices are places in `Standing.living`.

    There is a cohort from the first run's beginning to the last one's end, and none otherwise.

    Args:
        make_cohort: makes the cohort.
    """

    def __init__(self, make_cohort: MakeCohort) -> None:
        self._make_cohort = make_cohort
        self._made: SearchCohort | None = None

    @property
    def places(self) -> Sequence[Place] | None:
        """Where the runs are trained; None where that is this process."""
        return self._made.places() if isinstance(self._made, Scattered) else None

    @property
    def shards(self) -> int | None:
        """The number of shards that the runs are spread over; None where there is one only, wherever it is."""
        shards = self._made.shards if isinstance(self._made, Scattered) else 1
        return shards if shards > 1 else None

    @property
    def learning(self) -> tuple[int, int] | None:
        """While losses learn before training, their steps made and all."""
        return self._made.learning if isinstance(self._made, Learning) else None

    def begin(self, members: Sequence[Member]) -> None:
        """Begin new runs, after those that are alive."""
        if self._made is not None:
            self._made.add(members)
        elif members:
            self._made = self._make_cohort(members)

    def train(self, steps: int, should_stop: Callable[[], bool], *, wait: bool) -> Mapping[int, Evaluation]:
        """Make `steps` optimizer steps with each run, then evaluate it.

        Args:
            steps: optimizer steps.
            should_stop: asked now and then; may raise.
            wait: whether to wait for all runs. Otherwise a cohort whose shards need not wait gives those that are done
                first.

        Returns:
            Evaluations by index of the run.
        """
        if not wait and isinstance(self._made, Arriving):
            return self._made.arrivals(steps, should_stop)
        self._cohort.advance(steps, should_stop)
        return dict(enumerate(self._cohort.evaluate()))

    def remember(self, indices: Sequence[int]) -> None:
        """Keep a copy of the present parameters of these runs as their best."""
        if indices:
            self._cohort.remember(indices)

    def results(self, folds: int = 0) -> Sequence[Result | None]:
        """What the training of each run came to; None for one that is being trained just now."""
        return self._cohort.results(folds)

    def weights(self, index: int) -> dict[str, Any]:
        """The best parameters and buffers of one run, by name."""
        return self._cohort.weights(index)

    def keep(self, indices: Sequence[int], of: int) -> None:
        """End all runs but these.

        Args:
            indices: of the runs that go on.
            of: the number of runs there are.
        """
        if not indices:
            self._made = None
        elif len(indices) < of:
            self._cohort.keep(indices)

    def take_over(self, change: Takeover) -> None:
        """Carry out what a decision changes."""
        if change.members:
            self._cohort.exploit(change.sources, change.keeping)
            self._cohort.replace(change.members)

    def state_dict(self) -> dict[str, Any] | None:
        """The state of the cohort, for a checkpoint; None where no run is alive."""
        return None if self._made is None else self._made.state_dict()

    def load_state_dict(self, members: Sequence[Member], saved: Any) -> None:
        """Go on from what `state_dict` returned, with the members as they were then."""
        self._made = self._make_cohort(members) if members else None
        if self._made is not None:
            self._made.load_state_dict(saved)

    @property
    def _cohort(self) -> SearchCohort:
        assert self._made is not None, "a search without living runs trains nothing"
        return self._made
