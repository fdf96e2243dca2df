"""Penalties on the parameters of one model, as a part of the gradients that its optimizer gets."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


class Penalties:
    """Adds the gradients of penalties to `.grad`; a parameter that the losses do not reach is left alone.

    Args:
        model: holds the parameters.
        values: `l1` and `l2` by the name of a parameter.
    """

    def __init__(self, model: nn.Module, values: Mapping[str, Mapping[str, float]]) -> None:
        self._pulled = [
            (parameter, values[name]["l1"], values[name]["l2"])
            for name, parameter in model.named_parameters()
            if values[name]["l1"] or values[name]["l2"]
        ]

    def pull(self) -> None:
        """The gradient of l1 Σ|p| is l1 sign(p), that of l2 Σp² is 2 l2 p."""
        for parameter, l1, l2 in self._pulled:
            if parameter.grad is None:
                continue
            if l1:
                parameter.grad.add_(parameter.detach().sign(), alpha=l1)
            if l2:
                parameter.grad.add_(parameter.detach(), alpha=2 * l2)
