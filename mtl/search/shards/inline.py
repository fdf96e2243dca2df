"""Shards that are trained in this process, one after another. Where a shard is trained changes nothing but the time."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from mtl.search.shards.sharded import ShardedCohort
from mtl.train import Member

#: Makes the `Cohort` of one shard, or what behaves as one.
MakeShard = Callable[[Sequence[Member]], Any]


@dataclass(frozen=True)
class FinishedCall:
    """A call that is over, and what it returned."""

    returned: Any
    shard: int = -1


class InlineHosts:
    """Hosts of shards in this process.

    Args:
        make: makes the cohort of a shard from its members.
        shards: the number of shards.
        arrivals: for shards that do not wait for each other: in order, the members whose shards come to the end of an
            interval together.
    """

    def __init__(self, make: MakeShard, shards: int, arrivals: Sequence[frozenset[int]] = ()) -> None:
        self._make, self.shards = make, shards
        self._arrivals: Iterator[frozenset[int]] = iter(arrivals)
        self._cohorts: dict[int, Any] = {}
        self._members: dict[int, int] = {}

    def cohort(self, members: Sequence[Member], tell: Callable[[str], None]) -> ShardedCohort:
        """A sharded cohort on these hosts. The members in `arrivals` are those it begins with, by number."""
        made = ShardedCohort(self, members, tell)
        self._members = {number: shard for shard, place in enumerate(made.places()) for number in place.members}
        return made

    def make(self, shard: int, members: Sequence[Member], saved: Mapping[str, Any] | None = None) -> FinishedCall:
        """Make a shard."""
        self._cohorts[shard] = self._make(members)
        if saved is not None:
            self._cohorts[shard].load_state_dict(saved)
        return FinishedCall([])

    def drop(self, shard: int) -> FinishedCall:
        """Forget a shard."""
        del self._cohorts[shard]
        return FinishedCall(None)

    def call(self, shard: int, method: str, *arguments: Any, **options: Any) -> FinishedCall:
        """Call a method of the shard's cohort."""
        returned = getattr(self._cohorts[shard], method)(*arguments, **options)
        # Elsewhere a state is sent from process to process; here it would change as the shard is trained on.
        return FinishedCall(copy.deepcopy(returned) if method == "state_dict" else returned)

    def train(self, shard: int, steps: int) -> FinishedCall:
        """Train a shard and evaluate its members."""
        self._cohorts[shard].advance(steps)
        return FinishedCall(self._cohorts[shard].evaluate(), shard)

    def extracted(self, shard: int, saved: Mapping[str, Any], number: int) -> FinishedCall:  # noqa: ARG002
        """Take one member out of a saved shard."""
        cohort = self._make([Member(**saved["members"][number])])
        cohort.load_state_dict(saved)
        return FinishedCall(cohort.extract(number))

    def gather(self, calls: Sequence[FinishedCall]) -> list[Any]:
        """What the calls returned."""
        return [call.returned for call in calls]

    def done(self, calls: Sequence[FinishedCall]) -> list[int]:
        """The places of the calls that are over: all calls but, of those that train, the ones whose turn has come."""
        if any(call.shard < 0 for call in calls):
            return list(range(len(calls)))
        arrived = next(self._arrivals, None)
        if arrived is None:
            raise ValueError("its files do not say in which order its shards came to the ends of intervals")
        here = {self._members[number] for number in arrived}
        return [place for place, call in enumerate(calls) if call.shard in here]

    def where(self, shard: int) -> str:  # noqa: ARG002
        """The address of the shard's node."""
        return "here"
