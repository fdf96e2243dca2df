"""The balancer's probe of a step: gradients on lists of parameters, by passes that leave no trace."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from mtl.gradients.graph import Output, gradients_of_each, jacobian, shaped, size
from mtl.gradients.pieces import Average
from mtl.step.passes import frozen_statistics, lookahead


@dataclass(frozen=True)
class ParameterProbe:
    """A step of one run, and how to read further batches; see `mtl.step.measure.Probe`.

    Attributes:
        shared: the shared parameters, D numbers.
        heads: every other leaf of the losses.
        losses: the K losses with their graph.
        parts: this batch's task gradients on the shared parameters (K, D) and on the heads.
        weights: gives the weights (K,) that hold before this step's measurements.
        read: calls a closure of the caller by name; gives the finite losses with their graph, and their tasks.
        lookahead_lr: how far a lookahead goes.
        average: replaces tensors by their means over all processes, if there are several.
        passes: counts forward and backward passes.
    """

    shared: Sequence[Tensor]
    heads: Sequence[Tensor]
    losses: Sequence[Output]
    parts: Sequence[Tensor]
    weights: Callable[[], Tensor]
    read: Callable[[str], tuple[Sequence[Output], Sequence[int]]]
    options: Mapping[str, Any]
    lookahead_lr: float | None
    average: Average | None
    passes: Counter[str]

    @property
    def parameters(self) -> list[Tensor]:
        """Everything that the losses train."""
        return [*self.shared, *self.heads]

    @cached_property
    def gradients(self) -> Tensor:
        """(K, P) on all parameters."""
        return torch.cat(list(self.parts), 1)

    def current(self) -> Tensor:
        """(K,)."""
        return self.weights()

    def gradients_of(self, closure: str, *, step: Tensor | None = None, shared: bool = False) -> Tensor:
        """(K, P) or (K, D), zero for a task that the batch lacks."""
        wanted = list(self.shared) if shared else self.parameters
        with contextlib.ExitStack() as stack:
            if step is not None:
                assert self.lookahead_lr is not None
                stack.enter_context(lookahead(self.parameters, self._pieces(step), self.lookahead_lr))
            stack.enter_context(frozen_statistics())
            stack.enter_context(torch.enable_grad())
            losses, tasks = self.read(closure)
            gradients = gradients_of_each(losses, wanted)
        self.passes["forward"] += 1
        self.passes["backward"] += len(losses)
        present = iter(gradients)
        nothing = (None,) * len(wanted)
        rows = jacobian([next(present) if k in tasks else nothing for k in range(len(self.losses))], wanted)
        if self.average is not None:
            self.average([rows])
        return rows

    def hessian(self, weights: Tensor) -> Callable[[Tensor], Tensor]:
        """Products by one more backward pass each."""
        parameters = self.parameters
        first = torch.autograd.grad(
            list(self.losses),  # type: ignore[arg-type]  # tensors and places in a graph may be mixed
            parameters,
            list(weights.unbind()),
            create_graph=True,
            allow_unused=True,
        )
        self.passes["backward"] += 1
        curved = [index for index, gradient in enumerate(first) if gradient is not None and gradient.requires_grad]

        def product(vector: Tensor) -> Tensor:
            if not curved:  # every loss is linear
                return torch.zeros_like(vector)
            pieces = self._pieces(vector)
            found = torch.autograd.grad(
                [first[index] for index in curved],
                parameters,
                [pieces[index].to(parameters[index].dtype) for index in curved],
                retain_graph=True,
                allow_unused=True,
            )
            self.passes["backward"] += 1
            return jacobian([found], parameters)[0]

        return product

    def _pieces(self, flat: Tensor) -> list[Tensor]:
        """One piece of a (P,) vector for each parameter."""
        pieces = flat.split([size(parameter) for parameter in self.parameters])
        return [shaped(piece, parameter) for piece, parameter in zip(pieces, self.parameters, strict=True)]
