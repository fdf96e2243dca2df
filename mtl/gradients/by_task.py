"""The gradients of all tasks on every leaf: each task's own part alone, then what they share, K times or at once."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.autograd.function import BackwardCFunction
from torch.autograd.graph import GradientEdge

from mtl.gradients.cut import Cut, Node, Stretch
from mtl.gradients.graph import Output, dense, real, size
from mtl.gradients.layers import Layer, linear_layers
from mtl.gradients.pieces import Own, Piece, Rows, linear

BATCHINGS = ("auto", "vmap", "loop")

#: Nodes whose backward pass takes longer for K gradients at once than for one after another (the gradients on the
#: weight of a convolution become a grouped convolution), or refuses (recurrent layers as one node).
_ONE_BY_ONE = ("Convolution", "Rnn")

#: Tasks from which on going back at once pays on a CPU, where starting an operation costs little.
_ENOUGH = 4

Wanted = Tensor | GradientEdge
#: What torch's message says when a graph is gone through that an earlier backward pass has freed.
FREED = "second time"
#: A task's gradients at the cut, or at another start of a stretch, by the number of the place.
Seeds = Mapping[int, Tensor]


class BackwardByTask:
    """Goes back through a graph for each task, and remembers whether that works for all of them at once.

    Args:
        batching: `vmap` goes back through what the tasks share for all of them at once, `loop` for one after another;
            `auto` chooses by the kinds of nodes in the graph, so that equal runs choose alike. They agree to rounding.
    """

    def __init__(self, batching: str = "auto") -> None:
        if batching not in BATCHINGS:
            raise ValueError(f"batching={batching!r} must be one of {', '.join(BATCHINGS)}")
        self._batching = batching
        self._proven = self._refused = False

    def above(
        self, losses: Sequence[Output], graph: Cut, groups: Mapping[int, int], one: Tensor, *, retain_graph: bool
    ) -> tuple[list[Seeds], list[Piece]]:
        """Each task's gradients at the cut, and the pieces of the leaves above it.

        Args:
            losses: K scalars.
            graph: where their graphs meet.
            groups: a number for each leaf by its id; leaves of unlike numbers share no piece.
            one: what a loss's gradient by itself is taken to be; more than 1 where gradients are to be scaled.
            retain_graph: whether the graph must survive.
        """
        return _above(losses, graph, groups, one, retain_graph)

    def below(
        self,
        stretch: Stretch,
        seeds: Sequence[Seeds],
        leaves: Sequence[Tensor],
        groups: Mapping[int, int],
        *,
        retain_graph: bool,
    ) -> tuple[list[Seeds], list[Piece]]:
        """Each task's gradients at the end of a stretch of the graph, and the pieces of the leaves along it.

        Args:
            stretch: what to go through.
            seeds: each task's gradients at its start.
            leaves: those whose gradients are wanted.
            groups: a number for each leaf by its id.
            retain_graph: whether the graph must survive.
        """
        layers = linear_layers(stretch.nodes, stretch.start, leaves, groups)
        inputs = [layer.inputs() for layer in layers]
        inside = {id(leaf) for layer in layers for leaf in layer.leaves}
        plain = [leaf for leaf in leaves if id(leaf) not in inside]
        places = [*stretch.end, *(GradientEdge(use, 0) for layer in layers for use in layer.uses)]
        if not places and not plain:
            return [{} for _ in seeds], []
        found = self._at_once(stretch, seeds, [*places, *plain], retain_graph)
        if found is None:
            found, rows = _one_by_one(stretch, seeds, places, plain, groups, retain_graph)
        else:
            pairs = zip(plain, found[len(places) :], strict=True)
            rows = [Rows([leaf], real(gradient).flatten(1)) for leaf, gradient in pairs if gradient is not None]
        ends = found[: len(stretch.end)]
        following: list[Seeds] = [
            {at: end[task] for at, end in enumerate(ends) if end is not None} for task in range(len(seeds))
        ]
        return following, [*_products(layers, inputs, found[len(ends) : len(places)]), *rows]

    def _at_once(
        self, stretch: Stretch, seeds: Sequence[Seeds], wanted: Sequence[Wanted], retain_graph: bool
    ) -> list[Tensor | None] | None:
        """The tasks' gradients (K, ...) on what is wanted, or None where one after another is the way."""
        if len(seeds) == 1 or self._refused or self._batching == "loop":
            return None
        if self._batching == "auto" and (
            (len(seeds) < _ENOUGH and _on_cpu(seeds)) or any(map(_one_by_one_only, stretch.nodes))
        ):
            return None
        given = [(edge, _stacked([own.get(at) for own in seeds])) for at, edge in enumerate(stretch.start)]
        given = [(edge, seed) for edge, seed in given if seed is not None]
        try:
            found = torch.autograd.grad(
                [edge for edge, _ in given],
                wanted,  # type: ignore[arg-type]  # tensors and places in a graph may be mixed
                [seed for _, seed in given],
                # The first time the graph has to outlive a failure.
                retain_graph=retain_graph or not self._proven,
                allow_unused=True,
                is_grads_batched=True,
            )
        except (RuntimeError, NotImplementedError) as error:
            if self._proven or FREED in str(error):
                raise
            self._refused = True
            warnings.warn(
                f"going back for all tasks at once failed ({_first_line(error)}); they go one after another from now "
                'on: give batching="loop" to say so from the start',
                stacklevel=7,
            )
            return None
        self._proven = True
        return list(found)


