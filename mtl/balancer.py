"""The balancer: any strategy in anybody's training loop, in place of `loss.backward()`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from mtl.gradients.by_task import FREED
from mtl.step.amp import LossScale
from mtl.step.apply import Applier
from mtl.step.arguments import (
    Absent,
    Batching,
    HeadWeighting,
    Scale,
    Unused,
    named_parameters,
    refuse_counts,
    refuse_features,
    refuse_options,
    refuse_sharded,
    refuse_subset,
    refuse_values,
    sharded,
)
from mtl.step.autocast import Autocast
from mtl.step.check import BatchCheck
from mtl.step.collect import Collector, Losses
from mtl.step.diagnostics import Diagnostics, LatestGramians
from mtl.step.leaves import Leaves
from mtl.step.measure import refuse_missing
from mtl.step.ranks import Ranks
from mtl.step.reading import SecondReading
from mtl.step.setup import Setup, reads_rows
from mtl.step.signals import SignalsOfStep
from mtl.step.step import Step, StepArguments
from mtl.step.tally import Tally
from mtl.step.weigher import Weigher
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
        strategy = make(spec, **hyperparameters)
        refuse_values(head_weighting=head_weighting, scale=scale, batching=batching, absent=absent, unused=unused)
        refuse_counts(steps_per_epoch=steps_per_epoch, memory_limit=memory_limit, update_every=update_every)
        if absent == "subset":
            refuse_subset(strategy, several_processes=process_group is not None)
        parameters, names = named_parameters(shared)
        leaves, divided = Leaves(parameters, measured_on, blocks), sharded(parameters)
        if divided:
            refuse_sharded(strategy, head_weighting, {"process_group": process_group is not None})
        by_rows = reads_rows(strategy)
        used = {"measured_on": measured_on is not None, "memory_limit": memory_limit is not None}
        refuse_options(strategy, rows=by_rows, blocks=leaves.blocks > 1, **used)
        if process_group is not None and "implicit" in strategy.needs:
            raise ValueError(f"{strategy} needs the Hessian of the whole batch and cannot use process_group=")
        looks = host_checks if host_checks is not None else leaves.device.type == "cpu"
        #: Forward and backward passes made so far; a pass from one loss counts as one.
        self.passes: Counter[str] = Counter()
        self._setup = Setup(
            strategy,
            leaves,
            scale,
            own_heads=head_weighting == "own",
            subset=absent == "subset",
            host_checks=looks or by_rows or divided or strategy.needs_at(1) != strategy.needs_at(0),
            sharded=divided,
            loss_scale=LossScale(scaler) if scaler is not None and scaler.is_enabled() else None,
            ranks=Ranks(process_group) if process_group is not None else None,
            passes=self.passes,
            tally=Tally(),
        )
        self.strategy, self.head_weighting, self.scale = strategy, head_weighting, scale
        self._update_every, self._calls = update_every, 0
        self._features_allowed = leaves.blocks == 1 and not any(used.values())
        average = self._setup.ranks.average if self._setup.ranks is not None else None
        self._collect = Collector(tasks, num_tasks, look=self._setup.host_checks, average=average)
        by_id = dict(zip(map(id, parameters), names, strict=True)) if names is not None else {}
        self._check = BatchCheck(self._setup, by_id, unused=unused == "zero")
        self._reading, self._latest = SecondReading(), LatestGramians(strategy)
        self._weigher = Weigher(self._setup, seed=seed, steps_per_epoch=steps_per_epoch)
        self._signals = SignalsOfStep(
            self._setup,
            self._collect,
            self._weigher,
            batching=batching,
            drops=any(used.values()),
            memory_limit=memory_limit,
        )
        self._applier = Applier(self._setup)
        if self.num_tasks is not None:
            strategy.check_tasks(self.num_tasks)

    @property
    def shared(self) -> list[Tensor]:
        """The shared parameters, each once; those among them that are frozen count from when they require grad."""
        return list(self._setup.leaves.shared)

    @property
    def tasks(self) -> list[str] | None:
        """The names of all tasks in order, None as long as they have none."""
        return self._collect.tasks

    @tasks.setter
    def tasks(self, names: Sequence[str] | None) -> None:
        self._collect.tasks = list(names) if names is not None else None

    @property
    def num_tasks(self) -> int | None:
        """The number of tasks, None before it is known."""
        return self._collect.num_tasks

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

        And `nonfinite_signal`: an entry of `cross`, `align` or `implicit` was not finite and counted as zero; the
        strategy saw the step. Reading it waits for the device.
        """
        self._check.watch.look(self.tasks)
        return self._setup.tally.counts()

    @property
    def diagnostics(self) -> Diagnostics:
        """What the task gradients of the last measured step tell: norms, cosines, conflicts, whom the update serves.

        They come from the Gramian that was measured anyway, and stay on its device.

        Raises:
            RuntimeError: no step has measured one, as where a strategy reads losses alone.
        """
        return self._latest.diagnose(self.tasks)

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
        caller = Autocast(self._setup.leaves.device)
        around = caller.around
        given = StepArguments(
            recompute and around(recompute),
            validation and around(validation),
            fresh and around(fresh),
            lookahead_lr,
            features,
            retain_graph,
        )
        with caller.off():
            step = self._begin(losses, given, update=update)
            try:
                weights = self._make(step)
            except RuntimeError as error:
                if FREED not in str(error):
                    raise
                raise RuntimeError(
                    "the graph of these losses was freed by an earlier backward pass: compute the losses again for "
                    "each backward(), or keep the graph with backward(losses, retain_graph=True)"
                ) from error
        self._calls += update
        if "after" in step.needs and given.recompute is not None:
            self._reading.plan(given.recompute, self._setup.leaves.device)
        return weights.clone()  # the next step may hold them, and a caller may change what it got

    def _begin(self, losses: Losses, given: StepArguments, *, update: bool) -> Step:
        """Collect the losses and see what the strategy will read of the step."""
        leaves, weigher = self._setup.leaves, self._weigher
        updates = update and self._calls % self._update_every == 0
        weigher.settle()
        if updates:
            self._read_after()
        batch = self._collect(losses)
        moved = leaves.refresh()
        weigher.start(batch.values, leaves.dimension, moved)
        seen = self._check(batch, self.tasks) and updates
        weigher.steps += updates and not seen
        needs = weigher.needs if seen else frozenset()
        refuse_missing(self.strategy, needs, given._asdict(), "backward(losses", "losses_of_")
        if given.features is not None:
            refuse_features(self.strategy, needs, plain=self._features_allowed)
        return Step(batch, given, seen, needs)

    def _make(self, step: Step) -> Tensor:
        """Measure, weigh and apply; the weights applied."""
        batch, rows = step.batch, None
        measured = self._signals.measure(step, self._reading.after)
        updated, weights = False, self._weigher.held(batch.values)
        if step.seen and measured.sound:
            weights, updated = self._weigher.weigh(measured.signals, measured.whole, batch.tasks)
        if measured.gramians is not None and measured.sound:
            self._latest.note(measured.gramians, weights, batch.tasks)
        if measured.rows is not None and measured.one is not None:
            rows = (self._weigher.tracked(measured.rows) if updated else measured.rows) * measured.one
        self._applier.apply(step, measured, weights, rows)
        return weights

    def _read_after(self) -> None:
        if self._reading.read(self._collect, self._setup.leaves.device):
            self.passes["forward"] += 1

    # --- checkpoint ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, as tensors and plain values (loads with `weights_only=True`)."""
        with Autocast(self._setup.leaves.device).off():
            self._weigher.settle()
            self._read_after()
        return {
            **self._weigher.state_dict(),
            "tasks": self.tasks and list(self.tasks),
            "num_tasks": self.num_tasks,
            "after": self._reading.after,
            "columns": self._setup.leaves.positions,
            "calls": self._calls,
            "skipped": dict(self.skipped),
            "passes": dict(self.passes),
        }

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`, bit for bit, on the device of the parameters.

        Raises:
            ValueError: it was saved from another strategy.
        """
        device = self._setup.leaves.device
        self._weigher.load_state_dict(saved, device)
        self.tasks, self._collect.num_tasks = saved["tasks"], saved["num_tasks"]
        self._reading.load(saved["after"], device)
        self._calls = saved.get("calls", 0)
        if "columns" in saved:
            self._setup.leaves.layout(saved["columns"])
        self._setup.tally.load(saved["skipped"])
        self.passes.clear()
        self.passes.update(saved["passes"])
