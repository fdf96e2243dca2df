"""Penalties on the parameters of one model and clipping, as changes of the gradients that its optimizer gets."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from mtl.population.penalties import (
    as_matrix,
    directions,
    orthogonal_pull,
    orthogonal_size,
    spectral_pull,
    spectral_size,
    turned,
)
from mtl.train.settings import Settings


class Penalties:
    """Changes `.grad`; a parameter that the losses do not reach is left alone.

    Args:
        model: holds the parameters.
        settings: of the run.
        values: `l1` and `l2` by the name of a parameter.
        seed: of the directions in which the power iterations begin.
    """

    def __init__(
        self, model: nn.Module, settings: Settings, values: Mapping[str, Mapping[str, float]], seed: int
    ) -> None:
        self._settings, self._parameters = settings, list(model.parameters())
        self._sized = [
            (parameter, values[name]["l1"], values[name]["l2"])
            for name, parameter in model.named_parameters()
            if values[name]["l1"] or values[name]["l2"]
        ]
        forms = {n: (p, as_matrix(p.shape, p.dtype)) for n, p in model.named_parameters() if p.requires_grad}
        self._matrices = {name: (parameter, form) for name, (parameter, form) in forms.items() if form is not None}
        #: Where the power iteration of each matrix is, by name.
        self.directions: dict[str, Tensor] = {}
        if settings.spectral and self._matrices:
            like = next(iter(self._matrices.values()))[0].detach()
            starts = directions({name: form[1] for name, (_, form) in self._matrices.items()}, seed, like)
            self.directions = dict(zip(self._matrices, starts, strict=True))

    def apply(self, *, turn: bool = True) -> None:
        """Add the gradients of the penalties; without `turn` in the directions of the last power iterations."""
        self._add_sized()
        if self._settings.spectral or self._settings.orthogonal:
            self._add_of_matrices(turn=turn)

    def clip(self) -> None:
        """Cut gradients that are too large; none are there where no loss is finite, of which torch makes an error."""
        parameters = [parameter for parameter in self._parameters if parameter.grad is not None]
        if parameters and self._settings.clip_value is not None:
            nn.utils.clip_grad_value_(parameters, self._settings.clip_value)
        if parameters and self._settings.clip is not None:
            nn.utils.clip_grad_norm_(parameters, self._settings.clip)

    @torch.no_grad()
    def value(self) -> Tensor:
        """What it is whose gradients were added last, as a number."""
        total = torch.zeros((), dtype=torch.float64, device=self._parameters[0].device)
        for parameter, l1, l2 in self._sized:
            if parameter.grad is not None:
                total = total + l1 * parameter.abs().sum() + l2 * parameter.square().sum()
        if self._settings.spectral or self._settings.orthogonal:
            for name, (parameter, form) in self._matrices.items():
                if parameter.grad is None:
                    continue
                matrix = parameter.reshape(form)
                total = total + self._settings.orthogonal * orthogonal_size(matrix)
                if name in self.directions:
                    total = total + self._settings.spectral * spectral_size(matrix, self.directions[name])
        return total

    def _add_sized(self) -> None:
        """The gradient of l1 Σ|p| is l1 sign(p), that of l2 Σp² is 2 l2 p."""
        for parameter, l1, l2 in self._sized:
            if parameter.grad is None:
                continue
            if l1:
                parameter.grad.add_(parameter.detach().sign(), alpha=l1)
            if l2:
                parameter.grad.add_(parameter.detach(), alpha=2 * l2)

    def _add_of_matrices(self, *, turn: bool) -> None:
        for name, (parameter, form) in self._matrices.items():
            matrix = parameter.detach().reshape(form)
            pull = self._settings.orthogonal * orthogonal_pull(matrix)
            if name in self.directions:
                if turn:
                    self.directions[name] = turned(matrix, self.directions[name])
                pull = pull + self._settings.spectral * spectral_pull(matrix, self.directions[name])
            if parameter.grad is not None:
                parameter.grad.add_(pull.view_as(parameter))

    def go_on_from(self, other: Penalties) -> None:
        """Take the directions of another model of the same parameters, where it has some."""
        if self.directions and other.directions:
            self.directions = dict(zip(self.directions, other.directions.values(), strict=True))
