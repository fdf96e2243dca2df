"""A cohort in shards, each trained by a process somewhere. A search drives it like one in its own process."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from mtl.search.cohort import Place
from mtl.search.shards.placement import Placement
from mtl.train import Evaluation, Member, Result
from mtl.train.cohort import check_state


class ShardLost(Exception):
    """A process that trained a shard is gone, and with it all that happened since the last checkpoint."""


class HostFailed(Exception):
    """A process that is to train shards cannot be started, and another attempt would fail alike."""


class StillLearning(NamedTuple):
    """What a shard returns that was to be trained, and made a piece of what precedes the first step: it is to go on.

    Attributes:
        made: steps of losses that learn before training.
        steps: all of these.
    """

    made: int
    steps: int


class Hosts(Protocol):
    """Processes that train shards. What starts a call returns a handle of it, for `gather` and `done`."""

    shards: int

    def call(self, shard: int, method: str, *arguments: Any, **options: Any) -> Any:
        """Start to call a method of the shard's cohort."""

    def make(self, shard: int, members: Sequence[Member], saved: Mapping[str, Any] | None = None) -> Any:
        """Start to make a shard: of new members, or as it was saved."""

    def drop(self, shard: int) -> Any:
        """Start to forget a shard."""

    def train(self, shard: int, steps: int) -> Any:
        """Start to make so many steps with a shard's members, and to evaluate them; or what `StillLearning` says."""

    def extracted(self, shard: int, saved: Mapping[str, Any], number: int) -> Any:
        """Start to take one member out of a saved shard, where another shard is trained."""

    def gather(self, calls: Sequence[Any]) -> list[Any]:
        """What the calls return, once all are over."""

    def done(self, calls: Sequence[Any]) -> list[int]:  # may be none after a moment, to be asked again
        """The places of the calls that are over. Where none is after a moment the list is empty: ask again."""

    def where(self, shard: int) -> str:
        """The address of the shard's node."""


#: What a shard does while a method of its cohort is called.
_DOING = {"advance": "training", "evaluate": "evaluating", "results": "testing", "state_dict": "saving"}
_IDLE, _LEARNING = "waiting", "learning losses"


def _never() -> bool:
    return False


