"""In which shard each member of a cohort is. A value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """Members by number, and where they are.

    Attributes:
        places: of each member its shard, and its number there.
    """

    places: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, shards: Mapping[int, int]) -> Placement:
        """Members whose shards are known by their numbers 0, 1, ...; within a shard they are in the same order."""
        sizes: dict[int, int] = {}
        places = []
        for number in range(len(shards)):
            shard = shards[number]
            places.append((shard, sizes.get(shard, 0)))
            sizes[shard] = sizes.get(shard, 0) + 1
        return cls(tuple(places))

    def __len__(self) -> int:
        return len(self.places)

    @property
    def members(self) -> dict[int, list[int]]:
        """The members of each shard that has some, by its number and in its order."""
        found: dict[int, list[tuple[int, int]]] = {}
        for number, (shard, place) in enumerate(self.places):
            found.setdefault(shard, []).append((place, number))
        return {shard: [number for _, number in sorted(found[shard])] for shard in sorted(found)}

    @property
    def occupied(self) -> list[int]:
        """The shards that have members."""
        return sorted({shard for shard, _ in self.places})

    def apart(self, numbers: Sequence[int]) -> dict[int, list[int]]:
        """Members by shard: of each shard that has some of them, their numbers there."""
        found: dict[int, list[int]] = {}
        for number in numbers:
            shard, place = self.places[number]
            found.setdefault(shard, []).append(place)
        return found

    def kept(self, numbers: Sequence[int]) -> Placement:
        """With these members alone, numbered anew in that order, in their shards too."""
        return Placement.of({new: self.places[number][0] for new, number in enumerate(numbers)})

    def spread(self, count: int, shards: int) -> list[int]:
        """Into which of so many shards as many new members go: each into the one that has the fewest by then."""
        sizes = [0] * shards
        for shard, _ in self.places:
            sizes[shard] += 1
        chosen = []
        for _ in range(count):
            shard = sizes.index(min(sizes))
            sizes[shard] += 1
            chosen.append(shard)
        return chosen

    def added(self, shards: Sequence[int]) -> Placement:
        """With new members at the end, each in one of these shards."""
        sizes = {shard: len(numbers) for shard, numbers in self.members.items()}
        places = list(self.places)
        for shard in shards:
            places.append((shard, sizes.get(shard, 0)))
            sizes[shard] = sizes.get(shard, 0) + 1
        return Placement(tuple(places))
