"""Where the tasks' graphs meet: the tensors between the heads and what the heads share, found in the autograd graph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.autograd.graph import GradientEdge

from mtl.gradients.graph import Output

Node = Any  # torch.autograd.graph.Node, whose subclasses torch makes as it goes


@dataclass(frozen=True)
class Cut:
    """A cut through the graph of K losses, above which each task goes back by itself.

    Attributes:
        frontier: the cut, as places in the graph. Each path from a loss to a leaf crosses at most one of them, and no
            place lies behind another, so gradients there lead on to exact gradients below.
        crossed: for each task the indices of the places that it reaches.
        above: for each task the leaves that it reaches without crossing; usually its head.
        below: the nodes from the cut on, in an order in which each comes before those it leads to.
        leaves_below: the leaves that are reached through the cut only.
        apart: no two tasks share a node above the cut.
    """

    frontier: list[GradientEdge]
    crossed: list[list[int]]
    above: list[list[Tensor]]
    below: list[Node]
    leaves_below: list[Tensor]
    apart: bool

    def leaves(self) -> list[Tensor]:
        """Every leaf that any loss reaches, once."""
        found = {id(leaf): leaf for own in self.above for leaf in own}
        return list((found | {id(leaf): leaf for leaf in self.leaves_below}).values())


@dataclass(frozen=True)
class Stretch:
    """A part of a graph between two cuts.

    Attributes:
        start: the places where gradients come in.
        nodes: what lies between, in an order in which each comes before those it leads to.
        end: the places where gradients go on to the next stretch; none in the last one.
    """

    start: list[GradientEdge]
    nodes: list[Node]
    end: list[GradientEdge]


def cut(losses: Sequence[Output]) -> Cut:
    """The cut below which nodes serve two tasks or more.

    A node that only one task reaches belongs to that task. Where the tasks leave the shared part at several depths,
    the cut is moved down to where no place of it leads to another: gradients at two places one behind the other would
    count the path between them twice.
    """
    roots = [
        (loss.grad_fn, loss.output_nr) if isinstance(loss, Tensor) else (loss.node, loss.output_nr) for loss in losses
    ]
    order, masks = _ordered(roots)
    own = {node for node in order if masks[node] & (masks[node] - 1) == 0}
    apart = True
    while True:
        edges, targets = _crossing(roots, order, masks, own)
        deeper = _behind(targets, order, own)
        if not deeper:
            break
        apart = False
        own |= _leading_to(deeper, order, own)

    frontier: list[GradientEdge] = []
    crossed: list[list[int]] = [[] for _ in losses]
    above: list[list[Tensor]] = [[] for _ in losses]
    direct = set()
    for (node, number), mask in edges.items():
        if hasattr(node, "variable"):
            direct.add(node)
        else:
            for task in _bits(mask):
                crossed[task].append(len(frontier))
            frontier.append(GradientEdge(node, number))
    below, leaves_below = [], []
    for node in order:
        leaf = hasattr(node, "variable")
        if leaf and not node.variable.requires_grad:  # frozen since
            continue
        if node in own or node in direct:
            if leaf:
                for task in _bits(masks[node]):
                    above[task].append(node.variable)
        elif leaf:
            leaves_below.append(node.variable)
        else:
            below.append(node)
    return Cut(frontier, crossed, above, below, leaves_below, apart)


def stretches(graph: Cut, leaves: Sequence[Tensor]) -> list[tuple[Stretch, list[Tensor]]]:
    """What lies below the cut in as many stretches as there are, one after another, with the leaves along each.

    A stretch ends where everything after it goes through one place.

    Args:
        graph: the graph.
        leaves: those of its leaves below the cut that are wanted.
    """
    position = {node: at for at, node in enumerate(graph.below)}
    wanted = {id(leaf) for leaf in leaves}
    last_use: dict[Node, int] = {}
    for at, node in enumerate(graph.below):
        for following, _ in node.next_functions:
            if following is not None and hasattr(following, "variable"):
                last_use[following] = at
    incoming: dict[Node, set[int]] = {}
    for edge in graph.frontier:
        incoming.setdefault(edge.node, set()).add(edge.output_nr)
    farthest = max(position[edge.node] for edge in graph.frontier)
    parts: list[tuple[Stretch, list[Tensor]]] = []
    start = graph.frontier
    nodes: list[Node] = []
    along: dict[int, Tensor] = {}
    for at, node in enumerate(graph.below):
        if nodes and farthest <= at and len(incoming[node]) == 1:
            end = [GradientEdge(node, next(iter(incoming[node])))]
            parts.append((Stretch(start, nodes, end), list(along.values())))
            start, nodes, along = end, [], {}
        nodes.append(node)
        for following, number in node.next_functions:
            if following is None:
                continue
            if following in last_use:
                farthest = max(farthest, last_use[following])
                if id(following.variable) in wanted:
                    along[id(following.variable)] = following.variable
            else:
                incoming.setdefault(following, set()).add(number)
                farthest = max(farthest, position[following])
    parts.append((Stretch(start, nodes, []), list(along.values())))
    return parts


def _ordered(roots: Sequence[tuple[Node, int]]) -> tuple[list[Node], dict[Node, int]]:
    """All nodes, each before those it leads to, and for each the set of tasks that reach it, as bits of a number."""
    counts: dict[Node, int] = {}
    masks: dict[Node, int] = {}
    pending = []
    for task, (node, _) in enumerate(roots):
        if node not in masks:
            counts[node] = 0
            pending.append(node)
        masks[node] = masks.get(node, 0) | 1 << task
    while pending:
        for following, _ in pending.pop().next_functions:
            if following is not None:
                if following in counts:
                    counts[following] += 1
                else:
                    counts[following] = 1
                    pending.append(following)
    order = []
    pending = [node for node in masks if counts[node] == 0]
    while pending:
        node = pending.pop()
        order.append(node)
        mask = masks[node]
        for following, _ in node.next_functions:
            if following is not None:
                masks[following] = masks.get(following, 0) | mask
                counts[following] -= 1
                if counts[following] == 0:
                    pending.append(following)
    return order, masks


def _crossing(
    roots: Sequence[tuple[Node, int]], order: Sequence[Node], masks: dict[Node, int], own: set[Node]
) -> tuple[dict[tuple[Node, int], int], set[Node]]:
    """The places where paths leave `own`, each with the tasks that leave it there, and their nodes."""
    edges: dict[tuple[Node, int], int] = {}
    for task, edge in enumerate(roots):
        if edge[0] not in own:
            edges[edge] = edges.get(edge, 0) | 1 << task
    for node in order:
        if node in own:
            for edge in node.next_functions:
                if edge[0] is not None and edge[0] not in own:
                    edges[edge] = edges.get(edge, 0) | masks[node]
    return edges, {node for node, _ in edges}


def _behind(targets: set[Node], order: Iterable[Node], own: set[Node]) -> set[Node]:
    """Those of the targets that another target leads to."""
    reached: set[Node] = set()
    for node in order:
        if node not in own and (node in targets or node in reached):
            reached.update(following for following, _ in node.next_functions)
    return targets & reached


def _leading_to(targets: set[Node], order: Sequence[Node], own: set[Node]) -> set[Node]:
    """The nodes outside `own` that lead to any of the targets."""
    leading: set[Node] = set()
    for node in reversed(order):
        if node not in own and any(
            following in targets or following in leading for following, _ in node.next_functions
        ):
            leading.add(node)
    return leading


def _bits(mask: int) -> list[int]:
    return [task for task in range(mask.bit_length()) if mask >> task & 1]
