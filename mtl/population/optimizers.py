"""Optimizers as functions of tensors with a leading member axis: one row of parameters, and one value of each setting,
a member. Each equals the one of the same name in `torch.optim`.

A step allocates all that it needs before it changes anything. So a device that runs out of memory leaves everything as
it was, and the step can be made again.

Parameters of a member are one row of a matrix (N, P), which holds its T parameter tensors one after another. State is a
dict of such matrices, and of `steps` (N, T): as in torch, a tensor that got no gradient is not stepped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mtl.population.values import Values
from mtl.suggestions import nearest

State = dict[str, Tensor]


@dataclass(frozen=True)
class Optimizer:
    """One optimizer: its settings with torch's defaults, the matrices that it keeps, and a step in place.

    Attributes:
        settings: name and default of each number; `betas` of torch are `beta1` and `beta2` here.
        buffers: names of the state's matrices.
        apply: called with (parameters, gradients, state, settings, steps made by each coordinate, this one included).
        counts: name of a setting; a step in which that is zero does not count as made.
    """

    name: str
    settings: Mapping[str, float]
    buffers: tuple[str, ...]
    apply: Callable[[Tensor, Tensor, State, Values, Tensor], None]
    counts: str = ""

    def init(self, parameters: Tensor, values: Values, tensors: int) -> State:
        """The state before the first step of parameters (N, P) that are `tensors` tensors a member."""
        state = {name: torch.zeros_like(parameters) for name in self.buffers}
        if "initial_accumulator_value" in values:
            state["sum"] += values["initial_accumulator_value"].to(parameters)
        if "product" in state:
            state["product"] += 1
        state["steps"] = torch.zeros(len(parameters), tensors, dtype=torch.float64, device=parameters.device)
        return state

    def complete(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """All settings, those not given with their default.

        Raises:
            ValueError: a setting that this optimizer does not have.
        """
        given = dict(given)
        if "betas" in given and "beta1" in self.settings:
            given["beta1"], given["beta2"] = given.pop("betas")
        for key in given:
            if key not in self.settings:
                raise ValueError(f"{self.name} has no setting {key!r}: {nearest(key, self.settings)}")
        return {**self.settings, **given}

    @torch.no_grad()
    def step(
        self,
        parameters: Tensor,
        gradients: Tensor,
        state: State,
        values: Values,
        owner: Tensor,
        stepped: Tensor | None = None,
        even: bool = False,
    ) -> None:
        """One step in place.

        Args:
            parameters: (N, P).
            gradients: (N, P).
            state: of `init`.
            values: settings, (N, 1) each, or (N, P).
            owner: (P,) the number of the tensor that a coordinate belongs to.
            stepped: (N, T), which tensors of which member take part; all when None.
            even: says that all tensors of a member have made equally many steps, which is faster.
        """
        one = (values[self.counts] != 0) if self.counts else 1
        if stepped is None:
            made = state["steps"] + one
            self.apply(parameters, gradients, state, values, made[:, :1] if even else made[:, owner])
            state["steps"] = made
            return
        changed = {**{name: state[name] for name in self.buffers}, "parameters": parameters}
        before = {name: value.clone() for name, value in changed.items()}
        made, mask = state["steps"] + stepped * one, stepped[:, owner]
        self.apply(parameters, gradients, state, values, made.clamp(min=1)[:, owner])
        for name, value in changed.items():
            torch.where(mask, value, before[name], out=value)
        state["steps"] = made


def _decayed(parameters: Tensor, gradients: Tensor, values: Values) -> Tensor:
    return torch.addcmul(gradients, parameters, values["weight_decay"].to(parameters))


def _resting(rests: Tensor, momentum: Tensor, fresh: Tensor) -> tuple[Tensor, Tensor]:
    """How much of a velocity stays, and what is added to it: one that `rests` stays as it is, as torch's does."""
    return torch.where(rests, 1.0, momentum), torch.where(rests, 0.0, fresh)


def _adam(
    parameters: Tensor,
    gradients: Tensor,
    state: State,
    values: Values,
    steps: Tensor,
    shrunk: Tensor | None = None,
) -> None:
    """Adam; with `shrunk`, parameters are multiplied by it first."""
    beta1, beta2 = values["beta1"], values["beta2"]
    first, second = state["first"], state["second"]
    weight, kept, eps = (1 - beta1).to(first), beta2.to(second), values["eps"].to(second)
    size = -(values["lr"] / (1 - beta1**steps)).to(first)
    correction = (1 - beta2**steps).sqrt().to(second)
    scaled, spread = gradients * (1 - beta2).to(second), torch.empty_like(second)
    if shrunk is not None:
        parameters.mul_(shrunk)
    first.lerp_(gradients, weight)
    second.mul_(kept).addcmul_(gradients, scaled)
    torch.sqrt(second, out=spread).div_(correction).add_(eps)
    parameters.addcmul_(torch.div(first, spread, out=scaled), size)


