"""The balancer: any strategy in anybody's training loop, in place of `loss.backward()`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mtl.gradients.checks import check_reach
from mtl.gradients.cut import cut
from mtl.gradients.graph import Output, distinct, jacobian, task_gradients
from mtl.gradients.measured import TaskGradients, measure, measure_in_passing
from mtl.gradients.task_gradients import FREED, Engine
from mtl.step.amp import LossScale
from mtl.step.apply import Applier
from mtl.step.arguments import (
    Absent,
    Batching,
    HeadWeighting,
    Scale,
    Unused,
    named_parameters,
    refuse_call,
    refuse_counts,
    refuse_options,
    refuse_sharded,
    refuse_subset,
    refuse_values,
    sharded,
)
from mtl.step.autocast import Autocast
from mtl.step.collect import Collected, Losses, collect, names
from mtl.step.diagnostics import Diagnostics, diagnose
from mtl.step.leaves import Leaves
from mtl.step.measure import KEEPS_GRAPH, MEASURERS, NEEDS_GRADIENTS, Measurement
from mtl.step.passes import frozen_statistics, random_states, replayed_randomness
from mtl.step.ranks import Ranks
from mtl.step.tally import Tally, Watch
from mtl.step.weigh import Weigher
from mtl.strategies import make
from mtl.strategies.strategy import Strategy


class Balancer:
    """Weighs task losses by a strategy and runs the backward pass.

        balancer = mtl.Balancer("gradnorm", shared=trunk.parameters())
        ...
        optimizer.zero_grad()
        balancer.backward(losses)  # instead of losses.sum().backward()
        optimizer.step()

    Each call measures what the strategy needs, asks it for weights, and adds `sum_k w_k grad L_k` to the `.grad` of the
    shared parameters. Every other leaf of the losses' graph counts as a task's own (its head). Leaves are read anew at
    each step, so layers may be frozen, unfrozen and added during training.

    A task whose loss is absent or not finite is masked for the step: the strategy is not updated, the other tasks keep
    the previous step's weights, and `skipped` counts it. The same holds for weights or gradients that are not finite.
    Where the host does not look (`host_checks`), weights, state and count are the same, but gradients are made first
    and cleared afterwards: the shared parameters may miss such a step.

    Gradients accumulate as usual: with n micro-batches to an optimizer step, call `backward(losses / n)` for each; the
    strategy weighs each by itself. Gradients in `.grad` may be clipped before the step. A module compiled by
    `torch.compile` works, and so do checkpointed ones that are not reentrant (`use_reentrant=False`). Called inside
    `torch.autocast`, a step measures, weighs and applies without it; the closures given to `backward` run under it.

    A complex parameter counts as its real and imaginary parts. Sparse gradients (`nn.Embedding(sparse=True)`) are for
    strategies that read losses only. Hooks that wait for `.grad` fire once a call, when all of it is there.

    Args:
        spec: a strategy or its spec, such as `famo` or `uncertainty+mgda`.
        shared: the parameters that all tasks share, on which gradients are compared, or the module that they are of,
            whose names errors then give. One named twice counts once, a frozen one from when it requires grad. Numbers
            that a strategy keeps for a parameter go when it is frozen.
        num_tasks: checked against the losses when given.
        tasks: the names of all tasks in order; only needed when a dict of losses may lack one on the first step.
        head_weighting: heads receive their loss's gradient `weighted` as the shared parameters do, or their `own`.
        scale: `sum_to_k` scales the weights to sum |w| = K, so that strategies share one effective learning rate;
            `raw` applies them as the paper has them.
        absent: what a step without some of its tasks does. `hold`: the strategy is not updated, and the tasks at hand
            keep their weights. `subset`: it sees and weighs these as if there were no others, and learns from them; the
            weights of a step then add up to the number of tasks at hand (with one task a step, only `scale="raw"`
            weights differ). For strategies that read losses and Gramian.
        unused: whether a shared parameter that no loss of the first whole step reaches is an `error`, or has `zero`
            gradient, as where steps go past a layer (stochastic depth, experts).
        update_every: of so many calls, the strategy weighs in the first, and the others apply the same weights: for
            gradient accumulation, the number of micro-batches to an optimizer step.
        steps_per_epoch: for strategies that average over epochs (dwa), in updates.
        seed: of the noise that stochastic strategies read.
        scaler: a `torch.amp.GradScaler`; gradients are unscaled before they are measured and scaled when applied.
        measured_on: the shared parameters to form the Gramian on, where that is not all of them: GradNorm's last
            shared layer. The weights still apply to all, by one more backward pass.
        blocks: a partition of the shared parameters; the strategy weighs each block by itself, with a Gramian and a
            state of its own (GradVac and MetaBalance in their papers), and `weights` are (blocks, K).
        batching: `vmap` goes back through what the tasks share for all of them at once, `loop` for one after another,
            `auto` chooses by the kinds of layers and the number of tasks: `loop` where there are convolutions, or fewer
            than four tasks on a CPU. All agree to rounding, and equal runs choose alike, as they would not by timing.
        memory_limit: bytes that the task gradients on shared parameters may take. Gramians are then summed layer by
            layer and the gradients dropped; applying takes one more backward pass through what the tasks share.
        process_group: of a data-parallel run. Gradients and losses are averaged over its processes before the strategy
            sees them, so that all hold the same weights, and before they reach `.grad`. The model must not average
            by itself: call the plain module, or a DistributedDataParallel one under `no_sync()`. All processes take
            the same steps with graphs of the same form.
        host_checks: whether the host looks for losses, weights and gradients that are not finite, and so waits for the
            device; by default on a CPU only. It looks in any case for strategies that skip measuring (`every`) or read
            more than losses and Gramian of one batch.
        hyperparameters: of the strategy, over those in the spec.
    """

    def __init__(
        self,
        spec: str | Strategy,
        shared: nn.Module | Iterable[Tensor],
        num_tasks: int | None = None,
        *,
        tasks: Sequence[str] | None = None,
        head_weighting: HeadWeighting = "weighted",
        scale: Scale = "sum_to_k",
        absent: Absent = "hold",
        unused: Unused = "error",
        update_every: int = 1,
        steps_per_epoch: int | None = None,
        seed: int = 0,
        scaler: torch.amp.GradScaler | None = None,
        measured_on: Iterable[Tensor] | None = None,
        blocks: Iterable[Iterable[Tensor]] | None = None,
        batching: Batching = "auto",
        memory_limit: int | None = None,
        process_group: dist.ProcessGroup | None = None,
        host_checks: bool | None = None,
        **hyperparameters: Any,
    ) -> None:
        self.strategy = make(spec, **hyperparameters)
        refuse_values(head_weighting=head_weighting, scale=scale, batching=batching, absent=absent, unused=unused)
        refuse_counts(steps_per_epoch=steps_per_epoch, memory_limit=memory_limit, update_every=update_every)
        if absent == "subset":
            refuse_subset(self.strategy, several_processes=process_group is not None)
        self.head_weighting, self.scale = head_weighting, scale
        self.tasks = list(tasks) if tasks is not None else None
        self.num_tasks = num_tasks if num_tasks is not None else (len(self.tasks) if self.tasks else None)
        #: Forward and backward passes made so far; a pass from one loss counts as one.
        self.passes: Counter[str] = Counter()
        parameters, names = named_parameters(shared)
        self._names = dict(zip(map(id, parameters), names, strict=True)) if names is not None else {}
        self._leaves = Leaves(parameters, measured_on, blocks)
        self._sharded = sharded(parameters)
        if self._sharded:
            refuse_sharded(self.strategy, head_weighting, {"process_group": process_group is not None})
        self._subset, self._unused, self._update_every = absent == "subset", unused == "zero", update_every
        self._calls = 0
        #: Of the last step that measured some: Gramians (blocks, K, K), the weights on them, indices of its tasks.
        self._measured: tuple[Tensor, Tensor | None, list[int]] | None = None
        self._blocks = self._leaves.blocks
        self._in_passing = memory_limit is not None or measured_on is not None
        self._memory_limit = memory_limit
        self._plain = self._blocks == 1 and not self._in_passing
        self._engine = Engine(batching)
        self._dense = (
            self.strategy.elementwise or self.strategy.tracking or bool(self.strategy.needs & {"jacobian", *MEASURERS})
        )
        looks = host_checks if host_checks is not None else self._leaves.device.type == "cpu"
        self._looks = looks or self._dense or self._sharded or self.strategy.needs_at(1) != self.strategy.needs_at(0)
        self._ranks = Ranks(process_group) if process_group is not None else None
        refuse_options(
            self.strategy,
            self._dense,
            blocks=self._blocks > 1,
            measured_on=measured_on is not None,
            memory_limit=memory_limit is not None,
        )
        if process_group is not None and "implicit" in self.strategy.needs:
            raise ValueError(f"{self.strategy} needs the Hessian of the whole batch and cannot use process_group=")
        self._loss_scale = LossScale(scaler) if scaler is not None and scaler.is_enabled() else None
        self._tally, self._watch = Tally(), Watch(self.strategy)
        self._weigher = Weigher(
            self.strategy,
            scale=scale,
            seed=seed,
            steps_per_epoch=steps_per_epoch,
            blocks=self._blocks,
            looks=self._looks,
            loss_scale=self._loss_scale,
            tally=self._tally,
            subset=self._subset,
        )
        self._recompute: tuple[Callable[[], Losses], tuple[Tensor, Tensor | None]] | None = None
        self._after: Tensor | None = None
        self._applier = Applier(
            self._leaves,
            elementwise=self.strategy.elementwise,
            own_heads=head_weighting == "own",
            looks=self._looks,
            loss_scale=self._loss_scale,
            ranks=self._ranks,
            sharded=self._sharded,
            passes=self.passes,
        )
        self._checked = False
        if self.num_tasks is not None:
            self.strategy.check_tasks(self.num_tasks)

    @property
    def weights(self) -> Tensor:
        """The weights applied last, (K,), (K, D) or (blocks, K), scaled as `scale` says; an error before any step."""
        if self._weigher.weights is None:
            raise RuntimeError("there are no weights before the first backward()")
        return self._weigher.weights.clone()

    @property
    def state(self) -> Any:
        """The strategy's own state (learned weights, moments, histories), one a block; None before the first step."""
        self._weigher.settle()
        return self._weigher.state

    @property
    def skipped(self) -> Counter[str]:
        """Steps by what was wrong in them: `nonfinite_loss`, `absent_task`, `nonfinite_weights`, `nonfinite_gradient`.

        Reading it waits for the device.
        """
        self._watch.look(self.tasks)
        return self._tally.counts()

    @property
    def diagnostics(self) -> Diagnostics:
        """What the task gradients of the last measured step tell: norms, cosines, conflicts, whom the update serves.

        They come from the Gramian that was measured anyway, and stay on its device.

        Raises:
            RuntimeError: no step has measured one, as where a strategy reads losses alone.
        """
        if self._measured is None:
            raise RuntimeError(
                f"no step has measured task gradients: {self.strategy} "
                + ("has made none yet" if self.strategy.needs & NEEDS_GRADIENTS else "reads none")
            )
        gramians, weights, tasks = self._measured
        names = self.tasks
        return diagnose(gramians, weights, tuple(tasks) if names is None else tuple(names[task] for task in tasks))

    def backward(
        self,
        losses: Losses,
        *,
        recompute: Callable[[], Losses] | None = None,
        validation: Callable[[], Losses] | None = None,
        fresh: Callable[[], Losses] | None = None,
        lookahead_lr: float | None = None,
        features: Tensor | Sequence[Tensor] | None = None,
        update: bool = True,
        retain_graph: bool = False,
    ) -> Tensor:
        """Weigh the losses and add the gradients of their weighted sum to `.grad`.

        Args:
            losses: (K,) tensor, a dict of scalars by task name, or a list of scalars in a fixed order, None where a
                task is absent.
            recompute: reads the losses of this same batch again; called without grad at the start of the next step,
                by strategies that ask for `after` (famo).
            validation: reads the losses of a validation batch, for strategies that ask for `align` (auto-lambda) or
                `implicit` (auxilearn).
            fresh: reads the losses of another training batch, a new one at each call, for strategies that ask for
                `cross` (sdmgrad, modo).
            lookahead_lr: step size of the lookahead for `align`; usually the optimizer's learning rate.
            features: measure the Gramian on these intermediate activations instead of the shared parameters (MGDA-UB);
                costs K backward passes down to them and one through the trunk.
            update: False applies the weights of the last update, ones before any; the strategy sees nothing of the
                call, which counts as no step. For closures that an optimizer calls several times a step (L-BFGS).
            retain_graph: keep the graph for another backward pass.

        Returns:
            The weights applied, (K,), (K, D) or (blocks, K), detached.

        Raises:
            TypeError: a loss is no tensor.
            ValueError: losses are not one number a task, depend on no parameter, or something that the strategy reads
                is missing.
        """
        caller = Autocast(self._leaves.device)
        recompute, validation, fresh = (
            closure and caller.around(closure) for closure in (recompute, validation, fresh)
        )
        given = {"recompute": recompute, "validation": validation, "fresh": fresh, "lookahead_lr": lookahead_lr}
        with caller.off():
            updates = update and self._calls % self._update_every == 0
            self._weigher.settle()
            if updates:
                self._read_after()
            batch = self._collect(losses)
            moved = self._leaves.refresh()
            self._weigher.start(batch.values, self._leaves.dimension, moved)
            sees = self._begin(batch) and updates
            needs = self._weigher.needs if sees else frozenset()
            refuse_call(self.strategy, needs, given, features is not None, plain=self._plain)
            try:
                if sees:
                    weights = self._step(batch, needs, given, features, retain_graph)
                else:
                    self._weigher.steps += updates
                    weights = self._held_step(batch, retain_graph)
            except RuntimeError as error:
                if FREED not in str(error):
                    raise
                raise RuntimeError(
                    "the graph of these losses was freed by an earlier backward pass: compute the losses again for "
                    "each backward(), or keep the graph with backward(losses, retain_graph=True)"
                ) from error
        self._calls += update
        if "after" in needs and recompute is not None:
            self._recompute = recompute, random_states(self._leaves.device)
        return weights.clone()  # the next step may hold them, and a caller may change what it got

    def _step(
        self,
        batch: Collected,
        needs: frozenset[str],
        given: Mapping[str, Any],
        features: Tensor | Sequence[Tensor] | None,
        retain_graph: bool,
    ) -> Tensor:
        values = batch.values
        signals = {"losses": values, **self._weigher.drawn(needs, values, self._leaves.dimension)}
        whole = None
        if not self._looks:
            whole = (values if batch.whole else values[batch.tasks]).isfinite().all()
            signals["losses"] = torch.where(values.isfinite(), values, 1)  # no solver should meet a NaN
        if "after" in needs:
            signals["after"] = values if self._after is None else self._after
        if needs & NEEDS_GRADIENTS and features is not None:
            gramian = self._feature_gramian(batch.present, features)
            weights = self._weigher.weigh(signals, gramian[None], whole, batch.tasks)
            self._keep(gramian[None], weights, batch.tasks)
        elif needs & NEEDS_GRADIENTS or self.strategy.elementwise or self._blocks > 1:
            return self._step_by_gradients(batch, signals, needs, given, whole, retain_graph)
        else:
            self._measure_others(signals, needs, batch, given)
            weights = self._weigher.weigh(signals, None, whole, batch.tasks)
        self._applier.by_backward(batch, weights, retain_graph)
        return weights

    def _held_step(self, batch: Collected, retain_graph: bool) -> Tensor:
        """A step that the strategy does not see: the tasks at hand go on with the previous weights."""
        weights = self._weigher.held(batch.values)
        if not batch.tasks:
            return weights
        if not batch.whole and not self.strategy.elementwise:
            whole = self._applier.broken(batch, weights, retain_graph)
            self._tally.add("nonfinite_gradient", whole.logical_not() if not self._looks else not bool(whole))
            return weights
        if self.strategy.elementwise or self._blocks > 1:
            return self._step_by_gradients(batch, {}, frozenset(), {}, None, retain_graph)
        self._applier.by_backward(batch, weights, retain_graph)
        return weights

    # --- collect ---------------------------------------------------------------------------------------------------

    def _collect(self, losses: Losses, *, differentiable: bool = True) -> Collected:
        """The losses in the order of the tasks, which the first ones name."""
        if self.tasks is None and isinstance(losses, Mapping) and losses:
            self.tasks = names(losses, self.num_tasks)
        average = self._ranks.average if self._ranks is not None else None
        batch = collect(
            losses,
            self.tasks,
            self.num_tasks,
            look=self._looks,
            average=average,
            differentiable=differentiable,
        )
        self.num_tasks = len(batch.values)
        return batch

    def _begin(self, batch: Collected) -> bool:
        """Count what is missing, check the graph of the first whole step; whether the strategy is to see this one."""
        self._watch.see(batch.values, self.tasks, look=self._looks)
        if batch.absent:
            self._tally.add("absent_task")
        if not self._looks:
            if not batch.absent:
                self._tally.add("nonfinite_loss", ~batch.values.isfinite().all())
        elif len(batch.tasks) + batch.absent < len(batch.values):
            self._tally.add("nonfinite_loss")
        if batch.whole and not self._checked:
            if not self._sharded:  # whose graph ends at parameters that are whole for the length of a pass
                check_reach(batch.present, self._leaves.trained, self.tasks, self._names, unused=self._unused)
            self._checked = True
        if not self._checked and self._ranks is not None:
            raise ValueError(
                "the first step of a data-parallel run must have a finite loss for every task in every process: only "
                "then is it known whose gradients to average"
            )
        return batch.whole or (self._subset and bool(batch.tasks))

    @property
    def shared(self) -> list[Tensor]:
        """The shared parameters, each once; those among them that are frozen count from when they require grad."""
        return list(self._leaves.shared)

    # --- measure ---------------------------------------------------------------------------------------------------

    def _read_after(self) -> None:
        """Read the previous batch's losses at the parameters that the optimizer's step led to."""
        if self._recompute is not None:
            recompute, states = self._recompute
            with torch.no_grad(), frozen_statistics(), replayed_randomness(states, self._leaves.device):
                self._after = self._collect(recompute(), differentiable=False).values
            self._recompute = None
            self.passes["forward"] += 1

    def _feature_gramian(self, present: list[Output], features: Tensor | Sequence[Tensor]) -> Tensor:
        wanted = [features] if isinstance(features, Tensor) else distinct(features)
        rows = jacobian(task_gradients(present, wanted, retain_graph=True), wanted)
        self.passes["backward"] += len(present)
        return rows @ rows.T if self._ranks is None else self._ranks.sum_of_products(rows)

    def _measure_others(
        self,
        signals: dict[str, Tensor],
        needs: frozenset[str],
        batch: Collected,
        given: Mapping[str, Any],
        heads: Sequence[Tensor] = (),
        gradients: Sequence[Tensor] = (),
    ) -> None:
        """Add to the signals those that `MEASURERS` measure; entries that are not finite count as zero."""
        if not needs & MEASURERS.keys():
            return

        def read(closure: str) -> tuple[Sequence[Tensor], Sequence[int]]:
            other = self._collect(given[closure]())
            return other.present, other.tasks

        step = Measurement(
            self._leaves.trained,
            heads,
            batch.present,
            gradients,
            lambda: self._weigher.current(signals),
            read,
            self._ranks.average if self._ranks is not None else None,
            {**self.strategy.measuring, "lookahead_lr": given["lookahead_lr"]},
            self.passes,
        )
        for name, measure_one in MEASURERS.items():
            if name in needs:
                measured = measure_one(step)
                signals[name] = torch.where(measured.isfinite(), measured, 0).to(batch.values.dtype)

    def _step_by_gradients(
        self,
        batch: Collected,
        signals: dict[str, Tensor],
        needs: frozenset[str],
        given: Mapping[str, Any],
        whole: Tensor | None,
        retain_graph: bool,
    ) -> Tensor:
        if needs and self._leaves.unmeasurable is not None:
            raise ValueError(
                f"no parameter of {self._leaves.unmeasurable} requires grad any more: {self.strategy} compares "
                "gradients on them; unfreeze some, or go on without the balancer"
            )
        graph, one = cut(batch.present), self._applier.one(batch.values)
        reached = graph.leaves()
        groups = self._leaves.groups(reached)
        if self._ranks is not None and batch.whole:
            self._applier.see_heads(self._leaves.heads(reached))
        options: dict[str, Any] = {
            "blocks": self._blocks,
            "average": self._ranks.average if self._ranks is not None else None,
            "retain_graph": retain_graph or bool(needs & KEEPS_GRAPH),
        }
        if self._in_passing:
            options |= {"limit": self._memory_limit, "passes": self.passes}
            found = measure_in_passing(self._engine, batch.present, graph, groups, one, **options)
        else:
            found = measure(self._engine, batch.present, graph, groups, one, **options)
        self.passes["backward"] += len(batch.present)
        gramians = found.gramians if self._loss_scale is None else found.gramians / one**2
        finite = gramians.diagonal(dim1=1, dim2=2).isfinite().all(0)
        sound = False  # for all that the host knows
        if whole is not None:
            self._tally.add("nonfinite_gradient", ~finite.all() & whole)
            gramians, whole = torch.where(finite[:, None] & finite, gramians, 0), whole & finite.all()
        elif not (sound := bool(finite.all())):
            self._tally.add("nonfinite_gradient")
            needs = frozenset()
        if self._dense:
            heads = self._leaves.heads(reached)
            weights, rows = self._weigh_rows(batch, signals, needs, given, heads, found, gramians, one)
        elif needs:
            weights, rows = self._weigher.weigh(signals, gramians, whole, batch.tasks), None
        else:
            weights, rows = self._weigher.held(batch.values), None
        if sound or whole is not None:
            self._keep(gramians, weights, batch.tasks)
        tasks_at: Any = batch.tasks if rows is not None else (..., batch.tasks)
        at_hand = weights if batch.whole else weights[tasks_at]
        self._applier.from_gradients(found, rows, at_hand, None if sound else finite)
        return weights

    def _keep(self, gramians: Tensor, weights: Tensor, tasks: list[int]) -> None:
        """Remember what `diagnostics` are made of."""
        applied = None
        if not (self.strategy.tracking or (self.strategy.elementwise and weights.ndim == 2)):
            some = weights if len(tasks) == weights.shape[-1] else weights[..., tasks]
            applied = some if self._blocks > 1 else some[None]
        self._measured = gramians, applied, tasks

    def _weigh_rows(
        self,
        batch: Collected,
        signals: dict[str, Tensor],
        needs: frozenset[str],
        given: Mapping[str, Any],
        heads: Sequence[Tensor],
        found: TaskGradients,
        gramians: Tensor,
        one: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """The weights, and the gradients (K, D) times `one` that they apply to."""
        rows = found.rows(self._leaves.trained) / one
        if not needs:
            return self._weigher.held(batch.values), rows * one
        signals["jacobian"] = rows
        others = found.rows(heads) / one if needs & MEASURERS.keys() else rows[:, :0]
        self._measure_others(signals, needs, batch, given, heads, (rows, others))
        updates = self._weigher.updates
        weights = self._weigher.weigh(signals, gramians)
        if self._weigher.updates > updates:
            rows = self.strategy.gradients(self._weigher.state, rows)
        return weights, rows * one

    # --- checkpoint ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, as tensors and plain values (loads with `weights_only=True`)."""
        with Autocast(self._leaves.device).off():
            self._weigher.settle()
            self._read_after()
        return {
            **self._weigher.state_dict(),
            "tasks": self.tasks and list(self.tasks),
            "num_tasks": self.num_tasks,
            "after": self._after,
            "columns": self._leaves.positions,
            "calls": self._calls,
            "skipped": dict(self.skipped),
            "passes": dict(self.passes),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`, bit for bit, on the device of the parameters.

        Raises:
            ValueError: it was saved from another strategy.
        """
        device, after = self._leaves.device, saved["after"]
        self._weigher.load_state_dict(saved, device)
        self.tasks, self.num_tasks = saved["tasks"] and list(saved["tasks"]), saved["num_tasks"]
        self._after, self._recompute = None if after is None else after.to(device, copy=True), None
        self._calls = saved.get("calls", 0)
        if "columns" in saved:
            self._leaves.layout(saved["columns"])
        self._tally = Tally(saved["skipped"])
        self.passes.clear()
        self.passes.update(saved["passes"])
        self._weigher.tally = self._tally
