"""What trials of one run and trials of a shard share: how they begin, go on, and fail."""

from __future__ import annotations

import math
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from ray import tune

from mtl.ray.tune.about import About
from mtl.study.watchers import one_line


class OurTrial(tune.Trainable, ABC):
    """A trial that saves after each segment.

    With `ends_on_failure`, an exception of the training, which a second try would raise again, ends the trial with a
    last result and a checkpoint that tells it. What a process or node lacks (data, a GPU, a disk to write on) raises
    always, so that Tune tries again elsewhere.
    """

    about: ClassVar[About]
    ends_on_failure: ClassVar[bool] = False
    failure: dict[str, str] | None = None  # the error in a line, and its traceback

    @abstractmethod
    def begin(self, config: dict[str, Any]) -> None:
        """Start the run or shard of this configuration."""

    @abstractmethod
    def segment(self) -> dict[str, Any]:
        """Train for an interval, and report."""

    @abstractmethod
    def restore_from(self, folder: Path) -> None:
        """Go on from a checkpoint, the trial's own or another's."""

    @abstractmethod
    def ended(self) -> dict[str, Any]:
        """`steps`, `exploits` and `hyperparameters` of a trial that failed."""

    def setup(self, config: dict[str, Any]) -> None:
        self.setting = self.about.setting()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.failure = None
        self._attempt(lambda: self.begin(new_config))
        return True

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]
        self._attempt(lambda: self.restore_from(Path(checkpoint_dir)))

    def step(self) -> dict[str, Any]:
        result: dict[str, Any] | None = self._attempt(self.segment)
        if result is not None:
            return result
        assert self.failure is not None
        return {
            **self.ended(),
            "metrics": {},
            "selection": -math.inf,
            "objective": -math.inf,
            "finite": False,
            "failure": self.failure["error"],
            "done": True,
            "should_checkpoint": True,
        }

    def _attempt(self, part: Callable[[], Any]) -> Any:
        """What `part` gives; None once something has failed."""
        if self.failure is not None:
            return None
        try:
            return part()
        except OSError:
            raise
        except Exception as error:  # a strategy or a user's model may raise anything
            if not self.ends_on_failure:
                raise
            self.failure = {"error": one_line(error), "traceback": traceback.format_exc()}
            return None
