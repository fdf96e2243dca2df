"""Linear layers in an autograd graph: there a gradient on a weight is the product of two things already at hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.autograd.graph import GradientEdge

#: A node of the graph, whose class torch makes as it goes.
Node = Any

_WITH_BIAS, _WITHOUT_BIAS, _TRANSPOSE = "AddmmBackward0", "MmBackward0", "TBackward0"


@dataclass(frozen=True)
class Layer:
    """A linear layer and its uses.

    Attributes:
        leaves: the weight (out, in), and the bias (out,) if it is the layer's alone.
        uses: the nodes of `F.linear`, one for each time that the layer is applied.
    """

    leaves: list[Tensor]
    uses: list[Node]

    def inputs(self) -> list[Tensor]:
        """What each use was applied to, (n, in); the graph must not have been freed."""
        saved = (node._saved_mat1 if node.name() == _WITH_BIAS else node._saved_self for node in self.uses)
        return [given.detach() for given in saved]


def linear_layers(nodes: Collection[Node], entries: Sequence[GradientEdge], leaves: Sequence[Tensor]) -> list[Layer]:
    """The linear layers among the nodes whose parameters serve nothing else.

    Args:
        nodes: a part of a graph that holds every use of the leaves.
        entries: places in it where gradients come in from outside.
        leaves: those whose gradients are wanted.
    """
    wanted = {id(leaf) for leaf in leaves}
    candidates = {node: turned for node in nodes if (turned := _transposed_weight(node)) is not None}
    if not candidates:
        return []
    edges = Counter(following for node in nodes for following, _ in node.next_functions)
    outside = {place.node for place in entries}
    uses: dict[Node, list[Node]] = defaultdict(list)
    for node, turned in candidates.items():
        if turned not in outside and edges[turned] == 1:
            leaf = turned.next_functions[0][0]
            if leaf is not None and hasattr(leaf, "variable") and id(leaf.variable) in wanted:
                uses[leaf].append(node)
    layers = []
    for leaf, users in uses.items():
        weight = leaf.variable
        if edges[leaf] == len(users) and _ordinary(weight):
            bias = _bias(users, edges)
            alone = bias is not None and bias.shape == weight.shape[:1] and id(bias) in wanted
            layers.append(Layer([weight, bias] if bias is not None and alone else [weight], users))
    return layers


def _transposed_weight(node: Node) -> Node | None:
    """The node of the weight's transpose if `node` is that of `F.linear` on a matrix."""
    name = node.name()
    if name == _WITH_BIAS and node._saved_alpha == 1 and node._saved_beta == 1:
        turned = node.next_functions[2][0]
    elif name == _WITHOUT_BIAS:
        turned = node.next_functions[1][0]
    else:
        return None
    return turned if turned is not None and turned.name() == _TRANSPOSE else None


def _bias(nodes: Sequence[Node], edges: Mapping[Node, int]) -> Tensor | None:
    """The bias that all these nodes add and no other node reads."""
    added = {node.next_functions[0][0] if node.name() == _WITH_BIAS else None for node in nodes}
    leaf = next(iter(added))
    if len(added) > 1 or leaf is None or not hasattr(leaf, "variable") or edges[leaf] != len(nodes):
        return None
    return leaf.variable if _ordinary(leaf.variable) else None


def _ordinary(leaf: Tensor) -> bool:
    """Whether nothing happens to the leaf's gradient on its way that a product formed elsewhere would miss."""
    return not leaf._backward_hooks and not leaf.is_complex()
