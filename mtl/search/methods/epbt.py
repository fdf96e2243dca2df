from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from mtl.search.methods.method import Decision, Exploit, Method, Report, Start, random_starts
from mtl.search.space import Space, Values
from mtl.search.space.parameters import Generator

_ELITES = 0.25  # of the population, which go on as they are
_CANDIDATES = 2  # for each elite, among which novelty chooses
_PULSE = 3  # every so many generations novelty chooses the elites
_TOURNAMENT = 3  # runs, the best of which is a parent
_MUTATED = 0.3  # probability of each value
_SPREAD = 0.1  # standard deviation of a mutation, of the range

_PARENTS, _CHILD = 1, 2  # streams of the generator


class EPBT(Method):
    """Evolutionary population-based training (Liang, Gonzalez, Shahrzad & Miikkulainen, GECCO 2021).

    Made for losses that are searched, such as `taylor`, while they train. After each interval a quarter of the runs,
    the elite, goes on as it is. Each other run becomes a child of two parents, each the best of three runs drawn at
    random. The child has the parameters, optimizer and strategy of the better parent, each value from one parent or the
    other, and Gaussian noise on three values in ten. The elite are the best runs or, in every third generation, novel
    ones of the better half: the best run, and then again and again the one that lies farthest from those chosen
    (novelty pulsation, Shahrzad et al. 2020). A run that is not finite any more is never a parent and always replaced.

    Deviations: runs lie apart by their values, where the paper compares which examples they get right; elites train on
    beside their children, so all runs have made equally many steps; and there is no distillation from the elite. The
    shares and counts above (a quarter, three runs, three values in ten, every third generation) are ours.
    """

    name: ClassVar[str] = "epbt"
    hears: ClassVar[frozenset[str]] = frozenset({"burn_in"})
    fewest: ClassVar[int] = 2
    copies: ClassVar[bool] = True
    shares_seed: ClassVar[bool] = False
    about: ClassVar[str] = "PBT by genetic operators, made for losses that are searched (Liang et al. 2021)"

    def begin(self) -> list[Start]:
        return random_starts(self.problem, self.options.members)

    def decide(self, reports: Sequence[Report]) -> Decision:
        sound = sorted(
            (report for report in reports if not report.broken), key=lambda report: (-report.score, report.trial)
        )
        if not sound or all(report.finished for report in reports):
            return Decision()
        step = reports[0].step
        kept = {report.trial for report in (sound if step < self.options.burn_in else self._elite(sound, step))}
        return Decision([self._child(report, sound) for report in reports if report.trial not in kept])

    def _elite(self, ranked: Sequence[Report], step: int) -> list[Report]:
        """The runs that go on as they are.

        Args:
            ranked: finite runs, the best first.
            step: that they have made.
        """
        size = max(1, round(_ELITES * self.options.members))
        if round(step / self.problem.interval) % _PULSE:
            return list(ranked[:size])
        candidates = list(ranked[: _CANDIDATES * size])
        places = np.array([self._place(report.values) for report in candidates])
        chosen = [0]
        nearest = np.abs(places - places[0]).sum(1)  # how far each candidate lies from those that are chosen
        while len(chosen) < min(size, len(candidates)):
            nearest[chosen] = -1  # of runs at one place each is chosen once, the best first
            chosen.append(int(nearest.argmax()))
            nearest = np.minimum(nearest, np.abs(places - places[chosen[-1]]).sum(1))
        return [candidates[number] for number in chosen]

    def _place(self, values: Values) -> list[float]:
        """Where a run lies in the space; a parameter that it does not have is where a grid would begin."""
        return [
            coordinate
            for name, parameter in self.space.varied.items()
            for coordinate in parameter.place(values[name] if name in values else parameter.grid(1)[0])
        ]

    def _child(self, target: Report, sound: Sequence[Report]) -> Exploit:
        """What `target` becomes."""
        rng = self.problem.rng(_PARENTS, target.step, target.trial)
        # Places in the ranking: the lowest is the best.
        better, other = sorted(int(rng.integers(len(sound), size=_TOURNAMENT).min()) for _ in range(2))
        values = crossed(
            self.space,
            sound[better].values,
            sound[other].values,
            self.problem.rng(_CHILD, target.step, target.trial),
        )
        return Exploit(target.trial, sound[better].trial, values)


def crossed(space: Space, first: Values, second: Values, rng: Generator) -> Values:
    """A point with each value from one of two, some of them mutated; what neither has is drawn at random."""
    values: Values = {}
    for name, parameter in space.active(values):
        mother, father = (first, second) if rng.random() < 0.5 else (second, first)
        mutates, having = rng.random() < _MUTATED, mother if name in mother else father
        value = having[name] if name in having else parameter.sample(rng)
        values[name] = parameter.mutated(value, rng, _SPREAD) if mutates else value
    return values
