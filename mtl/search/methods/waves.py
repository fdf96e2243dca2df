"""Methods that train every run to its end, as many side by side as there are members."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from mtl.search.methods.method import Decision, Method, Problem, Report, Start
from mtl.search.options import MethodOptions


class Waves(Method):
    """Trains runs in waves. When all runs of one wave are finished, the next wave is proposed, knowing their scores.

    Attributes:
        started: the number of runs begun so far.
        told: of each finished run, in order of their numbers, its values and the scores of its best evaluation.
    """

    def __init__(self, problem: Problem, options: MethodOptions) -> None:
        super().__init__(problem, options)
        self.started = 0
        self.told: list[tuple[dict[str, Any], tuple[float, ...]]] = []

    @abstractmethod
    def propose(self, count: int) -> list[Start]:
        """The next `count` runs."""

    def begin(self) -> list[Start]:
        return self._wave()

    def more(self) -> list[Start]:
        return self._wave()

    def decide(self, reports: Sequence[Report]) -> Decision:
        if not all(report.finished for report in reports):
            return Decision()
        self.told += [(dict(report.values), report.yielded) for report in reports]
        return Decision(start=self._wave())

    def _wave(self) -> list[Start]:
        count = min(self.options.members, self.trials - self.started)
        starts = self.propose(count) if count > 0 else []
        self.started += len(starts)
        return starts

    def state_dict(self) -> dict[str, Any]:
        return {"started": self.started, "told": self.told}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        self.started = saved["started"]
        self.told = [(dict(values), tuple(scores)) for values, scores in saved["told"]]
