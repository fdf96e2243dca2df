"""In which shard each member of a cohort is. A value."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Placement:
    """The members of a cohort, and where they are.

    Attributes:
        places: of each member, by its number, its shard and its number within that.
    """

    places: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, shards: Mapping[int, int]) -> Placement:
        """A placement from the shard of each member 0, 1, ...; the order within a shard is the same."""
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
        """The members of each shard that has some, in the shard's order."""
        found: dict[int, list[tuple[int, int]]] = {}
        for number, (shard, place) in enumerate(self.places):
            found.setdefault(shard, []).append((place, number))
        return {shard: [number for _, number in sorted(found[shard])] for shard in sorted(found)}

    @property
    def occupied(self) -> list[int]:
        """The shards that have members."""
        return sorted({shard for shard, _ in self.places})

    def apart(self, numbers: Sequence[int]) -> dict[int, list[int]]:
        """These members by shard, with their numbers within it."""
        found: dict[int, list[int]] = {}
        for number in numbers:
            shard, place = self.places[number]
            found.setdefault(shard, []).append(place)
        return found

    def kept(self, numbers: Sequence[int]) -> Placement:
        """The placement of these members alone. They are numbered anew in this order, within their shards too."""
        return Placement.of({new: self.places[number][0] for new, number in enumerate(numbers)})

    def spread(self, count: int, shards: int) -> list[int]:
        """The shards for new members: for each in turn the one that has the fewest members by then.

        Args:
            count: the number of new members.
            shards: the number of shards.
        """
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
        """The placement with new members at the end, in these shards."""
        sizes = {shard: len(numbers) for shard, numbers in self.members.items()}
        places = list(self.places)
        for shard in shards:
            places.append((shard, sizes.get(shard, 0)))
            sizes[shard] = sizes.get(shard, 0) + 1
        return Placement(tuple(places))
