"""What all our trials of Ray Tune share: how they begin, go on, and fail."""

from __future__ import annotations

import json
import math
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from ray import tune

from mtl.files.whole import write_whole
from mtl.ray.tune.about import About
from mtl.study.watchers import one_line

#: Beside a trial's checkpoints, while losses learn before training: steps that were made, and all.
LEARNING = "learning.json"


class OurTrial(tune.Trainable, ABC):
    """A trial that is saved after each segment.

    With `ends_on_failure`, an exception in the training ends the trial: it would be raised again at a second try. The
    trial then makes a last report, and a checkpoint that says what happened. Where a process or node lacks something
    (data, a GPU, room on the disk), the exception is always raised, so that Tune tries again elsewhere.
    """

    about: ClassVar[About]
    ends_on_failure: ClassVar[bool] = False
    failure: dict[str, str] | None = None  # the error in a line, and its traceback
    _said = False  # how far losses are that learn before training

    @abstractmethod
    def begin(self, config: dict[str, Any]) -> None:
        """Begin the run or the shard of this configuration."""

    @abstractmethod
    def segment(self) -> dict[str, Any]:
        """Train for an interval, and return what Tune is told."""

    @abstractmethod
    def restore_from(self, folder: Path) -> None:
        """Go on from a checkpoint, which may be another trial's."""

    @abstractmethod
    def ended(self) -> dict[str, Any]:
        """The `steps`, `exploits` and `hyperparameters` that a trial reports when it has failed."""

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

    def say_learned(self, learned: tuple[int, int] | None) -> None:
        """Leave for the driver how far losses are that learn before training; None where none does just now.

        Where results are stored in something else than a folder that is seen here, nobody looks for it.
        """
        folder = None if self._storage is None else Path(self._storage.trial_fs_path)
        if folder is None or not folder.is_dir() or (learned is None and not self._said):
            return
        self._said = learned is not None
        if learned is None:
            (folder / LEARNING).unlink(missing_ok=True)
        else:
            write_whole(folder / LEARNING, json.dumps(learned) + "\n")

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
