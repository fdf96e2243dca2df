"""A strategy with its state, its noise and its weights between the steps of one run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.step.collect import all_finite
from mtl.step.draw import draws, sent
from mtl.step.setup import Setup
from mtl.step.subset import SubsetStep
from mtl.step.weigh import Blockwise, StrategyStep, proposed, scale_of, weighed
from mtl.strategies.strategy import Signals

_FALLBACK_EPOCH = 100


class Weigher:
    """A strategy, its state, its noise and its weights.

    Args:
        setup: of the balancer.
        seed: of the noise.
        steps_per_epoch: for the signal `epoch`.
    """

    def __init__(self, setup: Setup, *, seed: int, steps_per_epoch: int | None) -> None:
        self.strategy, self.steps_per_epoch = setup.strategy, steps_per_epoch
        self.state: Any = None
        self.weights: Tensor | None = None
        self.steps = self.updates = 0
        self._setup, self._loss_scale, self._blocks = setup, setup.loss_scale, setup.blocks
        self._on_scale = scale_of(setup.scale, setup.blocks)
        self._step: StrategyStep = self.strategy if self._blocks == 1 else Blockwise(self.strategy)
        self._noise = torch.Generator().manual_seed(seed)
        self._loaded: list[Tensor] | None = None
        self._subset: SubsetStep | None = None
        #: Tasks that some step has weighed, where that is not all.
        self._met: set[int] | None = set() if setup.subset else None

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
                self.weights, (self.state, self.weights, self.updates), looks=self._setup.host_checks
            )

    def drawn(self, needs: frozenset[str], values: Tensor, dimension: int) -> dict[str, Tensor]:
        """The signals that are neither losses nor gradients; the step counts from here on."""
        signals = {name: sent(draw, values) for name, draw in draws(needs, len(values), dimension, self._noise).items()}
        if "epoch" in needs:
            if self.steps_per_epoch is None:
                warnings.warn(
                    f"{self.strategy} averages over epochs and steps_per_epoch was not given: "
                    f"{_FALLBACK_EPOCH} steps count as one",
                    stacklevel=5,
                )
                self.steps_per_epoch = _FALLBACK_EPOCH
            signals["epoch"] = torch.full((), self.steps // self.steps_per_epoch, device=values.device)
        self.steps += 1
        return signals

    def weigh(self, signals: Signals, whole: Tensor | None, tasks: Sequence[int]) -> tuple[Tensor, bool]:
        """New weights and state, or the previous ones, as `mtl.step.weigh.weighed` rules; counts what went wrong.

        Args:
            signals: what was measured, with a `gramian` (K, K), or (blocks, K, K), of `tasks`.
            whole: () whether all that was measured is finite, if the host has not looked.
            tasks: the tasks that the strategy is to see; the others keep their weights.

        Returns:
            The weights of all tasks on their scale, (K,), (K, D) or (blocks, K), and whether the strategy was updated,
            which is True where only the device knows.
        """
        held, step, tally = self.held(signals["losses"]), self._step_of(signals, tasks), self._setup.tally
        scale: Callable[[Tensor], Tensor] = self._on_scale
        if len(tasks) < signals["losses"].shape[0]:
            scale = partial(self._among, held, tasks)
        if whole is None:  # the host looks here too, at the sum of the weights: a third of the price of each
            new = proposed(step, self.state, signals, scale)
            if not all_finite(new.raw):
                tally.add("nonfinite_weights")
                return held, False
            weights, state = new.weights, new.state
        else:
            weights, state, good = weighed(step, self.state, held, signals, whole, scale)
            tally.add("nonfinite_weights", ~good & whole)
        self.state, self.weights = state, weights
        self.updates += 1
        if self._met is not None:
            self._met.update(tasks)
        return weights, True

    def _step_of(self, signals: Signals, tasks: Sequence[int]) -> StrategyStep:
        """The strategy's step on some tasks; on all of them it is the strategy's own, unless some are new."""
        new = [task for task in tasks if task not in self._met] if self._met is not None and self.updates else []
        if len(tasks) == signals["losses"].shape[0] and not new:
            return self._step
        if self._subset is None:
            self._subset = SubsetStep(self.strategy, signals["losses"])
        on_some = partial(self._subset, tasks=tasks, new=new)
        return on_some if self._blocks == 1 else Blockwise(on_some)

    def _among(self, held: Tensor, tasks: Sequence[int], weights: Tensor) -> Tensor:
        """The weights of all tasks, on their scale, where only some have new ones."""
        merged = held.clone()
        merged[..., list(tasks)] = self._on_scale(weights).to(merged.dtype)
        return merged

    def tracked(self, rows: Tensor) -> Tensor:
        """The gradients (K, D) that the weights of an updated step apply to, from those of the step."""
        return self.strategy.gradients(self.state, rows)

    def current(self, signals: Signals) -> Tensor:
        """The weights before this step's measurements of other batches."""
        return self._on_scale(self.strategy.current(self.state, signals)).detach()

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
