"""The autograd graph of a step's losses: what each task reaches, and where the graphs of all tasks become one."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, NamedTuple

from torch import Tensor
from torch.autograd.graph import GradientEdge, get_gradient_edge

#: A loss, or the place in a graph where one comes from.
Output = Tensor | GradientEdge

_SHARED, _OWN = 1, 2


class Survey(NamedTuple):
    """What the losses of a step reach.

    Attributes:
        own: for each task the leaves that are not shared: its head's parameters.
        features: the places where the tasks' own graphs end and that of the shared parameters begins; empty where there
            is no such cut that every gradient passes just once.
        touched: for each task the indices of the features that it reaches.
        reaches: for each task whether it reaches any shared parameter.
        trunk: the nodes of the graph that reach shared parameters and no others.
    """

    own: list[list[Tensor]]
    features: list[GradientEdge]
    touched: list[list[int]]
    reaches: list[bool]
    trunk: list[Any]

    @property
    def heads(self) -> list[Tensor]:
        """All leaves that are not shared, each once."""
        return list({id(leaf): leaf for leaves in self.own for leaf in leaves}.values())

    @property
    def common(self) -> bool:
        """Whether all tasks reach the same features."""
        return bool(self.features) and all(touched == self.touched[0] for touched in self.touched)


def survey(losses: Sequence[Output], shared: Collection[int]) -> Survey:
    """Walk the graph of the losses once.

    A node belongs to the trunk when it reaches shared parameters and no others. The features are the edges on which
    one enters the trunk. Cutting there is right only if no feature lies behind another one, and none is a parameter.

    Args:
        losses: one a task.
        shared: the `id`s of the shared parameters.
    """
    edges = [edge(loss) for loss in losses]
    kinds = _kinds([place.node for place in edges], shared)
    numbers: dict[tuple[Any, int], int] = {}
    own, touched = [], []
    for place in edges:
        below, entered = _below(place, kinds)
        own.append(below)
        touched.append(sorted({numbers.setdefault(entry, len(numbers)) for entry in entered}))
    features = [GradientEdge(node, number) for node, number in numbers]
    if not any(own) or _nested([place.node for place in features]):
        features = []
    reaches = [bool(kinds[place.node] & _SHARED) for place in edges]
    return Survey(own, features, touched, reaches, [node for node, kind in kinds.items() if kind == _SHARED])


def edge(loss: Output) -> GradientEdge:
    """The place in the graph that a loss comes from."""
    return loss if isinstance(loss, GradientEdge) else get_gradient_edge(loss)


def leaves(losses: Sequence[Output]) -> list[Tensor]:
    """The leaf tensors that any of the losses reaches through its graph."""
    return survey(losses, ()).heads


def _kinds(roots: Sequence[Any], shared: Collection[int]) -> dict[Any, int]:
    """Which kinds of leaves each node reaches."""
    kinds: dict[Any, int] = {}
    pending = list(roots)
    while pending:
        node = pending[-1]
        if node in kinds:
            pending.pop()
            continue
        following = [next_node for next_node, _ in node.next_functions if next_node is not None]
        unknown = [next_node for next_node in following if next_node not in kinds]
        if unknown:
            pending.extend(unknown)
            continue
        pending.pop()
        kind = 0
        if not following and hasattr(node, "variable"):
            kind = _SHARED if id(node.variable) in shared else _OWN
        for next_node in following:
            kind |= kinds[next_node]
        kinds[node] = kind
    return kinds


def _below(start: GradientEdge, kinds: dict[Any, int]) -> tuple[list[Tensor], list[tuple[Any, int]]]:
    """A task's own leaves, and the edges on which its graph enters the trunk."""
    own: list[Tensor] = []
    entered: list[tuple[Any, int]] = []
    seen: set[Any] = set()
    pending = [(start.node, start.output_nr)]
    while pending:
        node, number = pending.pop()
        if kinds[node] == _SHARED:
            entered.append((node, number))
        elif node not in seen:
            seen.add(node)
            if not node.next_functions and hasattr(node, "variable"):
                own.append(node.variable)
            pending.extend((below, at) for below, at in node.next_functions if below is not None)
    return own, entered


def _nested(features: Sequence[Any]) -> bool:
    """Whether a feature is a parameter or lies behind another feature."""
    if any(not node.next_functions for node in features):
        return True
    ends = set(features)
    if len(ends) == 1:
        return False
    seen: set[Any] = set()
    pending = [following for node in ends for following, _ in node.next_functions]
    while pending:
        node = pending.pop()
        if node is not None and node not in seen:
            if node in ends:
                return True
            seen.add(node)
            pending.extend(following for following, _ in node.next_functions)
    return False


def branches(losses: Tensor) -> list[Output]:
    """The K losses of a (K,) tensor, each with only its own graph where the tensor is a `torch.stack` of them.

    Indexing the tensor instead would send zeros into the other losses' graphs, and zero times NaN is NaN: one broken
    loss would spoil the gradients of all. It also spares each task a pass through the node that stacks.
    """
    node = losses.grad_fn
    if node is None or node.name() != "StackBackward0":
        return list(losses.unbind())
    return [
        losses[k].detach() if following is None else GradientEdge(following, number)
        for k, (following, number) in enumerate(node.next_functions)
    ]