def _above(
    losses: Sequence[Output], graph: Cut, groups: Mapping[int, int], one: Tensor, retain_graph: bool
) -> tuple[list[Seeds], list[Piece]]:
    """Each task's gradients at the cut and on the leaves above it."""
    numbers = {(edge.node, edge.output_nr): at for at, edge in enumerate(graph.frontier)}
    last = len(losses) - 1
    seeds: list[Seeds] = []
    pieces: list[Piece] = []
    several: dict[int, list[Tensor | None]] = {}
    leaves: dict[int, Tensor] = {}
    reaching: dict[int, int] = {}
    for own in graph.above:
        for leaf in own:
            reaching[id(leaf)] = reaching.get(id(leaf), 0) + 1
    for task, (loss, own) in enumerate(zip(losses, graph.above, strict=True)):
        at_cut = numbers.get(_place(loss))
        if at_cut is not None:
            seeds.append({at_cut: one})
            continue
        crossed = graph.crossed[task]
        gradients = torch.autograd.grad(
            loss,
            [*(graph.frontier[at] for at in crossed), *own],  # type: ignore[arg-type]
            one,
            retain_graph=retain_graph or (task < last and not graph.apart),
            allow_unused=True,
        )
        seeds.append({at: gradient for at, gradient in zip(crossed, gradients, strict=False) if gradient is not None})
        alone: dict[int, list[tuple[Tensor, Tensor]]] = {}
        for leaf, gradient in zip(own, gradients[len(crossed) :], strict=True):
            if gradient is None:
                continue
            gradient = dense(gradient, leaf)
            if reaching[id(leaf)] == 1:
                alone.setdefault(groups[id(leaf)], []).append((leaf, gradient))
            else:
                leaves[id(leaf)] = leaf
                several.setdefault(id(leaf), [None] * len(losses))[task] = gradient
        pieces += [
            Own([leaf for leaf, _ in pairs], task, len(losses), [gradient for _, gradient in pairs])
            for pairs in alone.values()
        ]
    for key, found in several.items():
        rows = _stacked(found)
        assert rows is not None
        pieces.append(Rows([leaves[key]], real(rows).flatten(1)))
    return seeds, pieces


def _one_by_one(
    stretch: Stretch,
    seeds: Sequence[Seeds],
    places: Sequence[GradientEdge],
    plain: Sequence[Tensor],
    groups: Mapping[int, int],
    retain_graph: bool,
) -> tuple[list[Tensor | None], list[Piece]]:
    """The tasks' gradients (K, ...) at the places, and on the plain leaves."""
    at_places: list[list[Tensor | None]] = [[] for _ in places]
    rows = [_blank(leaves, len(seeds)) for leaves in _alike(plain, groups)]
    wanted: list[Wanted] = [*places, *(leaf for piece in rows for leaf in piece.leaves)]
    last = len(seeds) - 1
    for task, own in enumerate(seeds):
        gradients: list[Tensor | None] = [None] * len(wanted)
        if own:
            gradients = list(
                torch.autograd.grad(
                    [stretch.start[at] for at in own],
                    wanted,  # type: ignore[arg-type]
                    list(own.values()),
                    retain_graph=retain_graph or task < last,
                    allow_unused=True,
                )
            )
        for collected, gradient in zip(at_places, gradients, strict=False):
            collected.append(gradient)
        following = iter(gradients[len(places) :])
        for piece in rows:
            flat = [
                real(leaf.new_zeros(leaf.shape) if gradient is None else dense(gradient, leaf)).reshape(-1)
                for leaf, gradient in zip(piece.leaves, following, strict=False)
            ]
            torch.cat(flat, out=piece.flat[task])
    return [_stacked(collected) for collected in at_places], list(rows)


def _products(
    layers: Sequence[Layer], inputs: Sequence[Sequence[Tensor]], outputs: Sequence[Tensor | None]
) -> list[Piece]:
    """The linear layers' pieces; `outputs` has a gradient (K, n, out) a use, None where none arrives."""
    following = iter(outputs)
    pieces: list[Piece] = []
    for layer, given in zip(layers, inputs, strict=True):
        pairs = [(one, gradient) for one, gradient in zip(given, following, strict=False) if gradient is not None]
        if len(pairs) == 1:
            pieces += linear(layer.leaves, *pairs[0])
        elif pairs:
            joined = torch.cat([one for one, _ in pairs]), torch.cat([gradient for _, gradient in pairs], 1)
            pieces += linear(layer.leaves, *joined)
    return pieces


def _alike(leaves: Sequence[Tensor], groups: Mapping[int, int]) -> list[list[Tensor]]:
    """The leaves by group, dtype and device."""
    alike: dict[tuple[int, torch.dtype, torch.device], list[Tensor]] = {}
    for leaf in leaves:
        alike.setdefault((groups[id(leaf)], leaf.dtype, leaf.device), []).append(leaf)
    return list(alike.values())


def _blank(leaves: Sequence[Tensor], tasks: int) -> Rows:
    return Rows(leaves, real(leaves[0].detach()).new_empty(tasks, sum(map(size, leaves))))


def _stacked(gradients: Sequence[Tensor | None]) -> Tensor | None:
    """The tasks' gradients as one, zeros for a task that has none; None when no task has one."""
    some = next((gradient for gradient in gradients if gradient is not None), None)
    if some is None:
        return None
    return torch.stack([torch.zeros_like(some) if gradient is None else gradient for gradient in gradients])


def _place(loss: Output) -> tuple[Node, int]:
    return (loss.grad_fn, loss.output_nr) if isinstance(loss, Tensor) else (loss.node, loss.output_nr)


def _one_by_one_only(node: Node) -> bool:
    return isinstance(node, BackwardCFunction) or any(kind in node.name() for kind in _ONE_BY_ONE)


def _on_cpu(seeds: Sequence[Seeds]) -> bool:
    return all(gradient.device.type == "cpu" for own in seeds for gradient in own.values())


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]
