"""Penalties and limits of all members at once, as changes of the gradients that their optimizer gets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.population.penalties import Matrices, directions, sized_pull
from mtl.population.program import Program
from mtl.population.values import PENALTIES, Values


def cut_off(gradients: Tensor, limit: Tensor) -> Tensor:
    """Gradients (N, P) with each number cut to sizes (N, 1), infinite for none, as `clip_grad_value_` of torch does."""
    limit = limit.to(gradients)
    return gradients.clamp(-limit, limit)


def clipped(gradients: Tensor, limit: Tensor) -> Tensor:
    """Gradients (N, P) cut to lengths (N, 1), infinite for none, as `torch.nn.utils.clip_grad_norm_` does."""
    norm = torch.linalg.vector_norm(gradients, dim=1, keepdim=True)
    limit = limit.to(norm)
    return gradients * torch.where(limit.isinf(), 1.0, (limit / (norm + 1e-6)).clamp(max=1.0))


class Regularizer:
    """What is used of penalties, `clip` and `clip_value`, and what it makes of gradients (N, P).

    A value: one for the settings that members have; where those change, another takes its place.

    Args:
        program: of the members.
        values: their settings.
    """

    def __init__(self, program: Program, values: Values) -> None:
        self._matrices = Matrices(program.names, program.shapes, program.sizes, program.dtypes)
        self._clips, self._cuts_off = (bool(values[name].isfinite().any()) for name in ("clip", "clip_value"))
        self._penalties = {name for name in PENALTIES if bool(values[name].any())}

    def starts(self, seeds: Sequence[int], like: Tensor) -> Tensor | None:
        """The directions (N, ...) of the power iterations of members before their first step, where there are any."""
        if "spectral" not in self._penalties:
            return None
        return torch.stack([torch.cat(directions(self._matrices.columns, seed, like)) for seed in seeds])

    def __call__(
        self,
        gradient: Tensor,
        parameters: Tensor,
        values: Values,
        starts: Tensor | None,
        reached: Tensor | None,
    ) -> tuple[Tensor, Tensor | None]:
        """The gradients with those of penalties, and cut to the limits; and the directions after this step.

        Args:
            gradient: (N, P) of the losses.
            parameters: (N, P).
            values: of this step.
            starts: the directions before it; None where there are none.
            reached: (N, P) which parameters the losses reach, for the others have no penalty; None for all.
        """
        pull, turned = self._pull(parameters, values, starts)
        if pull is not None:
            gradient = gradient + (pull if reached is None else pull * reached)
        if self._cuts_off:
            gradient = cut_off(gradient, values["clip_value"])
        if self._clips:
            gradient = clipped(gradient, values["clip"])
        return gradient, turned

    def _pull(self, parameters: Tensor, values: Values, starts: Tensor | None) -> tuple[Tensor | None, Tensor | None]:
        """The gradients (N, P) of all penalties, None where there are none, and the directions after the step."""
        pull = sized_pull(parameters, values) if self._penalties & {"l1", "l2"} else None
        if not self._penalties & {"spectral", "orthogonal"}:
            return pull, starts
        if starts is None and "spectral" in self._penalties:
            raise ValueError("spectral: a population has this penalty from its beginning or not at all")
        found, turned = self._matrices.pull(parameters, values, starts)
        return found if pull is None else pull + found, turned
