"""Linear layers in a graph: there the gradients on a weight are the product of two things that are already at hand."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor
from torch.autograd.graph import GradientEdge

from mtl.gradients.cut import Node

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


def linear_layers(
    nodes: Sequence[Node], start: Sequence[GradientEdge], leaves: Sequence[Tensor], groups: Mapping[int, int]
) -> list[Layer]:
    """The linear layers among the nodes whose parameters serve nothing else.

    Args:
        nodes: a part of a graph that holds every use of the leaves.
        start: places in it where gradients come in from outside.
        leaves: those whose gradients are wanted.
        groups: a number for each leaf by its id; a weight and a bias of unlike numbers do not make one layer.
    """
    wanted = {id(leaf) for leaf in leaves}
    edges = Counter(following for node in nodes for following, _ in node.next_functions)
    outside = {edge.node for edge in start}
    uses: dict[Node, list[Node]] = defaultdict(list)
    for node in nodes:
        turned = _transposed_weight(node)
        if turned is not None and turned not in outside and edges[turned] == 1:
            leaf = turned.next_functions[0][0]
            if leaf is not None and hasattr(leaf, "variable") and id(leaf.variable) in wanted:
                uses[leaf].append(node)
    layers = []
    for leaf, users in uses.items():
        weight = leaf.variable
        if edges[leaf] == len(users) and _ordinary(weight):
            bias = _bias(users, edges)
            if (
                bias is not None
                and bias.shape == weight.shape[:1]
                and id(bias) in wanted
                and groups[id(bias)] == groups[id(weight)]
            ):
                layers.append(Layer([weight, bias], users))
            else:
                layers.append(Layer([weight], users))
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
