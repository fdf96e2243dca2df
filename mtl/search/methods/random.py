from __future__ import annotations

from typing import ClassVar

from mtl.search.methods.method import Start, random_starts
from mtl.search.methods.waves import Waves


class Random(Waves):
    """Points drawn independently (Bergstra & Bengio, JMLR 2012)."""

    name: ClassVar[str] = "random"
    about: ClassVar[str] = "independent draws (Bergstra & Bengio 2012)"
    several: ClassVar[bool] = True

    def propose(self, count: int) -> list[Start]:
        return random_starts(self.problem, count, self.started)
