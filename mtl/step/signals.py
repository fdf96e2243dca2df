"""Measuring a balancer's step: everything that its strategy reads, and the gradients that its weights apply to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from mtl.gradients.by_task import BackwardByTask
from mtl.gradients.cut import cut
from mtl.gradients.graph import Output, distinct, gradients_of_each, jacobian
from mtl.gradients.task_gradients import measure_and_drop, measure_and_keep
from mtl.step.collect import Collector, all_finite
from mtl.step.guard import harmless_gramian, harmless_losses, sound_tasks
from mtl.step.measure import KEEPS_GRAPH, MEASURERS, NEEDS_GRADIENTS, measured
from mtl.step.probe import ParameterProbe
from mtl.step.setup import Setup, reads_rows
from mtl.step.step import Findings, Step
from mtl.step.weigher import Weigher


class SignalsOfStep:
    """Measures steps.

    Args:
        setup: of the balancer.
        collect: reads the losses of further batches.
        weigher: draws the random signals, and says which weights hold.
        batching: how to go back through what the tasks share; `vmap`, `loop` or `auto`.
        drops: keep Gramians only, not the gradients below the cut.
        memory_limit: bytes of gradients to hold at a time where they are dropped.
    """

    def __init__(
        self,
        setup: Setup,
        collect: Collector,
        weigher: Weigher,
        *,
        batching: str,
        drops: bool,
        memory_limit: int | None,
    ) -> None:
        self._setup, self._leaves, self._collect, self._weigher = setup, setup.leaves, collect, weigher
        self._average = setup.ranks.average if setup.ranks is not None else None
        self._backward = BackwardByTask(batching)
        self._drops, self._memory_limit = drops, memory_limit
        self._reads_rows = reads_rows(setup.strategy)
        #: Weights of a leaf's own, by coordinate or by block, apply to gradients and not in one backward pass.
        self._by_gradients = setup.strategy.elementwise or setup.blocks > 1

    def measure(self, step: Step, after: Tensor | None) -> Findings:
        """Everything that the strategy reads in a step.

        Args:
            step: the step.
            after: (K,) losses of the previous batch, read again; None before there was one.

        Raises:
            ValueError: the strategy compares gradients on parameters of which none requires grad any more.
        """
        signals, whole = self._at_hand(step, after) if step.seen else ({}, None)
        if step.needs & NEEDS_GRADIENTS and step.given.features is not None:
            gramians = self._of_features(step.batch.present, step.given.features)[None]
            return Findings(signals | {"gramian": gramians[0]}, whole, gramians=gramians)
        # A step that lacks some task and that the strategy does not see goes by one backward pass a task.
        complete = step.batch.whole or step.seen or self._setup.strategy.elementwise
        if step.needs & NEEDS_GRADIENTS or (self._by_gradients and complete and step.batch.tasks):
            return self._with_gradients(step, signals, whole)
        self._measure_others(step, signals)
        return Findings(signals, whole)

    def _at_hand(self, step: Step, after: Tensor | None) -> tuple[dict[str, Tensor], Tensor | None]:
        """The signals that take no pass, and () whether the losses are finite where the host has not looked."""
        batch, values, whole = step.batch, step.batch.values, None
        signals = {"losses": values, **self._weigher.drawn(step.needs, values, self._leaves.dimension)}
        if not self._setup.host_checks:
            whole = (values if batch.whole else values[batch.tasks]).isfinite().all()
            signals["losses"] = harmless_losses(values)
        if "after" in step.needs:
            signals["after"] = values if after is None else after
        return signals, whole

    def _of_features(self, present: list[Output], features: Tensor | Sequence[Tensor]) -> Tensor:
        wanted = [features] if isinstance(features, Tensor) else distinct(features)
        rows = jacobian(gradients_of_each(present, wanted, retain_graph=True), wanted)
        self._setup.passes["backward"] += len(present)
        ranks = self._setup.ranks
        return rows @ rows.T if ranks is None else ranks.sum_of_products(rows)

    def _with_gradients(self, step: Step, signals: dict[str, Tensor], whole: Tensor | None) -> Findings:
        setup, batch = self._setup, step.batch
        if step.seen and self._leaves.unmeasurable is not None:
            raise ValueError(
                f"no parameter of {self._leaves.unmeasurable} requires grad any more: {setup.strategy} compares "
                "gradients on them; unfreeze some, or go on without the balancer"
            )
        graph = cut(batch.present)
        one = batch.values.new_ones(()) if setup.loss_scale is None else setup.loss_scale.one(batch.values)
        reached = graph.leaves()
        options: dict[str, Any] = {
            "blocks": setup.blocks,
            "average": self._average,
            "retain_graph": step.given.retain_graph or bool(step.needs & KEEPS_GRAPH),
        }
        measure: Any = measure_and_keep
        if self._drops:
            measure = measure_and_drop
            options |= {"limit": self._memory_limit, "passes": setup.passes}
        found = measure(self._backward, batch.present, graph, self._leaves.groups(reached), one, **options)
        setup.passes["backward"] += len(batch.present)
        gramians = found.gramians if setup.loss_scale is None else found.gramians / one**2
        squares, finite, sound = gramians.diagonal(dim1=1, dim2=2), None, True
        if whole is not None:
            finite = sound_tasks(squares).all(0)
            setup.tally.add("nonfinite_gradient", ~finite.all() & whole)
            gramians, whole = harmless_gramian(gramians, finite), whole & finite.all()
        elif not all_finite(squares):
            finite, sound = sound_tasks(squares).all(0), False
            setup.tally.add("nonfinite_gradient")
        rows = found.rows(self._leaves.trained) / one if self._reads_rows else None
        if step.seen and sound:
            signals["gramian"] = gramians if setup.blocks > 1 else gramians[0]
            if rows is not None:
                signals["jacobian"] = rows
                heads = self._leaves.heads(reached)
                others = found.rows(heads) / one if step.needs & MEASURERS.keys() else rows[:, :0]
                self._measure_others(step, signals, heads, (rows, others))
        return Findings(signals, whole, sound, gramians, found, rows, finite, reached, one)

    def _measure_others(
        self,
        step: Step,
        signals: dict[str, Tensor],
        heads: Sequence[Tensor] = (),
        gradients: Sequence[Tensor] = (),
    ) -> None:
        """Add to the signals those that `MEASURERS` measure."""
        if not step.needs & MEASURERS.keys():
            return

        def read(closure: str) -> tuple[Sequence[Output], Sequence[int]]:
            other = self._collect(getattr(step.given, closure)())
            return other.present, other.tasks

        probe = ParameterProbe(
            self._leaves.trained,
            heads,
            step.batch.present,
            gradients,
            lambda: self._weigher.current(signals),
            read,
            self._setup.strategy.measuring,
            step.given.lookahead_lr,
            self._average,
            self._setup.passes,
        )
        lost = []
        for name in MEASURERS:
            if name in step.needs:
                signals[name], broken = measured(probe, name, step.batch.values)
                lost.append(broken)
        self._setup.tally.add("nonfinite_signal", torch.stack(lost).any(0))
