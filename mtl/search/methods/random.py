from __future__ import annotations

from typing import ClassVar

from mtl.search.methods.method import Start
from mtl.search.methods.waves import Waves


class Random(Waves):
    """Points drawn independently (Bergstra & Bengio, JMLR 2012)."""

    name: ClassVar[str] = "random"
    about: ClassVar[str] = "independent draws (Bergstra & Bengio 2012)"
    several: ClassVar[bool] = True

    def propose(self, count: int) -> list[Start]:
        numbers = range(self.started, self.started + count)
        return [Start(self.space.sample(self.problem.rng(0, number))) for number in numbers]
