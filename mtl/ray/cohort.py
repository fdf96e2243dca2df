"""A population in shards on the nodes of a Ray cluster, which a search drives as it drives one on this device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from mtl.population import Evaluation, Member
from mtl.train import Result


class ShardLost(Exception):
    """A process that trained a shard is gone, and all that happened since the last checkpoint with it."""


class Hosts(Protocol):
    """Processes that train shards; `call` starts a call and gives what `gather` waits for."""

    shards: int

    def call(self, shard: int, method: str, *arguments: Any) -> Any: ...
    def make(self, shard: int, members: Sequence[Member], saved: Mapping[str, Any] | None = None) -> Any: ...
    def drop(self, shard: int) -> Any: ...
    def gather(self, calls: Sequence[Any]) -> list[Any]: ...


class ShardedCohort:
    """Members spread evenly over shards; each shard is a `Cohort` of its own and all train at the same time.

    Which shard a member is in changes nothing but rounding: it takes part in exploits across shards, its state then
    travels through this process.

    Args:
        hosts: train the shards.
        members: at least one.
        tell: called with what a user should know.
    """

    def __init__(self, hosts: Hosts, members: Sequence[Member], tell: Callable[[str], None]) -> None:
        self._hosts, self._tell = hosts, tell
        #: Of each member its shard, and its number there.
        self._places: list[tuple[int, int]] = []
        self.add(members)

    def advance(self, steps: int) -> None:
        """Make so many optimizer steps with every member."""
        self._everywhere("advance", steps)

    def evaluate(self) -> list[Evaluation]:
        """Each member on validation data."""
        return self._in_order(self._everywhere("evaluate"))

    def results(self) -> list[Result]:
        """The result of each member."""
        return self._in_order(self._everywhere("results"))

    def exploit(self, sources: Mapping[int, int]) -> None:
        """Give each target member the state of its source member; all sources are read before any target is written."""
        near: dict[int, dict[int, int]] = {}
        far: dict[int, int] = {}
        for target, source in sources.items():
            (to_shard, to_number), (from_shard, from_number) = self._places[target], self._places[source]
            if to_shard == from_shard:
                near.setdefault(to_shard, {})[to_number] = from_number
            else:
                far[target] = source
        taken = self._hosts.gather([self._at(source, "extract") for source in far.values()])
        self._hosts.gather([self._hosts.call(shard, "exploit", pairs) for shard, pairs in near.items()])
        self._hosts.gather([self._at(target, "adopt", state) for target, state in zip(far, taken, strict=True)])

    def replace(self, changes: Mapping[int, Member]) -> None:
        """Change members."""
        here: dict[int, dict[int, Member]] = {}
        for number, member in changes.items():
            shard, place = self._places[number]
            here.setdefault(shard, {})[place] = member
        self._hosts.gather([self._hosts.call(shard, "replace", some) for shard, some in here.items()])

    def keep(self, indices: Sequence[int]) -> None:
        """Drop all members but those at `indices`, which are numbered anew in that order."""
        left: dict[int, list[int]] = {shard: [] for shard in self._occupied()}
        kept = []
        for index in indices:
            shard, number = self._places[index]
            kept.append((shard, len(left[shard])))
            left[shard].append(number)
        self._hosts.gather(
            [self._hosts.call(shard, "keep", some) if some else self._hosts.drop(shard) for shard, some in left.items()]
        )
        self._places = kept

    def add(self, members: Sequence[Member]) -> None:
        """New members, each into the shard that has the fewest."""
        sizes = [sum(shard == place for place, _ in self._places) for shard in range(self._hosts.shards)]
        new: dict[int, list[Member]] = {}
        occupied = self._occupied()
        for member in members:
            shard = sizes.index(min(sizes))
            self._places.append((shard, sizes[shard]))
            sizes[shard] += 1
            new.setdefault(shard, []).append(member)
        calls = [
            self._hosts.call(shard, "add", some) if shard in occupied else self._hosts.make(shard, some)
            for shard, some in new.items()
        ]
        self._say(self._hosts.gather(calls))

    def state_dict(self) -> dict[str, Any]:
        """That of a `Cohort` with the same members, and of each part its shard."""
        states = self._everywhere("state_dict")
        numbers = {place: number for number, place in enumerate(self._places)}
        return {
            "members": [states[shard]["members"][place] for shard, place in self._places],
            "parts": [
                {**part, "ids": [numbers[shard, place] for place in part["ids"]], "shard": shard}
                for shard, state in states.items()
                for part in state["parts"]
            ],
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`, with as many shards as there were then; or from that of a `Cohort`, evenly."""
        self._hosts.gather([self._hosts.drop(shard) for shard in self._occupied()])
        shards = {number: part["shard"] for part in saved["parts"] if "shard" in part for number in part["ids"]}
        whole = not shards
        if whole:
            shards = {number: number % self._hosts.shards for number in range(len(saved["members"]))}
        self._hosts.shards = max(self._hosts.shards, *(shard + 1 for shard in shards.values()))
        inside: dict[int, list[int]] = {}
        for number in range(len(shards)):
            inside.setdefault(shards[number], []).append(number)
        self._places = [(shards[number], inside[shards[number]].index(number)) for number in range(len(shards))]
        states = {shard: saved if whole else _inside(saved, shard, numbers) for shard, numbers in inside.items()}
        # The members are in the state; one of them is enough to make a cohort that loads it.
        made = [
            self._hosts.make(shard, [Member(**state["members"][0])], state) for shard, state in sorted(states.items())
        ]
        self._hosts.gather(made)
        if whole:
            self._hosts.gather([self._hosts.call(shard, "keep", numbers) for shard, numbers in inside.items()])

    def _occupied(self) -> list[int]:
        return sorted({shard for shard, _ in self._places})

    def _everywhere(self, method: str, *arguments: Any) -> dict[int, Any]:
        shards = self._occupied()
        found = self._hosts.gather([self._hosts.call(shard, method, *arguments) for shard in shards])
        return dict(zip(shards, found, strict=True))

    def _at(self, index: int, method: str, *arguments: Any) -> Any:
        shard, number = self._places[index]
        return self._hosts.call(shard, method, number, *arguments)

    def _in_order(self, found: Mapping[int, Sequence[Any]]) -> list[Any]:
        return [found[shard][number] for shard, number in self._places]

    def _say(self, told: Sequence[list[str] | None]) -> None:
        for text in dict.fromkeys(itertools.chain.from_iterable(some or [] for some in told)):
            self._tell(text)


def _inside(saved: Mapping[str, Any], shard: int, numbers: Sequence[int]) -> dict[str, Any]:
    """The state of one shard, whose members have these numbers."""
    parts = [part for part in saved["parts"] if part["shard"] == shard]
    return {
        "members": [saved["members"][number] for number in numbers],
        "parts": [{**part, "ids": [numbers.index(number) for number in part["ids"]]} for part in parts],
    }