def _adam_l2(parameters: Tensor, gradients: Tensor, state: State, values: Values, steps: Tensor) -> None:
    _adam(parameters, _decayed(parameters, gradients, values), state, values, steps)


def _adamw(parameters: Tensor, gradients: Tensor, state: State, values: Values, steps: Tensor) -> None:
    shrunk = (1 - values["lr"] * values["weight_decay"]).to(parameters)
    _adam(parameters, gradients, state, values, steps, shrunk)


def _sgd(parameters: Tensor, gradients: Tensor, state: State, values: Values, steps: Tensor) -> None:
    gradients = _decayed(parameters, gradients, values)
    momentum, size = values["momentum"].to(parameters), -values["lr"].to(parameters)
    rests = momentum == 0
    kept, fresh = _resting(rests, momentum, torch.where(steps == 1, 1.0, 1 - values["dampening"]).to(parameters))
    plain, ahead = (values["nesterov"] > 0) | rests, torch.empty_like(parameters)
    velocity = state["velocity"].mul_(kept).addcmul_(gradients, fresh)
    torch.mul(momentum, velocity, out=ahead).add_(gradients)
    parameters.addcmul_(torch.where(plain, ahead, velocity, out=ahead), size)


def _rmsprop(parameters: Tensor, gradients: Tensor, state: State, values: Values, steps: Tensor) -> None:  # noqa: ARG001
    gradients = _decayed(parameters, gradients, values)
    kept, momentum = values["alpha"].to(parameters), values["momentum"].to(parameters)
    scaled = gradients * (1 - values["alpha"]).to(parameters)
    eps, size = values["eps"].to(parameters), -values["lr"].to(parameters)
    rests = momentum == 0
    held, fresh = _resting(rests, momentum, torch.ones_like(momentum))
    square = state["square"].mul_(kept).addcmul_(gradients, scaled)
    torch.sqrt(square, out=scaled).add_(eps)
    velocity = state["velocity"].mul_(held).addcmul_(torch.div(gradients, scaled, out=scaled), fresh)
    parameters.addcmul_(torch.where(rests, scaled, velocity, out=scaled), size)


def _adagrad(parameters: Tensor, gradients: Tensor, state: State, values: Values, steps: Tensor) -> None:
    gradients = _decayed(parameters, gradients, values)
    size = -(values["lr"] / (1 + (steps - 1) * values["lr_decay"])).to(parameters)
    eps, spread = values["eps"].to(parameters), torch.empty_like(parameters)
    total = state["sum"].addcmul_(gradients, gradients)
    torch.sqrt(total, out=spread).add_(eps)
    parameters.addcmul_(torch.div(gradients, spread, out=spread), size)


def _adadelta(parameters: Tensor, gradients: Tensor, state: State, values: Values, steps: Tensor) -> None:  # noqa: ARG001
    gradients = _decayed(parameters, gradients, values)
    kept, fresh, eps = (value.to(parameters) for value in (values["rho"], 1 - values["rho"], values["eps"]))
    size, scaled = -values["lr"].to(parameters), gradients * fresh
    spread, change = torch.empty_like(parameters), torch.empty_like(parameters)
    square, moved = state["square"].mul_(kept).addcmul_(gradients, scaled), state["moved"]
    torch.add(square, eps, out=spread).sqrt_()
    torch.add(moved, eps, out=change).sqrt_().div_(spread).mul_(gradients)
    moved.mul_(kept).addcmul_(change, torch.mul(change, fresh, out=scaled))
    parameters.addcmul_(change, size)


def _adamax(parameters: Tensor, gradients: Tensor, state: State, values: Values, steps: Tensor) -> None:
    gradients = _decayed(parameters, gradients, values)
    first, largest = state["first"], state["largest"]
    weight, kept = (1 - values["beta1"]).to(first), values["beta2"].to(first)
    size = -(values["lr"] / (1 - values["beta1"] ** steps)).to(first)
    floor, ratio = gradients.abs() + values["eps"].to(first), torch.empty_like(first)
    first.lerp_(gradients, weight)
    torch.maximum(largest.mul_(kept), floor, out=largest)
    parameters.addcmul_(torch.div(first, largest, out=ratio), size)


def _decayed_either_way(parameters: Tensor, gradients: Tensor, values: Values) -> tuple[Tensor, Tensor]:
    """Gradients with the decay, and what parameters are multiplied with: each where the other is not asked for."""
    apart, decay = values["decoupled_weight_decay"] > 0, values["weight_decay"]
    kept = torch.where(apart, 1 - values["lr"] * decay, 1.0).to(parameters)
    return torch.addcmul(gradients, parameters, torch.where(apart, 0.0, decay).to(parameters)), kept


