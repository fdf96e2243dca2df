"""Applying: what a step adds to `.grad`, given its weights: by one backward pass, or from gradients at hand."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mtl.gradients.graph import Update, distinct, leaves
from mtl.gradients.task_gradients import HEAD, INPUT, TaskGradients
from mtl.step.backward import accumulate, combined, guarded_gradients, weighted_backward, weighted_gradients
from mtl.step.collect import Collected
from mtl.step.guard import cleared, of_tasks
from mtl.step.setup import Setup
from mtl.step.step import Findings, Step


class Applier:
    """Adds the update of a step to `.grad`, and remembers which heads the processes of a data-parallel run share.

    Args:
        setup: of the balancer.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup, self._leaves, self._own = setup, setup.leaves, setup.own_heads
        self._loss_scale, self._ranks, self._passes = setup.loss_scale, setup.ranks, setup.passes
        #: Whether what is not finite has to be cleared from `.grad`, as nobody looked for it before.
        self._clears = not setup.host_checks and setup.loss_scale is None
        self._known: list[Tensor] = []

    def apply(self, step: Step, measured: Findings, weights: Tensor, rows: Tensor | None) -> None:
        """Add the update of a step to `.grad`.

        Args:
            step: the step.
            measured: what was measured in it.
            weights: of all tasks, (K,), (K, D) or (blocks, K).
            rows: (K, D) the gradients on the shared parameters that they apply to, where they are written out.
        """
        batch, retain_graph = step.batch, step.given.retain_graph
        if not batch.tasks:
            return
        if measured.gradients is not None:
            at_hand: Sequence[int] | tuple[object, ...] = batch.tasks if rows is not None else (..., batch.tasks)
            weights = weights if batch.whole else weights[at_hand]  # type: ignore[index]
            self._from_gradients(batch, measured, rows, weights)
        elif batch.whole or step.seen:
            self._by_backward(batch, weights, retain_graph)
        else:
            whole = self._broken(batch, weights, retain_graph)
            bad = whole.logical_not()
            self._setup.tally.add("nonfinite_gradient", bool(bad) if self._setup.host_checks else bad)

    def _one(self, values: Tensor) -> Tensor:
        """What a loss's gradient by itself is taken to be: the scaler's factor, or 1."""
        return values.new_ones(()) if self._loss_scale is None else self._loss_scale.one(values)

    def _on_heads(self, weights: Tensor) -> Tensor:
        # Weights by coordinate are (K, D); those held before the first update are (K,).
        by_coordinate = self._setup.strategy.elementwise and weights.ndim == 2
        if self._own or by_coordinate:
            of_one = weights if weights.ndim == 1 else weights[:, 0] if by_coordinate else weights[0]
            return torch.ones_like(of_one)
        return weights.mean(0) if self._leaves.blocks > 1 else weights

    def _by_backward(self, batch: Collected, weights: Tensor, retain_graph: bool) -> None:
        """One backward pass of the losses at hand, weighted by those of the weights (K,) that are theirs."""
        if not self._setup.host_checks:
            weights = torch.where(batch.values.isfinite(), weights, 0)
        losses = batch.present if batch.joint is None or not batch.whole else batch.joint
        if not batch.whole:
            weights = weights[batch.tasks]
        seeds, own = weights * self._one(weights) if self._loss_scale else weights, self._own
        self._passes["backward"] += 1
        if not (own or self._clears or self._ranks):
            weighted_backward(losses, seeds, retain_graph=retain_graph)
            return
        trained = self._leaves.trained
        others = self._leaves.others(leaves([losses] if isinstance(losses, Tensor) else losses))
        on_heads = torch.ones_like(weights) * self._one(weights) if own else seeds
        passes = [(trained, seeds), (others, on_heads)] if own else [([*trained, *others], seeds)]
        update = weighted_gradients(losses, passes, retain_graph=retain_graph)
        if self._clears:
            update = [(leaf, cleared(gradient)) for leaf, gradient in update]
        accumulate(self._averaged(update, whole=batch.whole))

    def _from_gradients(self, batch: Collected, measured: Findings, rows: Tensor | None, weights: Tensor) -> None:
        """Combine gradients at hand, under the weights of the tasks at hand."""
        found, on_heads = measured.gradients, self._on_heads(weights)
        assert isinstance(found, TaskGradients)
        if self._ranks is not None and batch.whole:
            self._known = self._leaves.heads(measured.reached)
        # Under AMP the scaler has to see what is not finite.
        finite = measured.finite if self._loss_scale is None else None
        if finite is not None:
            found = found.kept(finite)
            rows = of_tasks(rows, finite) if rows is not None else None

        def weights_of(group: int) -> Tensor:
            if group in (HEAD, INPUT):
                return on_heads
            return weights[group] if self._leaves.blocks > 1 else weights

        if rows is None:
            update = found.update(weights_of)
        else:
            update = combined(rows, weights, self._leaves.trained) + found.update(weights_of, {HEAD, INPUT})
        if finite is not None:
            update = [(leaf, cleared(gradient)) for leaf, gradient in update]
        accumulate(update)

    def _broken(self, batch: Collected, weights: Tensor, retain_graph: bool) -> Tensor:
        """A step of which some task is absent or not finite: the others under the weights of all.

        Returns:
            () whether every gradient was finite; entries that are not are left out, unless there is a scaler.
        """
        one = self._one(batch.values)
        if self._setup.sharded:
            weighted_backward(batch.present, (weights * one)[batch.tasks], retain_graph=retain_graph)
            self._passes["backward"] += 1
            return torch.ones((), dtype=torch.bool, device=weights.device)  # nobody has looked
        on_heads = (self._on_heads(weights) * one)[batch.tasks]

        def weights_of(leaf: Tensor) -> Tensor:
            group = self._leaves.group(leaf)
            if group in (HEAD, INPUT):
                return on_heads
            shared = weights[max(group, 0)] if self._leaves.blocks > 1 else weights
            return (shared * one)[batch.tasks]

        # Under AMP the scaler has to see what is not finite.
        update, whole = guarded_gradients(
            batch.present, weights_of, retain_graph=retain_graph, leaves_out=self._loss_scale is None
        )
        self._passes["backward"] += len(batch.present)
        accumulate(self._averaged(update, whole=False))
        return whole

    def _averaged(self, update: Update, *, whole: bool) -> Update:
        """The mean over the processes of a data-parallel run; one that has no gradient on a leaf counts with zeros.

        Args:
            update: that of this process.
            whole: every process has every task. Otherwise, unless the host has made the processes agree on the tasks
                that are there, they average the heads of the last step that all had whole.
        """
        if self._ranks is None:
            return update
        heads = self._leaves.heads(leaf for leaf, _ in update)
        if whole:
            self._known = heads
        elif self._setup.host_checks:
            heads = distinct([*self._known, *heads])
        else:
            heads = self._known
        there = {id(leaf): gradient for leaf, gradient in update}
        common = [*self._leaves.trained, *(head for head in heads if head.requires_grad)]
        means = [
            there[id(leaf)].clone(memory_format=torch.contiguous_format)
            if id(leaf) in there
            else leaf.new_zeros(leaf.shape)
            for leaf in common
        ]
        if whole or not self._setup.host_checks:
            self._ranks.average(means)
        else:  # a leaf that no process has a gradient on has none, as in one process: its optimizer leaves it alone
            reached = means[0].new_tensor([id(leaf) in there for leaf in common])
            self._ranks.average([*means, reached])
            known = [place for place, share in enumerate(reached.tolist()) if share]
            common, means = [common[place] for place in known], [means[place] for place in known]
        inputs = [(leaf, gradient) for leaf, gradient in update if self._leaves.group(leaf) == INPUT]
        return [*zip(common, means, strict=True), *inputs]
