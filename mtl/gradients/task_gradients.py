"""A step's task gradients: their Gramian, and the update that weights make of them."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from mtl.gradients.by_task import BackwardByTask, Seeds
from mtl.gradients.cut import Cut, Stretch, stretches
from mtl.gradients.graph import Output, Update, owned, real, size
from mtl.gradients.pieces import Average, Piece, side_by_side, widened

#: Groups of leaves: shared ones are numbered by block from 0; the others are no part of the Gramian. An input is no
#: parameter, so that each process of a data-parallel run has its own.
HEAD, UNMEASURED, INPUT = -1, -2, -3
ALL = range(INPUT, sys.maxsize)

#: The weights (K,) of a group's leaves.
WeightsOfGroup = Callable[[int], Tensor]


@dataclass(frozen=True)
class TaskGradients:
    """The gradients of K tasks.

    Attributes:
        gramians: (blocks, K, K), float32 at least; of gradients times `one`.
        pieces: the gradients that have been kept.
        groups: each leaf's group by its id.
        rest: makes the update of the leaves whose gradients have not been kept, by one more backward pass a group.
    """

    gramians: Tensor
    pieces: Sequence[Piece]
    groups: Mapping[int, int]
    rest: Callable[[WeightsOfGroup], Update] | None

    def update(self, weights: WeightsOfGroup, groups: Container[int] = ALL) -> Update:
        """`sum_k weights[k] * g_k` for each leaf of some groups."""
        found = [
            pair
            for piece in self.pieces
            if self._group(piece) in groups
            for pair in zip(piece.leaves, piece.combined(weights(self._group(piece))), strict=True)
        ]
        return found + self.rest(weights) if self.rest is not None else found

    def rows(self, leaves: Sequence[Tensor]) -> Tensor:
        """J (K, D) on the leaves laid flat, zeros where a task does not reach; float32 at least."""
        tasks = self.gramians.shape[-1]
        known = {id(leaf): rows for piece in self.pieces for leaf, rows in zip(piece.leaves, piece.rows(), strict=True)}
        blank = [
            known[id(leaf)] if id(leaf) in known else real(leaf.detach()).new_zeros(tasks, size(leaf))
            for leaf in leaves
        ]
        return widened(torch.cat(blank, 1)) if blank else self.gramians.new_zeros(tasks, 0)

    def kept(self, tasks: Tensor) -> TaskGradients:
        """The same with zeros for the tasks where the mask (K,) is False."""
        return TaskGradients(self.gramians, [piece.kept(tasks) for piece in self.pieces], self.groups, self.rest)

    def _group(self, piece: Piece) -> int:
        return self.groups[id(piece.leaves[0])]


def measure_and_keep(
    backward: BackwardByTask,
    losses: Sequence[Output],
    graph: Cut,
    groups: Mapping[int, int],
    one: Tensor,
    *,
    blocks: int = 1,
    average: Average | None = None,
    retain_graph: bool = False,
) -> TaskGradients:
    """Measure the task gradients and keep them all.

    Args:
        backward: goes back through the graph.
        losses: K scalars.
        graph: where their graphs meet.
        groups: each leaf's group by its id.
        one: what a loss's gradient by itself is taken to be.
        blocks: number of blocks of shared parameters.
        average: replaces tensors by their means over all processes.
        retain_graph: whether the graph must survive.
    """
    seeds, pieces = backward.above(losses, graph, groups, one, retain_graph=retain_graph)
    if graph.frontier:
        whole = Stretch(graph.frontier, graph.below, [])
        _, more = backward.below(whole, seeds, graph.leaves_below, groups, retain_graph=retain_graph)
        pieces += side_by_side(more, groups)
    if average is not None:
        pieces = [_averaged(piece, groups, average) for piece in pieces]
    gramians = _Gramians(len(losses), blocks, one)
    for piece in pieces:
        gramians.add(piece, groups)
    return TaskGradients(gramians.stacked(), pieces, groups, None)


def measure_and_drop(
    backward: BackwardByTask,
    losses: Sequence[Output],
    graph: Cut,
    groups: Mapping[int, int],
    one: Tensor,
    *,
    blocks: int = 1,
    average: Average | None = None,
    retain_graph: bool = False,
    limit: int | None = None,
    passes: Counter[str],
) -> TaskGradients:
    """Measure Gramians and drop the gradients below the cut; the update takes one more backward pass there.

    Gradients are dropped as soon as their inner products are formed, stretch by stretch. Gradients on leaves that are
    no part of the Gramian are not measured.

    Args:
        backward, losses, graph, groups, one, blocks, average, retain_graph: as for `measure_and_keep`.
        limit: bytes of gradients to hold at a time; the gradients on one leaf are held even where they are more. A
            stretch with more is gone through several times.
        passes: counts the backward passes that make the update.
    """
    seeds, pieces = backward.above(losses, graph, groups, one, retain_graph=retain_graph)
    if average is not None:
        pieces = [_averaged(piece, groups, average) for piece in pieces]
    gramians = _Gramians(len(losses), blocks, one)
    for piece in pieces:
        gramians.add(piece, groups)
    if not graph.frontier:
        return TaskGradients(gramians.stacked(), pieces, groups, None)
    measured = [leaf for leaf in graph.leaves_below if groups[id(leaf)] >= 0]
    current: list[Seeds] = seeds
    for stretch, along in _merged(stretches(graph, measured), limit, len(losses)):
        following = current
        for number, leaves in enumerate(_portions(along, limit, len(losses))):
            part = stretch if number == 0 else Stretch(stretch.start, stretch.nodes, [])
            ends, found = backward.below(part, current, leaves, groups, retain_graph=True)
            following = ends if number == 0 else following
            while found:  # no name may hold on to a piece while the next ones are made
                gramians.add(found.pop() if average is None else _averaged(found.pop(), groups, average), groups)
        current = following

    def rest(weights: WeightsOfGroup) -> Update:
        members: dict[int, list[Tensor]] = {}
        for leaf in graph.leaves_below:
            members.setdefault(groups[id(leaf)], []).append(leaf)
        together: list[tuple[Tensor, list[Tensor]]] = []  # groups of the very same weights share a pass
        for group, leaves in members.items():
            given = weights(group)
            known = next((wanted for other, wanted in together if other is given), None)
            if known is None:
                together.append((given, leaves))
            else:
                known += leaves
        update: Update = []
        for number, (given, leaves) in enumerate(together):
            mixed = _mixed(seeds, given)
            found = torch.autograd.grad(
                [graph.frontier[at] for at in mixed],
                leaves,
                list(mixed.values()),
                retain_graph=retain_graph or number < len(together) - 1,
                allow_unused=True,
            )
            passes["backward"] += 1
            update += [(leaf, gradient) for leaf, gradient in zip(leaves, found, strict=True) if gradient is not None]
        update = owned(update)
        if average is not None:
            update = [(leaf, gradient.contiguous()) for leaf, gradient in update]
            average([gradient for leaf, gradient in update if groups[id(leaf)] != INPUT])
        return update

    return TaskGradients(gramians.stacked(), pieces, groups, rest)


def _averaged(piece: Piece, groups: Mapping[int, int], average: Average) -> Piece:
    return piece if groups[id(piece.leaves[0])] == INPUT else piece.averaged(average)


def _mixed(seeds: Sequence[Seeds], weights: Tensor) -> dict[int, Tensor]:
    """The gradients at the cut of the weighted sum of losses."""
    mixed: dict[int, Tensor] = {}
    for own, weight in zip(seeds, weights.unbind(), strict=True):
        for at, gradient in own.items():
            scaled = gradient * weight.to(gradient.dtype)
            mixed[at] = mixed[at] + scaled if at in mixed else scaled
    return mixed


def _size(leaves: Sequence[Tensor], tasks: int) -> int:
    return tasks * sum(leaf.numel() * leaf.element_size() for leaf in leaves)


def _merged(
    parts: Sequence[tuple[Stretch, list[Tensor]]], limit: int | None, tasks: int
) -> list[tuple[Stretch, list[Tensor]]]:
    """Neighbouring stretches as one, as long as the gradients along them stay below the limit."""
    merged: list[tuple[Stretch, list[Tensor]]] = []
    for stretch, leaves in parts:
        if merged and (
            limit is None or not (leaves and merged[-1][1]) or _size([*merged[-1][1], *leaves], tasks) <= limit
        ):
            before, known = merged[-1]
            joined = Stretch(before.start, [*before.nodes, *stretch.nodes], stretch.end)
            merged[-1] = joined, [*known, *leaves]
        else:
            merged.append((stretch, leaves))
    return merged


def _portions(leaves: Sequence[Tensor], limit: int | None, tasks: int) -> list[list[Tensor]]:
    """The leaves in portions whose gradients stay below the limit; one portion at least."""
    portions: list[list[Tensor]] = [[]]
    for leaf in leaves:
        if portions[-1] and limit is not None and _size([*portions[-1], leaf], tasks) > limit:
            portions.append([])
        portions[-1].append(leaf)
    return portions


class _Gramians:
    """Sums of Gramians by block."""

    def __init__(self, tasks: int, blocks: int, like: Tensor) -> None:
        self._sums: list[Tensor | None] = [None] * blocks
        self._tasks, self._like = tasks, like

    def add(self, piece: Piece, groups: Mapping[int, int]) -> None:
        group = groups[id(piece.leaves[0])]
        if group >= 0:
            total = self._sums[group]
            self._sums[group] = piece.gramian() if total is None else total + piece.gramian()

    def stacked(self) -> Tensor:
        if len(self._sums) == 1 and self._sums[0] is not None:
            return self._sums[0][None]
        blank = widened(self._like).new_zeros(self._tasks, self._tasks)
        return torch.stack([blank if total is None else total for total in self._sums])
