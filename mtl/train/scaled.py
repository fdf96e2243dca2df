"""The optimizer's step under a `GradScaler`: left out where the scaled gradients are too large for float16."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch

#: Steps that were left out because of the scale; the scaler halves it then, and the run goes on.
OVERFLOW = "fp16_overflow"


class ScaledSteps:
    """Makes the steps of an optimizer, and counts those that its scaler leaves out.

    A step that is left out costs a run its batch and nothing else. It is no sign that the run diverges, as long as the
    scale is to blame: below a scale of 1 the gradients themselves are not finite.

    Args:
        optimizer: whose steps.
        scaler: None makes every step as it is.
        broken: how many steps so far had a gradient that was not finite, as a balancer counts them.
    """

    def __init__(
        self, optimizer: torch.optim.Optimizer, scaler: torch.amp.GradScaler | None, broken: Callable[[], int]
    ) -> None:
        self.scaler = scaler
        self._optimizer, self._broken = optimizer, broken
        self._overflows = 0
        self._excused = 0  # of those counts of the balancer that the scale was to blame for
        self._seen = 0
        self._unseen = 0  # steps with a gradient that is not finite at any scale, where the balancer has not looked

    def unscale(self) -> None:
        """Bring gradients back to their own scale, for what is done to them before the step."""
        if self.scaler is not None:
            self.scaler.unscale_(self._optimizer)

    def step(self) -> None:
        """Make the step, or leave it out and lower the scale."""
        if self.scaler is None:
            self._optimizer.step()
            return
        before = self.scaler.get_scale()
        self.scaler.step(self._optimizer)
        self.scaler.update()
        broken = self._broken()
        if self.scaler.get_scale() < before:
            if before >= 1:
                self._overflows += 1
                self._excused += broken - self._seen
            elif broken == self._seen:
                self._unseen += 1
        self._seen = broken

    def counted(self, skipped: Mapping[str, int]) -> dict[str, int]:
        """The balancer's counts of what was wrong in steps, with those that were left out told apart."""
        gradients = skipped.get("nonfinite_gradient", 0) - self._excused + self._unseen
        overflows = self._overflows + skipped.get(OVERFLOW, 0)  # those of a scaler that the run had before
        found = {**skipped, "nonfinite_gradient": gradients, OVERFLOW: overflows}
        return {name: count for name, count in found.items() if count}

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        counts = [self._overflows, self._excused, self._seen, self._unseen]
        return {} if self.scaler is None else {"scaler": self.scaler.state_dict(), "counts": counts}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`; begin anew where that is of steps without a scaler."""
        if self.scaler is not None and saved:
            self.scaler.load_state_dict(saved["scaler"])
            self._overflows, self._excused, self._seen, self._unseen = saved["counts"]
        elif self.scaler is not None:
            self._seen = self._broken()  # no scale was to blame for those
