"""Applying: what a step adds to `.grad`, given its weights: by one backward pass, or from gradients at hand."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from mtl.gradients.graph import Update, distinct, leaves
from mtl.gradients.measured import HEAD, INPUT, TaskGradients
from mtl.step.amp import LossScale
from mtl.step.backward import accumulate, cleared, combined, guarded_gradients, weighted_backward, weighted_gradients
from mtl.step.collect import Collected
from mtl.step.leaves import Leaves
from mtl.step.ranks import Ranks


class Applier:
    """Adds the update of a step to `.grad`, and remembers which heads the processes of a data-parallel run share.

    Args:
        of_leaves: which leaves are shared, and what the others are.
        elementwise: weights may be (K, D).
        own_heads: heads receive the gradient of their own loss, not the weighted one.
        looks: whether the host has looked for losses that are not finite.
        loss_scale: the scaler's factor on losses.
        ranks: the processes of a data-parallel run.
        sharded: the parameters are divided among processes, which only a plain backward pass serves.
        passes: counts backward passes.
    """

    def __init__(
        self,
        of_leaves: Leaves,
        *,
        elementwise: bool,
        own_heads: bool,
        looks: bool,
        loss_scale: LossScale | None,
        ranks: Ranks | None,
        sharded: bool,
        passes: Counter[str],
    ) -> None:
        self.passes = passes
        self._leaves, self._elementwise, self._own, self._looks = of_leaves, elementwise, own_heads, looks
        self._loss_scale, self._ranks, self._sharded = loss_scale, ranks, sharded
        #: Whether what is not finite has to be cleared from `.grad`, as nobody looked for it before.
        self._clears = not looks and loss_scale is None
        self._known: list[Tensor] = []

    def one(self, values: Tensor) -> Tensor:
        """What a loss's gradient by itself is taken to be: the scaler's factor, or 1."""
        return values.new_ones(()) if self._loss_scale is None else self._loss_scale.of(values).to(values.dtype)

    def see_heads(self, heads: list[Tensor]) -> None:
        """Remember the heads of a step that every process has whole."""
        self._known = heads

    def _on_heads(self, weights: Tensor) -> Tensor:
        by_coordinate = self._elementwise and weights.ndim == 2  # held before the first update they are (K,)
        if self._own or by_coordinate:
            return torch.ones_like(weights[:, 0] if by_coordinate else weights.reshape(-1, weights.shape[-1])[0])
        return weights.mean(0) if self._leaves.blocks > 1 else weights

    def by_backward(self, batch: Collected, weights: Tensor, retain_graph: bool) -> None:
        """One backward pass of the losses at hand, weighted by those of the weights (K,) that are theirs."""
        if not self._looks:
            weights = torch.where(batch.values.isfinite(), weights, 0)
        losses = batch.present if batch.joint is None or not batch.whole else batch.joint
        if not batch.whole:
            weights = weights[batch.tasks]
        seeds, own = weights * self.one(weights) if self._loss_scale else weights, self._own
        self.passes["backward"] += 1
        if not (own or self._clears or self._ranks):
            weighted_backward(losses, seeds, retain_graph=retain_graph)
            return
        trained = self._leaves.trained
        others = self._leaves.others(leaves([losses] if isinstance(losses, Tensor) else losses))
        on_heads = torch.ones_like(weights) * self.one(weights) if own else seeds
        passes = [(trained, seeds), (others, on_heads)] if own else [([*trained, *others], seeds)]
        update = weighted_gradients(losses, passes, retain_graph=retain_graph)
        if self._clears:
            update = [(leaf, cleared(gradient)) for leaf, gradient in update]
        accumulate(self._averaged(update, whole=batch.whole))

    def from_gradients(self, found: TaskGradients, rows: Tensor | None, weights: Tensor, finite: Tensor | None) -> None:
        """Combine gradients at hand; `finite` (K,) says which are, where not all are known to be."""
        on_heads = self._on_heads(weights)
        if finite is not None and self._loss_scale is None:  # under AMP the scaler has to see what is not finite
            found = found.kept(finite)
            if rows is not None:
                rows = torch.where(finite[:, None], rows, 0)

        def weights_of(group: int) -> Tensor:
            if group in (HEAD, INPUT):
                return on_heads
            return weights[group] if self._leaves.blocks > 1 else weights

        if rows is None:
            update = found.update(weights_of)
        else:
            update = combined(rows, weights, self._leaves.trained) + found.update(weights_of, {HEAD, INPUT})
        if finite is not None and self._loss_scale is None:
            update = [(leaf, cleared(gradient)) for leaf, gradient in update]
        accumulate(update)

    def broken(self, batch: Collected, weights: Tensor, retain_graph: bool) -> Tensor:
        """A step of which some task is absent or not finite: the others under the weights of all.

        Returns:
            () whether every gradient was finite; entries that are not are left out.
        """
        one = self.one(batch.values)
        if self._sharded:
            weighted_backward(batch.present, (weights * one)[batch.tasks], retain_graph=retain_graph)
            self.passes["backward"] += 1
            return torch.ones((), dtype=torch.bool, device=weights.device)  # nobody has looked
        on_heads = (self._on_heads(weights) * one)[batch.tasks]

        def weights_of(leaf: Tensor) -> Tensor:
            group = self._leaves.group(leaf)
            if group in (HEAD, INPUT):
                return on_heads
            shared = weights[max(group, 0)] if self._leaves.blocks > 1 else weights
            return (shared * one)[batch.tasks]

        update, whole = guarded_gradients(batch.present, weights_of, retain_graph=retain_graph)
        self.passes["backward"] += len(batch.present)
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
        elif self._looks:
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
        self._ranks.average(means)
        inputs = [(leaf, gradient) for leaf, gradient in update if self._leaves.group(leaf) == INPUT]
        return [*zip(common, means, strict=True), *inputs]
