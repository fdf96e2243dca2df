from __future__ import annotations

from typing import ClassVar

from mtl.search.methods.method import Start
from mtl.search.methods.waves import Waves
from mtl.search.space import Values

_TOURNAMENT = 0.25  # of the population


class Evolution(Waves):
    """Aging evolution (Real et al., AAAI 2019): only the youngest runs can be parents.

    Each child is a copy of a parent with one parameter drawn anew. The parent is the best of a few that are drawn from
    the last `members` runs. Deviation: a whole wave of children begins at once, because the runs train side by side.
    """

    name: ClassVar[str] = "evolution"
    waves: ClassVar[int] = 4
    about: ClassVar[str] = "aging evolution with tournaments (Real et al. 2019)"

    def propose(self, count: int) -> list[Start]:
        return [
            Start(self._child(number), informed=bool(self.told)) for number in range(self.started, self.started + count)
        ]

    def _child(self, number: int) -> Values:
        rng = self.problem.rng(0, number)
        population = self.told[-self.options.members :]
        if not population:
            return self.space.sample(rng)
        size = max(2, round(_TOURNAMENT * len(population)))
        drawn = rng.choice(len(population), min(size, len(population)), replace=False)
        winner = population[max(drawn, key=lambda index: population[index][1][0])][0]
        varied = [name for name, _ in self.space.active(winner) if name in self.space.varied]
        kept = dict(winner)
        if varied:
            del kept[varied[int(rng.integers(len(varied)))]]
        return self.space.accepted(lambda: self.space.completed(kept, rng))
