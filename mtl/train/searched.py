"""Steps of an optimizer that evaluates a function several times in each: L-BFGS."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtl.balancer import Balancer
from mtl.step.passes import frozen_statistics, random_states, replayed_randomness
from mtl.train.penalties import Penalties


class _NotFinite(ArithmeticError):
    """An evaluation gave something that is not finite; the message is the kind of step that counts it."""


class Searched:
    """Makes steps that evaluate the losses of their batch several times.

    All evaluations of a step are of one function: the losses of the batch under the weights that the strategy gave at
    the first one, and penalties. Later ones draw what the first one drew and leave running statistics alone. An absent
    task is no part of the function.

    A step in which a loss, the function or its gradient is not finite is left out: parameters and what the optimizer
    remembers are as before it. To go on with the other tasks, as elsewhere, would put the difference of the gradients
    of two functions into that memory.

    Args:
        optimizer: evaluates a closure.
        penalties: parts of the function.
        balancer: counts what is not finite at the first evaluation.
        names: of the losses, in the order of the weights.
        device: of the model.

    Attributes:
        backwards: backward passes of evaluations after the first.
        left_out: steps by what was not finite in these.
    """

    def __init__(
        self,
        optimizer: torch.optim.Optimizer,
        penalties: Penalties,
        balancer: Balancer,
        names: Sequence[str],
        device: torch.device,
    ) -> None:
        self._optimizer, self._penalties, self._balancer = optimizer, penalties, balancer
        self._names, self._device = names, device
        self.backwards, self.left_out = 0, Counter[str]()

    def step(
        self, weigh: Callable[[], tuple[Tensor, dict[str, Tensor]]], read: Callable[[], Mapping[str, Tensor]]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """One step.

        Args:
            weigh: adds the gradients of the weighted losses to `.grad`; gives all weights, and the losses by name.
            read: the same losses again, with their graph.

        Returns:
            What `weigh` gave.
        """
        states, seen = random_states(self._device), self._balancer.skipped
        weights, losses = weigh()
        counted = self._balancer.skipped - seen
        if not losses or counted["nonfinite_loss"] or counted["nonfinite_gradient"]:
            return weights, losses
        parts = {name: weight for name, weight in zip(self._names, weights, strict=True) if name in losses}
        self._penalties.apply()
        first = [self._value(losses, parts)]

        def evaluate() -> float:
            if first:
                return self._whole(first.pop())
            self._optimizer.zero_grad(set_to_none=True)
            with frozen_statistics(), replayed_randomness(states, self._device):
                value = self._value(read(), parts)
            value.backward()
            self.backwards += 1
            self._penalties.apply(turn=False)
            return self._whole(value.detach())

        self._make(evaluate, counted)
        return weights, losses

    def _make(self, evaluate: Callable[[], float], counted: Counter[str]) -> None:
        """Make the optimizer's step, or leave it out; a kind that is `counted` for it already is not counted twice."""
        before = _held(self._optimizer)
        try:
            self._optimizer.step(evaluate)
            if not _finite(parameter for parameter, _ in before[0]):
                raise _NotFinite("nonfinite_gradient")
        except _NotFinite as error:
            _put_back(self._optimizer, before)
            if not counted[kind := str(error)]:
                self.left_out[kind] += 1

    @staticmethod
    def _value(losses: Mapping[str, Tensor], parts: Mapping[str, Tensor]) -> Tensor:
        each = [weight * losses[name] for name, weight in parts.items()]
        return sum(each[1:], start=each[0])

    def _whole(self, losses: Tensor) -> float:
        """The function, given the value of its losses, where it and its gradient are finite."""
        value = float(losses + self._penalties.value())
        if not math.isfinite(value):
            raise _NotFinite("nonfinite_loss")
        parameters = (parameter for group in self._optimizer.param_groups for parameter in group["params"])
        if not _finite(parameter.grad for parameter in parameters if parameter.grad is not None):
            raise _NotFinite("nonfinite_gradient")
        return value

    def state_dict(self) -> dict[str, Any]:
        """Plain values."""
        return {"backwards": self.backwards, "left_out": dict(self.left_out)}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.backwards, self.left_out = saved["backwards"], Counter(saved["left_out"])


def _finite(tensors: Any) -> bool:
    return all(bool(tensor.isfinite().all()) for tensor in tensors)


#: Parameters with their values, and what an optimizer remembers of each.
_Held = tuple[list[tuple[Tensor, Tensor]], list[tuple[Tensor, dict[str, Any]]]]


def _held(optimizer: torch.optim.Optimizer) -> _Held:
    """What a step may change. Tensors in lists, as L-BFGS's history, are added and dropped but not written to."""

    def copied(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.clone()
        return [*value] if isinstance(value, list) else value

    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    remembered = [(p, {key: copied(value) for key, value in state.items()}) for p, state in optimizer.state.items()]
    return [(parameter, parameter.detach().clone()) for parameter in parameters], remembered


@torch.no_grad()
def _put_back(optimizer: torch.optim.Optimizer, held: _Held) -> None:
    parameters, remembered = held
    for parameter, value in parameters:
        parameter.copy_(value)
    optimizer.state.clear()
    optimizer.state.update(remembered)
