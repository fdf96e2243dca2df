"""Gradients under a `GradScaler`: their scale, and steps that it skipped after the fact."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class LossScale:
    """The factor on losses, and what to go back to when the scaler finds a step's gradients infinite.

    The scaler lowers its scale after such a step, and only then. So what was before a step is kept until the next one,
    which sees whether the scale has gone down.
    """

    def __init__(self, scaler: torch.amp.GradScaler) -> None:
        self._scaler = scaler
        self._before: tuple[Tensor, Any] | None = None

    def of(self, like: Tensor) -> Tensor:
        """The factor as a tensor () on the device of `like`, float32."""
        scale: Tensor = self._scaler.scale(torch.ones((), device=like.device))
        return scale

    def remember(self, like: Tensor, before: Any) -> None:
        """What to go back to should this step turn out to be skipped."""
        self._before = self.of(like).clone(), before

    def pending(self) -> tuple[Tensor, Any] | None:
        """Whether the scaler has skipped the last step, as a tensor (), and what was remembered; asked once a step."""
        if self._before is None:
            return None
        scale, before = self._before
        self._before = None
        return self.of(scale) < scale, before