def _nadam(parameters: Tensor, gradients: Tensor, state: State, values: Values, steps: Tensor) -> None:
    gradients, shrunk = _decayed_either_way(parameters, gradients, values)
    beta1, beta2, rate = values["beta1"], values["beta2"], values["lr"]
    first, second, product = state["first"], state["second"], state["product"]
    momentum, ahead = (beta1 * (1 - 0.5 * 0.96 ** (made * values["momentum_decay"])) for made in (steps, steps + 1))
    together = product * momentum.to(product)
    now = -(rate * (1 - momentum) / (1 - together)).to(first)
    later = -(rate * ahead / (1 - together * ahead)).to(first)
    weight, kept, eps = (1 - beta1).to(first), beta2.to(second), values["eps"].to(second)
    correction, scaled = (1 - beta2**steps).to(second), gradients * (1 - beta2).to(second)
    spread = torch.empty_like(second)
    parameters.mul_(shrunk)
    first.lerp_(gradients, weight)
    second.mul_(kept).addcmul_(gradients, scaled)
    torch.div(second, correction, out=spread).sqrt_().add_(eps)
    parameters.addcmul_(torch.div(gradients, spread, out=scaled), now)
    parameters.addcmul_(torch.div(first, spread, out=scaled), later)
    product.copy_(together)


def _radam(parameters: Tensor, gradients: Tensor, state: State, values: Values, steps: Tensor) -> None:
    gradients, shrunk = _decayed_either_way(parameters, gradients, values)
    beta1, beta2 = values["beta1"], values["beta2"]
    first, second = state["first"], state["second"]
    limit, left = 2 / (1 - beta2) - 1, 1 - beta2**steps
    length = limit - 2 * steps * beta2**steps / left  # of the average of squares, in steps; it adapts above 5
    share = ((length - 4) * (length - 2) * limit / ((limit - 4) * (limit - 2) * length)).clamp(min=0)
    adaptive, factor, one = length > 5, (share * left).sqrt().to(first), torch.ones_like(length).to(first)
    size = -(values["lr"] / (1 - beta1**steps)).to(first)
    weight, kept, eps = (1 - beta1).to(first), beta2.to(second), values["eps"].to(second)
    scaled, spread = gradients * (1 - beta2).to(second), torch.empty_like(second)
    parameters.mul_(shrunk)
    first.lerp_(gradients, weight)
    second.mul_(kept).addcmul_(gradients, scaled)
    torch.sqrt(second, out=spread).add_(eps)
    torch.div(factor, spread, out=spread)
    torch.where(adaptive, spread, one, out=spread)
    parameters.addcmul_(spread.mul_(first), size)


_ADAM = {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8}

OPTIMIZERS: Mapping[str, Optimizer] = {
    optimizer.name: optimizer
    for optimizer in (
        Optimizer("adam", {**_ADAM, "weight_decay": 0.0}, ("first", "second"), _adam_l2),
        Optimizer("adamw", {**_ADAM, "weight_decay": 0.01}, ("first", "second"), _adamw),
        Optimizer(
            "sgd",
            {"lr": 1e-3, "momentum": 0.0, "dampening": 0.0, "weight_decay": 0.0, "nesterov": 0.0},
            ("velocity",),
            _sgd,
            counts="momentum",  # the first velocity is a gradient as a whole, whenever that is
        ),
        Optimizer(
            "rmsprop",
            {"lr": 1e-2, "alpha": 0.99, "eps": 1e-8, "weight_decay": 0.0, "momentum": 0.0},
            ("square", "velocity"),
            _rmsprop,
        ),
        Optimizer(
            "adagrad",
            {"lr": 1e-2, "lr_decay": 0.0, "weight_decay": 0.0, "initial_accumulator_value": 0.0, "eps": 1e-10},
            ("sum",),
            _adagrad,
        ),
        Optimizer(
            "adadelta", {"lr": 1.0, "rho": 0.9, "eps": 1e-6, "weight_decay": 0.0}, ("square", "moved"), _adadelta
        ),
        Optimizer("adamax", {**_ADAM, "lr": 2e-3, "weight_decay": 0.0}, ("first", "largest"), _adamax),
        Optimizer(
            "nadam",
            {**_ADAM, "lr": 2e-3, "weight_decay": 0.0, "momentum_decay": 4e-3, "decoupled_weight_decay": 0.0},
            ("first", "second", "product"),
            _nadam,
        ),
        Optimizer("radam", {**_ADAM, "weight_decay": 0.0, "decoupled_weight_decay": 0.0}, ("first", "second"), _radam),
    )
}


def make_optimizer(name: str) -> Optimizer:
    """The optimizer of that name; a `ValueError` names those there are."""
    if name not in OPTIMIZERS:
        raise ValueError(f"unknown optimizer {name!r}: {nearest(name, OPTIMIZERS)}")
    return OPTIMIZERS[name]
