"""Weighing: a strategy with its state between steps, and what happens to a step that went wrong."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.step.amp import LossScale
from mtl.step.collect import all_finite
from mtl.step.subset import SubsetStep
from mtl.step.tally import Tally
from mtl.strategies.combinators.normalize import sum_to_k
from mtl.strategies.strategy import Strategy

_FALLBACK_EPOCH = 100


class Weigher:
    """A strategy, its state, its noise and its weights.

    Args:
        strategy: says how to weigh.
        scale: `sum_to_k` or `raw`.
        seed: of the noise.
        steps_per_epoch: for the signal `epoch`.
        blocks: number of blocks of parameters; with more than one each has a state of its own.
        looks: whether the host looks at weights, and waits for the device.
        loss_scale: tells which steps a `GradScaler` skipped.
        tally: counts what went wrong.
        subset: whether the strategy may see some of the tasks only.
    """

    def __init__(
        self,
        strategy: Strategy,
        *,
        scale: str,
        seed: int,
        steps_per_epoch: int | None,
        blocks: int,
        looks: bool,
        loss_scale: LossScale | None,
        tally: Tally,
        subset: bool = False,
    ) -> None:
        self.strategy, self.steps_per_epoch = strategy, steps_per_epoch
        self.state: Any = None
        self.weights: Tensor | None = None
        self.steps = self.updates = 0
        self._scale, self._blocks, self._looks = scale, blocks, looks
        self._loss_scale, self.tally = loss_scale, tally
        self._noise = torch.Generator().manual_seed(seed)
        self._loaded: list[Tensor] | None = None
        self._subset: SubsetStep | None = None
        #: Tasks that some step has weighed, where that is not all.
        self._met: set[int] | None = set() if subset else None

    @property
    def needs(self) -> frozenset[str]:
        """The signals that the next step will read."""
        return self.strategy.needs_at(self.updates)

    def start(self, values: Tensor, dimension: int, moved: tuple[Tensor, Tensor] | None = None) -> None:
        """Make the state before the first step, or take up the loaded one; move its columns if the parameters changed.

        Args:
            values: the losses (K,).
            dimension: D, the number of columns of a Jacobian.
            moved: the former and the new columns of parameters that had some before and still do, if D was another.
        """
        begun = self.state is not None
        if not begun:
            self.strategy.check_tasks(len(values))
            states = [self.strategy.init_sized(values, dimension) for _ in range(self._blocks)]
            self.state = states[0] if self._blocks == 1 else tuple(states)
            if self._loaded is not None:
                spec = pytree.tree_structure(self.state)
                if spec.num_leaves != len(self._loaded):
                    raise ValueError(f"the loaded state is not one of {self.strategy}")
                self.state = pytree.tree_unflatten(self._loaded, spec)
                self._loaded, begun = None, True
        if begun and moved is not None and self._blocks == 1:
            self._move_columns(values, dimension, *moved)
            if self._loss_scale is not None:
                self._loss_scale.forget()
        if self._loss_scale is not None:
            self._loss_scale.begin(values, (self.state, self.held(values), self.updates))

    def _move_columns(self, values: Tensor, dimension: int, former: Tensor, new: Tensor) -> None:
        """Numbers of the state that belong to columns go along with these; new columns begin as at the first step."""

        def begin(size: int) -> list[Tensor]:
            return pytree.tree_leaves(self.strategy.init_sized(values, size))

        leaves, spec = pytree.tree_flatten(self.state)
        by_column = [one.shape != other.shape for one, other in zip(begin(1), begin(2), strict=True)]

        def moved(old: Tensor, fresh: Tensor) -> Tensor:
            fresh = fresh.clone()
            fresh[..., new] = old[..., former]
            return fresh

        self.state = pytree.tree_unflatten(
            [
                moved(old, fresh) if sized else old
                for old, fresh, sized in zip(leaves, begin(dimension), by_column, strict=True)
            ],
            spec,
        )
        if self.weights is not None and self.weights.ndim == 2:
            self.weights = moved(self.weights, self.weights.new_ones(len(values), dimension))

    def settle(self) -> None:
        """Take back the updates of steps that the scaler has skipped since."""
        if self._loss_scale is not None and self.weights is not None:
            self.state, self.weights, self.updates = self._loss_scale.settled(
                self.weights, (self.state, self.weights, self.updates), looks=self._looks
            )

    def drawn(self, needs: frozenset[str], values: Tensor, dimension: int) -> dict[str, Tensor]:
        """The signals that are neither losses nor gradients."""
        signals = {}
        if "noise" in needs:
            draw = torch.randn(len(values), len(values), generator=self._noise, dtype=torch.float64)
            signals["noise"] = _sent(draw.to(values.dtype), values.device)
        if "dither" in needs:
            draw = torch.rand(dimension, generator=self._noise, dtype=torch.float32)
            signals["dither"] = _sent(draw.to(values.dtype), values.device)
        if "epoch" in needs:
            if self.steps_per_epoch is None:
                warnings.warn(
                    f"{self.strategy} averages over epochs and steps_per_epoch was not given: "
                    f"{_FALLBACK_EPOCH} steps count as one",
                    stacklevel=4,
                )
                self.steps_per_epoch = _FALLBACK_EPOCH
            signals["epoch"] = torch.full((), self.steps // self.steps_per_epoch, device=values.device)
        self.steps += 1
        return signals

    def weigh(
        self,
        signals: Mapping[str, Tensor],
        gramians: Tensor | None = None,
        whole: Tensor | None = None,
        tasks: Sequence[int] | None = None,
    ) -> Tensor:
        """New weights and state; where either is not finite, or the step is not whole, the previous ones.

        Args:
            signals: what was measured.
            gramians: (blocks, K, K), for the signal `gramian`; of the `tasks` alone where they are given.
            whole: () whether all that was measured is finite, if the host has not looked.
            tasks: the tasks that the strategy is to see, if not all; the others keep their weights.
        """
        each = [signals] if gramians is None else [{**signals, "gramian": gramian} for gramian in gramians]
        if tasks is None:
            tasks = range(len(signals["losses"]))
        results = [self._stepped(state, given, tasks) for state, given in zip(self._states(), each, strict=True)]
        weights = torch.stack([raw for raw, _ in results]) if len(results) > 1 else results[0][0]
        state = tuple(after for _, after in results) if len(results) > 1 else results[0][1]
        before = self.state, self.held(signals["losses"])
        scaled = self._among(before[1], self.on_scale(weights).detach(), tasks)
        if self._looks:
            if not all_finite(weights):
                self.tally.add("nonfinite_weights")
                return before[1]
        else:
            assert whole is not None
            finite = weights.isfinite().all()
            self.tally.add("nonfinite_weights", ~finite & whole)
            kept = finite & whole
            state, scaled = pytree.tree_map(lambda new, old: torch.where(kept, new, old), (state, scaled), before)
        self.state, self.weights = state, scaled
        self.updates += 1
        if self._met is not None:
            self._met.update(tasks)
        return scaled

    def _stepped(self, state: Any, signals: Mapping[str, Tensor], tasks: Sequence[int]) -> tuple[Tensor, Any]:
        """The strategy's step on some tasks; on all of them it is the strategy's own, unless some are new."""
        total = len(signals["losses"])
        new = [task for task in tasks if task not in self._met] if self._met is not None and self.updates else []
        if len(tasks) == total and not new:
            return self.strategy(state, signals)
        if self._subset is None:
            self._subset = SubsetStep(self.strategy, signals["losses"])
        return self._subset(state, signals, tasks, new)

    def _among(self, before: Tensor, scaled: Tensor, tasks: Sequence[int]) -> Tensor:
        """The weights of all tasks, where only some have new ones."""
        if len(tasks) == before.shape[-1] or scaled.shape == before.shape:
            return scaled
        merged = before.clone()
        merged[..., list(tasks)] = scaled.to(merged.dtype)
        return merged

    def current(self, signals: Mapping[str, Tensor]) -> Tensor:
        """The weights before this step's measurements of other batches."""
        return self.on_scale(self.strategy.current(self.state, signals)).detach()

    def on_scale(self, weights: Tensor) -> Tensor:
        """Weights (..., K) or (K, D) as they are applied."""
        if self._scale == "raw":
            return weights
        return torch.stack([sum_to_k(own) for own in weights]) if self._blocks > 1 else sum_to_k(weights)

    def held(self, values: Tensor) -> Tensor:
        """The previous weights; ones before the first step."""
        if self.weights is None:
            self.weights = torch.ones_like(values)
            if self._blocks > 1:
                self.weights = self.weights.expand(self._blocks, -1).clone()
        return self.weights

    def state_dict(self) -> dict[str, Any]:
        """What the next step depends on."""
        return {
            "strategy": str(self.strategy),
            "state": pytree.tree_leaves(self.state) if self.state is not None else self._loaded,
            "weights": self.weights,
            "noise": self._noise.get_state(),
            "steps": self.steps,
            "updates": self.updates,
            "steps_per_epoch": self.steps_per_epoch,
            "met": None if self._met is None else sorted(self._met),
        }

    def load_state_dict(self, saved: Mapping[str, Any], device: torch.device) -> None:
        """Continue from `state_dict()` on a device, whatever device the tensors were read to."""
        if saved["strategy"] != str(self.strategy):
            raise ValueError(f"the saved state is of strategy {saved['strategy']}, this is {self.strategy}")
        self.state = None
        self._loaded, self.weights = pytree.tree_map(
            lambda leaf: leaf.to(device, copy=True) if isinstance(leaf, Tensor) else leaf,
            (saved["state"], saved["weights"]),
        )
        if self._loss_scale is not None:
            self._loss_scale.forget()
        self._noise.set_state(saved["noise"].cpu())
        self.steps, self.updates = saved["steps"], saved["updates"]
        self.steps_per_epoch = saved["steps_per_epoch"]
        if self._met is not None or saved.get("met") is not None:
            # The checkpoint of a balancer that held its weights instead has no such entry: it has weighed all or none.
            everybody: set[int] | None = None if self.updates else set()
            self._met = everybody if saved.get("met") is None else set(saved["met"])

    def _states(self) -> Sequence[Any]:
        return [self.state] if self._blocks == 1 else list(self.state)


def _sent(values: Tensor, device: torch.device) -> Tensor:
    """The values on the device, without waiting for it."""
    return values.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else values.to(device)