class ShardedCohort:
    """Members spread evenly over shards. Each shard is a `Cohort`, and all are trained at the same time.

    A member may take over one of another shard; that one's state then travels through this process. So the shard that a
    member is in changes nothing but rounding.

    Args:
        hosts: train the shards.
        members: at least one.
        tell: called with a line that the user should read.
    """

    def __init__(self, hosts: Hosts, members: Sequence[Member], tell: Callable[[str], None]) -> None:
        self._hosts, self._tell = hosts, tell
        self._placement = Placement()
        self._states: dict[int, str] = {}
        #: By shard, how far losses were that learn before training, when it last said so.
        self._learned: dict[int, StillLearning] = {}
        #: Shards on their way, the calls that they are in, and how they set out. Only where `arrivals` is used.
        self._going: dict[int, Any] = {}
        self._before: dict[int, dict[str, Any]] = {}
        self.add(members)

    @property
    def shards(self) -> int:
        """The number of shards that members are spread over, those without members included."""
        return self._hosts.shards

    def places(self) -> list[Place]:
        """The shards that have members, and what they do just now. Other threads may ask at any time."""
        placement, states = self._placement, dict(self._states)
        return [
            Place(self._hosts.where(shard), tuple(sorted(numbers)), states.get(shard, _IDLE))
            for shard, numbers in placement.members.items()
        ]

    @property
    def learning(self) -> tuple[int, int] | None:
        """While losses learn before training, how many of their steps were made, and how many there are in all."""
        found = list(self._learned.values())
        made, steps = sum(each.made for each in found), sum(each.steps for each in found)
        return (made, steps) if made < steps else None

    def advance(self, steps: int, should_stop: Callable[[], bool] = _never) -> None:
        """Make `steps` optimizer steps with every member. While it waits it asks `should_stop`, which may raise."""
        self._everywhere("advance", steps, should_stop=should_stop)
        self._learned = {}

    def arrivals(self, steps: int, should_stop: Callable[[], bool] = _never) -> dict[int, Evaluation]:
        """Train the shards that are at rest, wait until some shard is done, and return its members' evaluations; see
        `mtl.search.cohort.Arriving`.
        """
        if not self._before:
            self._before = self._saved()
        shards = [shard for shard in self._placement.occupied if shard not in self._going]
        self._going |= {shard: self._hosts.train(shard, steps) for shard in shards}
        self._states = dict.fromkeys(self._going, "training")
        found: dict[int, list[Evaluation]] = {}
        while not found:
            shards = list(self._going)
            over = [shards[place] for place in self._hosts.done(list(self._going.values()))]
            if not over:
                should_stop()
            ended = dict(zip(over, self._hosts.gather([self._going.pop(shard) for shard in over]), strict=True))
            learned = self._noted(ended)
            self._going |= {shard: self._hosts.train(shard, steps) for shard in learned}
            found = {shard: evaluations for shard, evaluations in ended.items() if shard not in learned}
        self._learned = {shard: each for shard, each in self._learned.items() if shard not in found}
        self._states = {**self._states, **dict.fromkeys(found, _IDLE)}
        places = enumerate(self._placement.places)
        return {index: found[shard][number] for index, (shard, number) in places if shard in found}

    def evaluate(self) -> list[Evaluation]:
        """Each member on validation data."""
        return self._in_order(self._everywhere("evaluate"))

    def results(self, folds: int = 0) -> list[Result | None]:
        """The result of each member; None for one that is being trained just now."""
        return self._in_order(self._everywhere("results", folds))

    def remember(self, numbers: Sequence[int]) -> None:
        """The present state of these members, evaluated just now, is their best."""
        here = self._placement.apart(numbers)
        self._hosts.gather([self._hosts.call(shard, "remember", some) for shard, some in here.items()])

    def weights(self, number: int) -> dict[str, Any]:
        """The parameters and buffers of one member's best evaluation, by name."""
        found: dict[str, Any] = self._hosts.gather([self._at(number, "weights")])[0]
        return found

    def exploit(self, sources: Mapping[int, int], keeping: Collection[int] = ()) -> None:
        """Give members the state of others, see `mtl.search.cohort.SearchCohort`. All are read before any is
        written.
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
        """Give the members at these indices other values; their state stays."""
        here: dict[int, dict[int, Member]] = {}
        for number, member in changes.items():
            shard, place = self._placement.places[number]
            here.setdefault(shard, {})[place] = member
        self._hosts.gather([self._hosts.call(shard, "replace", some) for shard, some in here.items()])

    def keep(self, indices: Sequence[int]) -> None:
        """End all members but those at these indices, which are numbered anew in this order."""
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
        """Begin new members, each in the shard that has the fewest."""
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
        """Go on from `state_dict()`, with as many shards as there were then; or from that of a `Cohort`, spread
        evenly.
        """
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
        going, ended = list(shards), dict[int, Any]()
        while going:
            over = [going[place] for place in self._hosts.done([calls[shard] for shard in going])]
            if not over:
                should_stop()
            ended |= dict(zip(over, self._hosts.gather([calls[shard] for shard in over]), strict=True))
            learned = self._noted({shard: ended[shard] for shard in over})
            calls |= {shard: self._hosts.call(shard, method, *arguments) for shard in learned}
            self._states = {**self._states, **{shard: _IDLE for shard in over if shard not in learned}}
            going = [shard for shard in going if shard not in over or shard in learned]
        return {shard: ended[shard] for shard in shards}

    def _noted(self, ended: Mapping[int, Any]) -> set[int]:
        """The shards that have made a piece of what precedes the first step and are to go on, now noted."""
        learned = {shard: each for shard, each in ended.items() if isinstance(each, StillLearning)}
        self._learned = {**self._learned, **learned}
        doing = {shard: _LEARNING if each.made < each.steps else "training" for shard, each in learned.items()}
        self._states = {**self._states, **doing}
        return {*learned}

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
