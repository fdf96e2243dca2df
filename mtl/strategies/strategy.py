"""What a weighting strategy is: a pure function from measured signals to one weight a task."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import check_tasks, domains, validate, write_unit

Signals = Mapping[str, Tensor]

#: What a strategy's formula asks of the losses (`Strategy.domain`), in words.
DOMAINS: dict[str, str] = {
    "any": "losses of any sign",
    "nonnegative": "losses at or above zero",
    "positive": "losses above zero",
}

#: Every signal a strategy may ask for in `needs`, with its shape and meaning.
SIGNALS: dict[str, str] = {
    "losses": "(K,) the task losses of this batch",
    "gramian": "(K, K) G = J J^T, inner products of the task gradients on the shared parameters",
    "jacobian": "(K, D) J, the task gradients on the D shared parameters",
    "after": "(K,) losses of the previous batch, read again after the optimizer's step on it",
    "cross": "(K, K) J' J''^T of two further training batches, independent of this one and of each other",
    "align": "(K, K) J_val J_train^T at the lookahead point: row i is validation task i, column k training task k",
    "implicit": "(K, K) J_val H^-1 J_train^T, H the Hessian of the weighted training loss (truncated Neumann series)",
    "noise": "(K, K) independent standard normal draws of this step",
    "dither": "(D,) independent uniform draws in [0, 1) of this step, one a shared parameter",
    "epoch": "() index of the current epoch, counted from 0",
}


class Stateless(NamedTuple):
    """The state of a strategy that remembers nothing."""


@dataclass(frozen=True)
class Strategy(ABC):
    """A weighting strategy: frozen hyperparameters, and a pure step from (state, signals) to (weights, state).

    The parameter update that a strategy stands for is the sum over tasks k of `weights[k] * grad L_k`. Weights have
    the paper's own scale. Steps draw no random numbers, branch on no tensor's value and copy nothing to the host, so
    that one implementation serves a training loop, `torch.func.vmap` over a population, and `torch.compile`.

    Subclasses set `name`, `paper` and `needs` (a subset of `SIGNALS`); hyperparameters are fields made by
    `mtl.hyperparameters.hyper`, and may be tensors with a leading member axis.

    Few strategies need more than that: a state with numbers for each shared parameter (`init_sized`), gradients of
    their own for the weights to apply to (`tracking`, `gradients`), or weights to look ahead with (`current`).
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    needs: ClassVar[frozenset[str]]
    #: The losses that the formula is made for, one of `DOMAINS`; what it does with others its docstring says.
    domain: ClassVar[str] = "any"
    #: Weights are (K, D), one a coordinate of the shared parameters, instead of (K,).
    elementwise: ClassVar[bool] = False
    #: The weights apply to `gradients(state, jacobian)`, which the strategy keeps, not to the gradients of this step.
    tracking: ClassVar[bool] = False
    #: Of a strategy in a user's file, by which a spec finds it: `path.py:Class`.
    place: ClassVar[str] = ""
    #: Works under `torch.func.vmap`. A population trains members of a strategy that does not one after another.
    vmappable: ClassVar[bool] = True

    def __post_init__(self) -> None:
        validate(self, self.name)

    def init(self, losses: Tensor) -> Any:  # noqa: ARG002
        """The state before the first step; `losses` (K,) gives number of tasks, dtype and device, not values."""
        return Stateless()

    def init_sized(self, losses: Tensor, dimension: int) -> Any:  # noqa: ARG002
        """The state before the first step where there are `dimension` shared parameters; whoever knows D calls this."""
        return self.init(losses)

    @abstractmethod
    def __call__(self, state: Any, signals: Signals) -> tuple[Tensor, Any]:
        """One step: weights (K,) or (K, D), and the next state with the shapes and dtypes of `state`."""

    def gradients(self, state: Any, jacobian: Tensor) -> Tensor:  # noqa: ARG002
        """The (K, D) gradients that the weights of the step that led to `state` apply to; `jacobian` is that step's."""
        return jacobian

    def current(self, state: Any, signals: Signals) -> Tensor:
        """The weights (K,) before this step's `align` and `implicit` are known, which those are measured with."""
        return self(state, signals)[0]

    @property
    def measuring(self) -> dict[str, Any]:
        """Settings of the measurement of signals, by the names that `mtl.step.measure` gives them."""
        return {}

    def outside(self, losses: Tensor) -> Tensor:
        """Which losses (..., K) are not in `domain`; NaN, which stands for an absent one, is not."""
        if self.domain == "any":
            return torch.zeros_like(losses, dtype=torch.bool)
        return losses <= 0 if self.domain == "positive" else losses < 0

    def needs_at(self, step: int) -> frozenset[str]:  # noqa: ARG002
        """The signals that step number `step` (from 0) will read; fewer than `needs` when it holds its weights."""
        return self.needs

    def suffices(self, names: Collection[str]) -> bool:
        """Whether it can be called with signals of these names, though what comes of it may not count."""
        return self.needs_at(0) <= set(names)

    def check_tasks(self, num_tasks: int) -> None:
        """Raise `ValueError` if this strategy cannot weigh `num_tasks` tasks."""
        check_tasks(self, self.name, num_tasks)

    @property
    def hyperparameters(self) -> dict[str, Any]:
        """Every hyperparameter by name."""
        return {key: getattr(self, key) for key in domains(self)}

    def __str__(self) -> str:
        """The spec that `mtl.strategies.make` reads back as an equal strategy."""
        return write_unit(self, self.place or self.name)

    def replace(self, **changes: Any) -> Strategy:
        """A copy with other hyperparameters."""
        return dataclasses.replace(self, **changes)


@dataclass(frozen=True)
class SizedStrategy(Strategy):
    """A strategy whose state has numbers for each shared parameter."""

    def init(self, losses: Tensor) -> Any:  # noqa: ARG002
        raise ValueError(
            f"{self.name} keeps numbers for each shared parameter: begin with init_sized(losses, dimension)"
        )

    @abstractmethod
    def init_sized(self, losses: Tensor, dimension: int) -> Any: ...
