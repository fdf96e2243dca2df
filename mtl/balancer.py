"""The balancer: any strategy in anybody's training loop, in place of `loss.backward()`."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.backward import (
    accumulate_all,
    accumulate_own,
    guarded_backward,
    weighted_backward,
    weighted_backward_split,
)
from mtl.collect import Collected, Losses, collect, names
from mtl.combinators.normalize import sum_to_k
from mtl.graph import Survey, survey
from mtl.jacobian import Differentiator, Jacobian, Own, groups_within, task_gradients, unflatten
from mtl.parallel import Processes
from mtl.passes import frozen_statistics, random_states, replayed_randomness
from mtl.pieces import Rows
from mtl.signals import CLOSURES, KEEPS_GRAPH, MEASURERS, NEEDS_GRADIENTS, Measurement, flat
from mtl.strategies import make
from mtl.strategy import Strategy

_FALLBACK_EPOCH = 100


class Balancer:
    """Weighs task losses by a strategy and runs the backward pass.

        balancer = mtl.Balancer("gradnorm", shared=trunk.parameters())
        ...
        optimizer.zero_grad()
        balancer.backward(losses)  # instead of losses.sum().backward()
        optimizer.step()

    Each call measures what the strategy needs, asks it for weights, and adds `sum_k w_k grad L_k` to the `.grad` of the
    shared parameters. Every other leaf of the losses' graph counts as a task's own (its head).

    A task whose loss is absent or not finite is masked for the step: the strategy is not updated, the other tasks keep
    the previous step's weights, and `skipped` counts it. The same holds for weights or gradients that are not finite.

    Args:
        spec: a strategy or its spec, such as `famo` or `uncertainty+mgda`.
        shared: the parameters that all tasks share, on which gradients are compared.
        num_tasks: checked against the losses when given.
        tasks: the names of all tasks in order; only needed when a dict of losses may lack one on the first step.
        head_weighting: heads receive their loss's gradient `weighted` as the shared parameters do, or their `own`.
        scale: `sum_to_k` scales the weights to sum |w| = K, so that strategies share one effective learning rate;
            `raw` applies them as the paper has them.
        steps_per_epoch: for strategies that average over epochs (dwa).
        seed: of the noise that stochastic strategies read.
        scaler: a `torch.amp.GradScaler`; gradients are unscaled before they are measured and scaled when applied.
        batching: how the K passes through the trunk are made: `loop`, one after another; `vmap`, as one; `auto` times
            both in the third step and keeps the faster (which is part of `state_dict`). They differ by rounding.
        memory_limit: bytes that task gradients may take. Above it the Gramian is measured on a few parameters at a
            time, each group with K passes through the trunk down to its own depth, and applied by one more pass.
        measured_on: measure the Gramian on these of the shared parameters only, such as the last shared layer
            (GradNorm); costs K passes down to them, and one through everything.
        distributed: average losses and task gradients over the processes of `torch.distributed`; by default where
            there are several. All of them then apply the same weights. The balancer does all averaging, so the forward
            pass is one of the plain module (`ddp.module`), not of its `DistributedDataParallel` wrapper.
        hyperparameters: of the strategy, over those in the spec.
    """

    def __init__(
        self,
        spec: str | Strategy,
        shared: Iterable[Tensor],
        num_tasks: int | None = None,
        *,
        tasks: Sequence[str] | None = None,
        head_weighting: str = "weighted",
        scale: str = "sum_to_k",
        steps_per_epoch: int | None = None,
        seed: int = 0,
        scaler: torch.amp.GradScaler | None = None,
        batching: str = "auto",
        memory_limit: int | None = None,
        measured_on: Iterable[Tensor] | None = None,
        distributed: bool | None = None,
        **hyperparameters: Any,
    ) -> None:
        self.strategy = make(spec, **hyperparameters)
        self.shared = [parameter for parameter in shared if parameter.requires_grad]
        if not self.shared:
            raise ValueError("shared holds no parameter that requires grad (was a generator already used up?)")
        for option, value, allowed in (
            ("head_weighting", head_weighting, ("weighted", "own")),
            ("scale", scale, ("sum_to_k", "raw")),
        ):
            if value not in allowed:
                raise ValueError(f"{option}={value!r} must be one of {', '.join(allowed)}")
        if steps_per_epoch is not None and steps_per_epoch < 1:
            raise ValueError(f"steps_per_epoch={steps_per_epoch} must be at least 1")
        self.head_weighting, self.scale = head_weighting, scale
        self.tasks = list(tasks) if tasks is not None else None
        self.num_tasks = num_tasks if num_tasks is not None else (len(self.tasks) if self.tasks else None)
        self.steps_per_epoch, self.scaler = steps_per_epoch, scaler
        if memory_limit is not None and memory_limit < 1:
            raise ValueError(f"memory_limit={memory_limit} must be a number of bytes, at least 1")
        self.memory_limit = memory_limit
        self.measured_on = None if measured_on is None else [*measured_on]
        self._shared_ids = {id(parameter) for parameter in self.shared}
        if self.measured_on is not None and not {id(parameter) for parameter in self.measured_on} <= self._shared_ids:
            raise ValueError("measured_on holds a parameter that is not among `shared` or does not require grad")
        self._differentiate = Differentiator(batching)
        self._processes = Processes(distributed)
        #: Steps by what was wrong in them: `nonfinite_loss`, `absent_task`, `nonfinite_weights`, `nonfinite_gradient`.
        self.skipped: Counter[str] = Counter()
        #: Forward and backward passes made so far; a pass from one loss counts as one.
        self.passes: Counter[str] = Counter()
        self._noise = torch.Generator().manual_seed(seed)
        self._steps = self._updates = 0
        self._state: Any = None
        self._weights: Tensor | None = None
        self._recompute: tuple[Callable[[], Losses], tuple[Tensor, Tensor | None]] | None = None
        self._after: Tensor | None = None
        self._loaded: list[Tensor] | None = None
        self._checked = False
        if self.num_tasks is not None:
            self.strategy.check_tasks(self.num_tasks)

    @property
    def weights(self) -> Tensor:
        """The weights applied last, (K,) or (K, D) and scaled as `scale` says; an error before the first step."""
        if self._weights is None:
            raise RuntimeError("there are no weights before the first backward()")
        return self._weights

    @property
    def state(self) -> Any:
        """The strategy's own state (learned weights, moments, histories); None before the first step."""
        return self._state

    def backward(
        self,
        losses: Losses,
        *,
        recompute: Callable[[], Losses] | None = None,
        validation: Callable[[], Losses] | None = None,
        fresh: Callable[[], Losses] | None = None,
        lookahead_lr: float | None = None,
        features: Tensor | Sequence[Tensor] | None = None,
    ) -> Tensor:
        """Weigh the losses and add the gradients of their weighted sum to `.grad`.

        Args:
            losses: (K,) tensor or a dict of scalars by task name.
            recompute: reads the losses of this same batch again; called without grad at the start of the next step,
                by strategies that ask for `after` (famo).
            validation: reads the losses of a validation batch, for strategies that ask for `align` (auto-lambda) or
                `implicit` (auxilearn).
            fresh: reads the losses of another training batch, a new one at each call, for strategies that ask for
                `cross` (sdmgrad, modo).
            lookahead_lr: step size of the lookahead for `align`; usually the optimizer's learning rate.
            features: measure the Gramian on these intermediate activations instead of the shared parameters (MGDA-UB);
                costs K backward passes down to them and one through the trunk.

        Returns:
            The weights applied, (K,) or (K, D), detached.
        """
        self._read_after()
        batch = self._collect(losses)
        values = batch.values
        if self._state is None:
            self._start(values)
        self._note_absences(batch)
        needs = self.strategy.needs_at(self._updates) if batch.whole else frozenset()
        given = {"recompute": recompute, "validation": validation, "fresh": fresh, "lookahead_lr": lookahead_lr}
        self._check_needs(needs, given, features)
        signals = {"losses": values, **self._cheap_signals(needs, values)}
        self._steps += 1
        if not batch.present:
            return self._kept(values)
        if not batch.whole and not self.strategy.elementwise:
            return self._broken_step(batch)
        if "implicit" in needs and self._processes.number > 1:
            raise ValueError(f"{self.strategy} needs the Hessian and cannot train over several processes")
        if features is not None and needs & NEEDS_GRADIENTS:
            signals["gramian"] = self._feature_gramian(batch, features)
            weights = self._weigh(signals, values)
            self._apply_by_backward(batch, weights)
        elif needs & NEEDS_GRADIENTS or self.strategy.elementwise:
            groups = self._groups(batch, needs)
            if groups:
                weights = self._step_by_gramian(batch, signals, groups)
            else:
                weights = self._step_by_jacobian(batch, signals, needs, given)
        else:
            self._measure(signals, needs, batch, given)
            weights = self._weigh(signals, values)
            self._apply_by_backward(batch, weights)
        if "after" in needs and recompute is not None:
            self._recompute = recompute, random_states(self.shared[0].device)
        return weights

    # --- measure ---------------------------------------------------------------------------------------------------

    def _collect(self, losses: Losses) -> Collected:
        """The losses in the order of the tasks, which the first ones name."""
        if self.tasks is None and isinstance(losses, Mapping) and losses:
            self.tasks = names(losses, self.num_tasks)
        batch = collect(losses, self.tasks, self.num_tasks)
        self.num_tasks = len(batch.values)
        return batch if self._processes.number == 1 else batch.averaged(self._processes.mean)

    def _start(self, values: Tensor) -> None:
        self.strategy.check_tasks(len(values))
        self._state = self.strategy.init_sized(values, self._dimension())
        if self._loaded is not None:
            spec = pytree.tree_structure(self._state)
            if spec.num_leaves != len(self._loaded):
                raise ValueError(f"the loaded state is not one of {self.strategy}")
            self._state = pytree.tree_unflatten([leaf.to(values.device) for leaf in self._loaded], spec)
            self._loaded = None

    def _dimension(self) -> int:
        return sum(parameter.numel() for parameter in self.shared)

    def _note_absences(self, batch: Collected) -> None:
        if batch.absent:
            self.skipped["absent_task"] += 1
        if len(batch.present) + batch.absent < len(batch.values):
            self.skipped["nonfinite_loss"] += 1

    def _check_needs(
        self, needs: frozenset[str], given: Mapping[str, Any], features: Tensor | Sequence[Tensor] | None
    ) -> None:
        wanted = {name: text for signal, asked in CLOSURES.items() if signal in needs for name, text in asked.items()}
        missing = [f"{name}={text}" for name, text in wanted.items() if given[name] is None]
        if missing:
            read = ", ".join(sorted(needs & CLOSURES.keys()))
            raise ValueError(f"{self.strategy} reads {read}: call backward(losses, {', '.join(missing)})")
        if "implicit" in needs and self._processes.number > 1:
            raise ValueError(f"{self.strategy} needs the Hessian and cannot train over several processes")
        if features is not None and needs & {"jacobian", "dither", *MEASURERS}:
            raise ValueError(f"{self.strategy} needs gradients on the shared parameters and cannot use features=")

    def _cheap_signals(self, needs: frozenset[str], values: Tensor) -> dict[str, Tensor]:
        signals = {}
        if "noise" in needs:
            draw = torch.randn(len(values), len(values), generator=self._noise, dtype=torch.float64)
            signals["noise"] = draw.to(values)
        if "dither" in needs:
            signals["dither"] = torch.rand(self._dimension(), generator=self._noise, dtype=torch.float32).to(values)
        if "epoch" in needs:
            if self.steps_per_epoch is None:
                warnings.warn(
                    f"{self.strategy} averages over epochs and steps_per_epoch was not given: "
                    f"{_FALLBACK_EPOCH} steps count as one",
                    stacklevel=3,
                )
                self.steps_per_epoch = _FALLBACK_EPOCH
            signals["epoch"] = torch.tensor(self._steps // self.steps_per_epoch, device=values.device)
        if "after" in needs:
            signals["after"] = values if self._after is None else self._after
        return signals

    def _read_after(self) -> None:
        """Read the previous batch's losses at the parameters that the optimizer's step led to."""
        if self._recompute is not None:
            recompute, states = self._recompute
            with torch.no_grad(), frozen_statistics(), replayed_randomness(states, self.shared[0].device):
                self._after = self._collect(recompute()).values
            self._recompute = None
            self.passes["forward"] += 1

    def _feature_gramian(self, batch: Collected, features: Tensor | Sequence[Tensor]) -> Tensor:
        wanted = [features] if isinstance(features, Tensor) else list(features)
        scale = self._loss_scale(batch)
        rows = task_gradients(batch.present, wanted, scale=scale, retain_graph=True)
        self.passes["backward"] += len(batch.present)
        columns = [
            torch.stack([torch.zeros_like(at) if row is None else row for row in column])
            for column, at in zip(zip(*rows, strict=True), wanted, strict=True)
        ]
        pieces = [Rows([at], column.flatten(1)) for at, column in zip(wanted, columns, strict=True)]
        gramian = Jacobian(pieces, wanted, len(rows)).gramian()
        # Every process has its own examples, hence its own features: G is the sum over all of them.
        gramian = self._processes.mean(gramian) / self._processes.number
        return self._unscaled(gramian, batch, 2)

    def _groups(self, batch: Collected, needs: frozenset[str]) -> list[list[Tensor]]:
        """The parameters to measure the Gramian on, a few at a time; empty where the whole Jacobian is taken."""
        wanted = self.shared if self.measured_on is None else self.measured_on
        groups = groups_within(self.memory_limit, wanted, len(batch.values))
        if self.measured_on is None and len(groups) == 1:
            return []
        if needs & {"jacobian", *MEASURERS} or self.strategy.elementwise:
            option = "measured_on=" if self.measured_on is not None else f"memory_limit={self.memory_limit}"
            raise ValueError(f"{self.strategy} needs every task gradient at once and cannot do with {option}")
        return groups

    def _survey(self, batch: Collected) -> Survey:
        """What the losses reach; in the first whole step with complaints."""
        found = survey(batch.present, self._shared_ids)
        if batch.whole and not self._checked:
            if not any(found.reaches):
                raise ValueError("no loss depends on any shared parameter: is `shared` the trunk of this model?")
            if not all(found.reaches):
                task = found.reaches.index(False)
                name = repr(self.tasks[task]) if self.tasks else str(task)
                raise ValueError(
                    f"the loss of task {name} reaches no shared parameter: is its graph cut by detach() or no_grad()? "
                    "A task with parameters of its own only has nothing to weigh: call its backward() yourself"
                )
            self._checked = True
        return found

    def _measure(
        self,
        signals: dict[str, Tensor],
        needs: frozenset[str],
        batch: Collected,
        given: Mapping[str, Any],
        train: Tensor | None = None,
        heads: Sequence[Tensor] = (),
    ) -> None:
        """Add to the signals those that `MEASURERS` measure; entries that are not finite count as zero."""
        if not needs & MEASURERS.keys():
            return

        def read(closure: str) -> tuple[Sequence[Any], Sequence[int], int]:
            other = self._collect(given[closure]())
            return other.present, other.tasks, len(other.values)

        def current() -> Tensor:
            return self._on_scale(self.strategy.current(self._state, signals)).detach()

        step = Measurement(
            self.shared,
            heads,
            lambda: _stacked(batch),
            batch.values[:0] if train is None else train,
            current,
            read,
            self._differentiate,
            self._processes.mean,
            {**self.strategy.measuring, "lookahead_lr": given["lookahead_lr"]},
            self.passes,
        )
        for name, measure in MEASURERS.items():
            if name in needs:
                measured = measure(step)
                signals[name] = torch.where(measured.isfinite(), measured, 0).to(batch.values.dtype)

    # --- weigh -----------------------------------------------------------------------------------------------------

    def _weigh(self, signals: dict[str, Tensor], values: Tensor) -> Tensor:
        """New weights and state; where either is not finite, the previous ones."""
        weights, state = self.strategy(self._state, signals)
        if not bool(weights.isfinite().all()):
            self.skipped["nonfinite_weights"] += 1
            return self._kept(values)
        self._state = state
        self._updates += 1
        self._weights = self._on_scale(weights).detach()
        return self._weights

    def _on_scale(self, weights: Tensor) -> Tensor:
        return sum_to_k(weights) if self.scale == "sum_to_k" else weights

    def _kept(self, values: Tensor) -> Tensor:
        if self._weights is None:
            self._weights = torch.ones_like(values)
        return self._weights

    # --- apply -----------------------------------------------------------------------------------------------------

    def _apply_by_backward(self, batch: Collected, weights: Tensor) -> None:
        scale = self._loss_scale(batch)
        seeds = weights if scale is None else weights * scale
        if self.head_weighting == "weighted" and self._processes.number == 1:
            weighted_backward([batch.total] if batch.total is not None else batch.tensors, seeds)
        else:
            plain = torch.ones_like(weights) if scale is None else scale.expand_as(weights)
            on_heads = seeds if self.head_weighting == "weighted" else plain
            weighted_backward_split(_stacked(batch), seeds, on_heads, self.shared, self._processes.mean)
        self.passes["backward"] += 1

    def _broken_step(self, batch: Collected) -> Tensor:
        """Some task is absent or not finite: the others go on with the previous weights."""
        weights = self._kept(batch.values)
        scale = self._loss_scale(batch)
        on_shared = weights[batch.tasks] if scale is None else weights[batch.tasks] * scale
        plain = torch.ones_like(on_shared) if scale is None else scale.expand_as(on_shared)
        on_heads = on_shared if self.head_weighting == "weighted" else plain
        if not guarded_backward(batch.present, on_shared, on_heads, self._shared_ids, self._processes.mean):
            self.skipped["nonfinite_gradient"] += 1
        self.passes["backward"] += len(batch.present)
        return weights

    def _step_by_gramian(self, batch: Collected, signals: dict[str, Tensor], groups: list[list[Tensor]]) -> Tensor:
        """Measure the Gramian without holding the Jacobian, and apply by one weighted pass."""
        gramian, passes = self._differentiate.gramian(
            batch.present,
            groups,
            self._survey(batch),
            scale=self._loss_scale(batch),
            average=self._processes.mean_jacobian,
        )
        self.passes["backward"] += passes
        signals["gramian"] = self._unscaled(gramian, batch, 2)
        if bool(gramian.isfinite().all()):
            weights = self._weigh(signals, batch.values)
        else:
            self.skipped["nonfinite_gradient"] += 1
            weights = self._kept(batch.values)
        self._apply_by_backward(batch, weights)
        return weights

    def _step_by_jacobian(
        self, batch: Collected, signals: dict[str, Tensor], needs: frozenset[str], given: Mapping[str, Any]
    ) -> Tensor:
        found, scale = self._survey(batch), self._loss_scale(batch)
        jacobian, own = self._differentiate(
            batch.present, self.shared, found, scale=scale, retain_graph=bool(needs & KEEPS_GRAPH)
        )
        self.passes["backward"] += len(batch.present)
        jacobian, own = self._processes.mean_jacobian(jacobian), self._processes.mean_own(own)
        gramian = jacobian.gramian() if "gramian" in needs else None
        # The lengths tell which rows are finite, and cost no further reading of the Jacobian.
        finite = jacobian.finite() if gramian is None else gramian.diagonal().isfinite()
        if not bool(finite.all()):
            self.skipped["nonfinite_gradient"] += 1
            needs = frozenset()
            if self.scaler is None:  # one bad row must not spoil the others; under AMP the scaler has to see it
                jacobian = jacobian.cleaned(finite)
                own = [pairs if whole else [] for pairs, whole in zip(own, finite.tolist(), strict=True)]
        rows = None
        if not needs:
            weights = self._kept(batch.values)
        else:
            if gramian is not None:
                signals["gramian"] = self._unscaled(gramian, batch, 2)
            if "jacobian" in needs:
                signals["jacobian"] = self._unscaled(jacobian.flat(), batch, 1)
            if needs & MEASURERS.keys():
                heads = found.heads
                train = self._unscaled(flat(jacobian, own, heads), batch, 1)
                self._measure(signals, needs, batch, given, train, heads)
            updates = self._updates
            weights = self._weigh(signals, batch.values)
            if self._updates > updates and self.strategy.tracking:
                rows = self.strategy.gradients(self._state, signals["jacobian"])
                rows = rows if scale is None else rows * scale
        self._apply_rows(jacobian, rows, own, weights[batch.tasks])
        return weights

    def _apply_rows(self, jacobian: Jacobian, rows: Tensor | None, own: list[Own], weights: Tensor) -> None:
        """Apply weights to the rows, or to those that the strategy keeps; a weight a coordinate leaves heads alone."""
        if rows is None and weights.ndim == 1:
            accumulate_all(self.shared, jacobian.combined(weights))
        else:
            rows = jacobian.flat() if rows is None else rows
            combined = (weights * rows).sum(0) if weights.ndim == 2 else weights.to(rows.dtype) @ rows
            accumulate_all(self.shared, unflatten(combined, self.shared))
        plain = self.head_weighting == "own" or weights.ndim == 2
        accumulate_own(own, None if plain else weights)

    def _loss_scale(self, batch: Collected) -> Tensor | None:
        """What the scaler multiplies losses by, (); None without one."""
        if self.scaler is None:
            return None
        return self.scaler.scale(torch.ones((), device=batch.values.device)).to(batch.values.dtype)

    def _unscaled(self, measured: Tensor, batch: Collected, power: int) -> Tensor:
        """A product of `power` gradients of scaled losses as that of the losses."""
        scale = self._loss_scale(batch)
        return measured if scale is None else measured / scale.to(measured.dtype) ** power

    # --- checkpoint ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, as tensors and plain values (loads with `weights_only=True`)."""
        self._read_after()
        return {
            "strategy": str(self.strategy),
            "tasks": self.tasks,
            "num_tasks": self.num_tasks,
            "state": pytree.tree_leaves(self._state) if self._state is not None else self._loaded,
            "weights": self._weights,
            "after": self._after,
            "noise": self._noise.get_state(),
            "steps": self._steps,
            "updates": self._updates,
            "steps_per_epoch": self.steps_per_epoch,
            "skipped": dict(self.skipped),
            "passes": dict(self.passes),
            "batching": dict(self._differentiate.choices),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`, bit for bit; the strategy must be the one that it was saved from."""
        if saved["strategy"] != str(self.strategy):
            raise ValueError(f"the saved state is of strategy {saved['strategy']}, this is {self.strategy}")
        self.tasks, self.num_tasks = saved["tasks"], saved["num_tasks"]
        self._state, self._loaded = None, saved["state"]
        self._weights, self._after, self._recompute = saved["weights"], saved["after"], None
        self._noise.set_state(saved["noise"].cpu())
        self._steps, self._updates = saved["steps"], saved["updates"]
        self.steps_per_epoch = saved["steps_per_epoch"]
        self.skipped, self.passes = Counter(saved["skipped"]), Counter(saved["passes"])
        self._differentiate.choices = dict(saved["batching"])


def _stacked(batch: Collected) -> Tensor:
    """The (K,) losses with their graph."""
    return batch.total if batch.total is not None else torch.stack(batch.tensors)
