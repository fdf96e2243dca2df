"""A cohort in shards, each trained by a process somewhere, which a search drives as it drives one on this device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol

from mtl.search.cohort import Place
from mtl.search.shards.placement import Placement
from mtl.train import Evaluation, Member, Result
from mtl.train.cohort import check_state


class ShardLost(Exception):
    """A process that trained a shard is gone, and all that happened since the last checkpoint with it."""


class HostFailed(Exception):
    """A process that is to train shards cannot be made: another attempt would end like this one."""


class Hosts(Protocol):
    """Processes that train shards; `call` starts a call and gives what `gather` and `done` wait for."""

    shards: int

    def call(self, shard: int, method: str, *arguments: Any, **options: Any) -> Any: ...
    def make(self, shard: int, members: Sequence[Member], saved: Mapping[str, Any] | None = None) -> Any: ...
    def drop(self, shard: int) -> Any: ...
    def train(self, shard: int, steps: int) -> Any: ...
    def extracted(self, shard: int, saved: Mapping[str, Any], number: int) -> Any: ...
    def gather(self, calls: Sequence[Any]) -> list[Any]: ...
    def done(self, calls: Sequence[Any]) -> list[int]: ...  # may be none after a moment, to be asked again
    def where(self, shard: int) -> str: ...


#: What a shard does while a method of its cohort is called.
_DOING = {"advance": "training", "evaluate": "evaluating", "results": "testing", "state_dict": "saving"}
_IDLE = "waiting"


def _never() -> bool:
    return False


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
        self._placement = Placement()
        self._states: dict[int, str] = {}
        #: Shards on their way, the calls that they are in, and how they set out. Only where `arrivals` is used.
        self._going: dict[int, Any] = {}
        self._before: dict[int, dict[str, Any]] = {}
        self.add(members)

    @property
    def shards(self) -> int:
        """How many there are to spread members over, the empty ones included."""
        return self._hosts.shards

    def places(self) -> list[Place]:
        """The shards as they are now; may be asked from another thread at any time."""
        placement, states = self._placement, dict(self._states)
        return [
            Place(self._hosts.where(shard), tuple(sorted(numbers)), states.get(shard, _IDLE))
            for shard, numbers in placement.members.items()
        ]

    def advance(self, steps: int, should_stop: Callable[[], bool] = _never) -> None:
        """Make so many optimizer steps with every member; `should_stop` is asked while it waits, and raises if so."""
        self._everywhere("advance", steps, should_stop=should_stop)

    def arrivals(self, steps: int, should_stop: Callable[[], bool] = _never) -> dict[int, Evaluation]:
        """Let all shards make so many steps that are not on their way, and wait for some; their members' evaluations.

        A shard on its way cannot be changed and has no results. It is saved, and is a source, as it was when it set
        out. `should_stop` is asked while it waits, and raises if so.
        """
        if not self._before:
            self._before = self._saved()
        shards = [shard for shard in self._placement.occupied if shard not in self._going]
        self._going |= {shard: self._hosts.train(shard, steps) for shard in shards}
        self._states = dict.fromkeys(self._going, "training")
        shards = list(self._going)
        while not (over := [shards[place] for place in self._hosts.done(list(self._going.values()))]):
            should_stop()
        found = dict(zip(over, self._hosts.gather([self._going.pop(shard) for shard in over]), strict=True))
        self._states = {**self._states, **dict.fromkeys(over, _IDLE)}
        places = enumerate(self._placement.places)
        return {index: found[shard][number] for index, (shard, number) in places if shard in found}

    def evaluate(self) -> list[Evaluation]:
        """Each member on validation data."""
        return self._in_order(self._everywhere("evaluate"))

    def results(self) -> list[Result | None]:
        """The result of each member; None for those on their way."""
        return self._in_order(self._everywhere("results"))

    def remember(self, numbers: Sequence[int]) -> None:
        """The present state of these members, evaluated just now, is their best."""
        here = self._placement.apart(numbers)
        self._hosts.gather([self._hosts.call(shard, "remember", some) for shard, some in here.items()])

    def weights(self, number: int) -> dict[str, Any]:
        """The parameters and buffers of one member's best evaluation, by name."""
        found: dict[str, Any] = self._hosts.gather([self._at(number, "weights")])[0]
        return found

    def exploit(self, sources: Mapping[int, int], keeping: Collection[int] = ()) -> None:
        """Give each target member the state of its source member; all sources are read before any target is written.

        Those in `keeping` keep their own best evaluation.
        """
        places = self._placement.places
        near: dict[int, dict[int, int]] = {}
        kept: dict[int, list[int]] = {}
        far: dict[int, int] = {}
        for target, source in sources.items():
            (to_shard, to_number), (from_shard, from_number) = places[target], places[source]
            if to_shard == from_shard:
                near.setdefault(to_shard, {})[to_number] = from_number
                kept.setdefault(to_shard, []).extend([to_number] if target in keeping else [])
            else:
                far[target] = source
        taken = self._hosts.gather([self._taken(source, target) for target, source in far.items()])
        self._hosts.gather([self._hosts.call(shard, "exploit", pairs, kept[shard]) for shard, pairs in near.items()])
        self._hosts.gather(
            [
                self._at(target, "adopt", state, best=target not in keeping)
                for target, state in zip(far, taken, strict=True)
            ]
        )

    def replace(self, changes: Mapping[int, Member]) -> None:
        """Change members."""
        here: dict[int, dict[int, Member]] = {}
        for number, member in changes.items():
            shard, place = self._placement.places[number]
            here.setdefault(shard, {})[place] = member
        self._hosts.gather([self._hosts.call(shard, "replace", some) for shard, some in here.items()])

    def keep(self, indices: Sequence[int]) -> None:
        """Drop all members but those at `indices`, which are numbered anew in that order."""
        before, left = self._placement.members, self._placement.apart(indices)
        self._hosts.gather(
            [
                self._hosts.call(shard, "keep", left[shard]) if shard in left else self._hosts.drop(shard)
                for shard, numbers in before.items()
                if left.get(shard) != list(range(len(numbers)))
            ]
        )
        self._placement = self._placement.kept(indices)

    def add(self, members: Sequence[Member]) -> None:
        """New members, each into the shard that has the fewest."""
        occupied, shards = self._placement.occupied, self._placement.spread(len(members), self._hosts.shards)
        self._placement = self._placement.added(shards)
        new: dict[int, list[Member]] = {}
        for member, shard in zip(members, shards, strict=True):
            new.setdefault(shard, []).append(member)
        calls = [
            self._hosts.call(shard, "add", some) if shard in occupied else self._hosts.make(shard, some)
            for shard, some in new.items()
        ]
        self._say(self._hosts.gather(calls))

    def state_dict(self) -> dict[str, Any]:
        """That of a `Cohort` with the same members, and of each group its shard."""
        states = self._saved()
        if self._before:
            self._before = states
        numbers = {place: number for number, place in enumerate(self._placement.places)}
        return {
            "members": [states[shard]["members"][place] for shard, place in self._placement.places],
            "groups": [
                {**group, "ids": [numbers[shard, place] for place in group["ids"]], "shard": shard}
                for shard, state in states.items()
                for group in state["groups"]
            ],
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`, with as many shards as there were then; or from that of a `Cohort`, evenly."""
        check_state(saved)
        self._hosts.gather([self._hosts.drop(shard) for shard in self._placement.occupied])
        shards = {number: group["shard"] for group in saved["groups"] if "shard" in group for number in group["ids"]}
        whole = not shards
        if whole:
            shards = {number: number % self._hosts.shards for number in range(len(saved["members"]))}
        self._hosts.shards = max(self._hosts.shards, *(shard + 1 for shard in shards.values()))
        self._placement = Placement.of(shards)
        inside = self._placement.members
        states = {shard: saved if whole else _inside(saved, shard, numbers) for shard, numbers in inside.items()}
        # The members are in the state; one of them is enough to make a cohort that loads it.
        made = [
            self._hosts.make(shard, [Member(**state["members"][0])], state) for shard, state in sorted(states.items())
        ]
        self._hosts.gather(made)
        if whole:
            self._hosts.gather([self._hosts.call(shard, "keep", numbers) for shard, numbers in inside.items()])

    def _saved(self) -> dict[int, Any]:
        now = self._everywhere("state_dict")
        return {
            shard: self._before[shard] if shard in self._going else now[shard] for shard in self._placement.occupied
        }

    def _taken(self, source: int, target: int) -> Any:
        """Start to extract a member of another shard."""
        shard, number = self._placement.places[source]
        if shard not in self._going:
            return self._at(source, "extract")
        return self._hosts.extracted(self._placement.places[target][0], self._before[shard], number)

    def _everywhere(self, method: str, *arguments: Any, should_stop: Callable[[], bool] = _never) -> dict[int, Any]:
        """Call a method of all shards that are not on their way."""
        shards = [shard for shard in self._placement.occupied if shard not in self._going]
        calls = {shard: self._hosts.call(shard, method, *arguments) for shard in shards}
        self._states = {**self._states, **dict.fromkeys(shards, _DOING[method])}
        going = list(shards)
        while going:
            over = [going[place] for place in self._hosts.done([calls[shard] for shard in going])]
            if not over:
                should_stop()
            self._states = {**self._states, **dict.fromkeys(over, _IDLE)}
            going = [shard for shard in going if shard not in over]
        return dict(zip(shards, self._hosts.gather([calls[shard] for shard in shards]), strict=True))

    def _at(self, index: int, method: str, *arguments: Any, **options: Any) -> Any:
        shard, number = self._placement.places[index]
        return self._hosts.call(shard, method, number, *arguments, **options)

    def _in_order(self, found: Mapping[int, Sequence[Any]]) -> list[Any]:
        return [found[shard][number] if shard in found else None for shard, number in self._placement.places]

    def _say(self, told: Sequence[list[str] | None]) -> None:
        for text in dict.fromkeys(itertools.chain.from_iterable(some or [] for some in told)):
            self._tell(text)


def _inside(saved: Mapping[str, Any], shard: int, numbers: Sequence[int]) -> dict[str, Any]:
    """The state of one shard, whose members have these numbers."""
    groups = [group for group in saved["groups"] if group["shard"] == shard]
    return {
        "members": [saved["members"][number] for number in numbers],
        "groups": [{**group, "ids": [numbers.index(number) for number in group["ids"]]} for group in groups],
    }
