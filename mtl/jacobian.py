"""The Jacobian of the task losses on the shared parameters, at the cost of K backward passes through the trunk alone.

Each task's gradient goes through its own head once, down to the features that the tasks share (`mtl.graph.survey`);
from there K passes go through the trunk, one after another (`loop`) or as one batched pass (`vmap`). Which is faster
depends on model and machine, so `auto` times both once and remembers.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge

from mtl.graph import Output, Survey, edge
from mtl.linear import Layer, linear_layers
from mtl.pieces import Piece, Rows, joined, of_linear

BATCHING = ("auto", "vmap", "loop")
_WARM_UP = 2  # measurements before those that are timed

#: A task's gradients on its own leaves.
Own = list[tuple[Tensor, Tensor]]

#: A leaf, or a place in the graph.
Wanted = Tensor | GradientEdge

#: Gradients of K tasks, (K, *shape) for each tensor that was asked for, None where no task reaches it.
Stacks = list[Tensor | None]

#: Computes them, and keeps the graph if told so.
Way = Callable[[bool], Stacks]


class Jacobian:
    """The gradients of K tasks on the shared parameters.

    Attributes:
        pieces: of parameters that a task reaches; each such parameter is in one.
        shared: all parameters, D numbers.
        num_tasks: K.
        dtype: of what is made of the gradients, float32 at least.
    """

    def __init__(self, pieces: Sequence[Piece], shared: Sequence[Tensor], num_tasks: int) -> None:
        self.pieces, self.shared, self.num_tasks = pieces, shared, num_tasks
        self.dtype = torch.promote_types(shared[0].dtype, torch.float32)

    def gramian(self) -> Tensor:
        """G = J J^T, (K, K)."""
        gramian = self.shared[0].new_zeros(self.num_tasks, self.num_tasks, dtype=self.dtype)
        for piece in self.pieces:
            gramian += piece.gramian()
        return gramian

    def flat(self) -> Tensor:
        """J, (K, D), zeros where no task reaches."""
        known = {id(leaf): rows for piece in self.pieces for leaf, rows in zip(piece.leaves, piece.rows(), strict=True)}
        columns = [
            known[id(leaf)] if id(leaf) in known else leaf.new_zeros(self.num_tasks, leaf.numel())
            for leaf in self.shared
        ]
        return torch.cat(columns, 1).to(self.dtype)

    def finite(self) -> Tensor:
        """Which rows are finite, (K,)."""
        sums = [piece.sums() for piece in self.pieces]
        return torch.stack(sums).sum(0).isfinite()

    def cleaned(self, finite: Tensor) -> Jacobian:
        """Zeros in the rows that are not finite."""
        return Jacobian([piece.kept(finite) for piece in self.pieces], self.shared, self.num_tasks)

    def combined(self, weights: Tensor) -> list[Tensor | None]:
        """`sum_k weights[k] J[k]` for each parameter, None where no task reaches; weights (K,)."""
        known: dict[int, Tensor] = {}
        for piece in self.pieces:
            known.update(zip(map(id, piece.leaves), piece.combined(weights), strict=True))
        return [known.get(id(parameter)) for parameter in self.shared]


def unflatten(flat: Tensor, shared: Sequence[Tensor]) -> list[Tensor]:
    """Pieces of a (D,) vector in the shapes of the parameters."""
    pieces = flat.split([parameter.numel() for parameter in shared])
    return [piece.view_as(parameter) for piece, parameter in zip(pieces, shared, strict=True)]


class Differentiator:
    """Computes Jacobians, and learns how to do so fastest.

    Attributes:
        choices: what `auto` has settled on, by number of tasks.
    """

    def __init__(self, batching: str = "auto") -> None:
        if batching not in BATCHING:
            raise ValueError(f"batching={batching!r} must be one of {', '.join(BATCHING)}")
        self.batching = batching
        self.choices: dict[int, str] = {}
        self._measured: dict[int, int] = {}

    def __call__(
        self,
        losses: Sequence[Output],
        shared: Sequence[Tensor],
        found: Survey,
        *,
        scale: Tensor | None = None,
        retain_graph: bool = False,
    ) -> tuple[Jacobian, list[Own]]:
        """The Jacobian on `shared`, and each task's gradients on its own leaves; both times `scale` where given."""
        if not found.features and any(found.own):
            return _one_by_one(losses, shared, found, scale, retain_graph=retain_graph)
        start, own = through_heads(losses, found, scale)
        pieces = self._pieces(start, found, shared, retain_graph=retain_graph)
        return Jacobian(pieces, shared, len(losses)), own

    def gramian(
        self,
        losses: Sequence[Output],
        groups: Sequence[Sequence[Tensor]],
        found: Survey,
        *,
        scale: Tensor | None = None,
        average: Callable[[Jacobian], Jacobian] = lambda jacobian: jacobian,
    ) -> tuple[Tensor, int]:
        """G on all parameters of `groups`, measured group by group so that only one group's Jacobian is held at a time.

        Each group takes K passes through the trunk, down to its own depth. The graph is kept for the pass that applies
        the weights. `average` is applied to each group's Jacobian.

        Returns:
            G (K, K), times the square of `scale`, and the number of passes.
        """
        start, _ = through_heads(losses, found._replace(own=[[] for _ in losses]), scale)
        gramian: Tensor | None = None
        for group in groups:
            pieces = self._pieces(start, found, group, retain_graph=True)
            part = average(Jacobian(pieces, group, len(losses))).gramian()
            del pieces  # not to be held while those of the next group are made
            gramian = part if gramian is None else gramian + part
        assert gramian is not None
        return gramian, len(losses) * len(groups)

    def _pieces(self, start: Start, found: Survey, parameters: Sequence[Tensor], *, retain_graph: bool) -> list[Piece]:
        """Gradients of linear layers as products, all others written out."""
        layers = linear_layers(found.trunk, start.outputs, parameters)
        inputs = [layer.inputs() for layer in layers]
        inside = {id(leaf) for layer in layers for leaf in layer.leaves}
        plain = [parameter for parameter in parameters if id(parameter) not in inside]
        uses = [GradientEdge(use, 0) for layer in layers for use in layer.uses]
        stacks = self._stacks(start, [*uses, *plain], retain_graph=retain_graph)
        pieces = _products(layers, inputs, stacks[: len(uses)])
        for leaf, stack in zip(plain, stacks[len(uses) :], strict=True):
            if stack is not None:
                pieces.append(Rows([leaf], stack.flatten(1)))
        return joined(pieces)

    def _stacks(self, start: Start, wanted: Sequence[Wanted], *, retain_graph: bool) -> Stacks:
        """The tasks' gradients on what is wanted."""

        def loop(retain: bool) -> Stacks:
            return _loop(start, wanted, retain_graph=retain)

        def vmap(retain: bool) -> Stacks:
            return list(
                torch.autograd.grad(
                    start.outputs,
                    wanted,  # type: ignore[arg-type]  # tensors and places may be mixed
                    start.batched,
                    is_grads_batched=True,
                    retain_graph=retain,
                    allow_unused=True,
                )
            )

        tasks = len(start.cotangents)
        way = self._way(tasks, loop, vmap) if start.batched and tasks > 1 else "loop"
        return (vmap if way == "vmap" else loop)(retain_graph)

    def _way(self, tasks: int, loop: Way, vmap: Way) -> str:
        """`loop` or `vmap`."""
        if self.batching == "loop":
            return "loop"
        if tasks in self.choices:
            return self.choices[tasks]
        if self.batching == "vmap":
            self.choices[tasks] = "vmap" if _works(vmap) else "loop"
            return self.choices[tasks]
        self._measured[tasks] = self._measured.get(tasks, 0) + 1
        if self._measured[tasks] > _WARM_UP:
            self.choices[tasks] = "vmap" if _works(vmap) and _seconds(vmap) < _seconds(loop) else "loop"
        return self.choices.get(tasks, "loop")


def groups_within(limit: int | None, parameters: Sequence[Tensor], num_tasks: int) -> list[list[Tensor]]:
    """Neighbouring parameters whose (K, n) task gradients fit into `limit` bytes together, one at least in a group."""
    if limit is None:
        return [[*parameters]]
    groups: list[list[Tensor]] = []
    left = 0
    for parameter in parameters:
        size = num_tasks * parameter.numel() * max(parameter.element_size(), 4)
        if not groups or size > left:
            groups.append([])
            left = limit
        groups[-1].append(parameter)
        left -= size
    return groups


class Start(NamedTuple):
    """Where the passes through the trunk start.

    Attributes:
        outputs: places in the graph.
        cotangents: for each task the gradient of its loss there, None where it does not reach.
        batched: the same with a leading task axis, a tensor for each place; empty where tasks reach different places.
    """

    outputs: list[GradientEdge]
    cotangents: list[list[Tensor | None]]
    batched: list[Tensor]


def through_heads(losses: Sequence[Output], found: Survey, scale: Tensor | None) -> tuple[Start, list[Own]]:
    """Each task's gradients on the features, and on its own leaves."""
    seeds = [_seed(loss, scale) for loss in losses]
    if not found.features:
        cotangents = [[seed if k == task else None for k in range(len(seeds))] for task, seed in enumerate(seeds)]
        edges = [edge(loss) for loss in losses]
        same = len({place.node for place in edges}) == 1  # the losses are entries of one tensor
        rows = list(torch.stack(seeds).diag()) if same else []
        return Start(edges, cotangents, rows), [[] for _ in losses]
    cotangents, own = [], []
    for loss, seed, touched, leaves in zip(losses, seeds, found.touched, found.own, strict=True):
        wanted: list[Any] = [*(found.features[index] for index in touched), *leaves]
        gradients = torch.autograd.grad(loss, wanted, seed, retain_graph=True, allow_unused=True)
        row: list[Tensor | None] = [None] * len(found.features)
        for index, gradient in zip(touched, gradients, strict=False):
            row[index] = gradient
        cotangents.append(row)
        own.append(_pairs(leaves, gradients[len(touched) :]))
    columns = [_stacked(column) for column in zip(*cotangents, strict=True)] if found.common else []
    batched = [column for column in columns if column is not None]
    return Start(found.features, cotangents, batched if len(batched) == len(found.features) else []), own


def _loop(start: Start, wanted: Sequence[Wanted], *, retain_graph: bool) -> Stacks:
    rows: list[Sequence[Tensor | None]] = []
    for task, row in enumerate(start.cotangents):
        given = [
            (place, cotangent) for place, cotangent in zip(start.outputs, row, strict=True) if cotangent is not None
        ]
        last = task == len(start.cotangents) - 1
        rows.append(
            torch.autograd.grad(
                [place for place, _ in given],
                wanted,  # type: ignore[arg-type]
                [cotangent for _, cotangent in given],
                retain_graph=retain_graph or not last,
                allow_unused=True,
            )
            if given
            else (None,) * len(wanted)
        )
    return _columns(rows)


def _columns(rows: list[Sequence[Tensor | None]]) -> Stacks:
    """Each tensor's gradients of all tasks as one; `rows` is emptied, so that nothing is held twice."""
    columns = [list(column) for column in zip(*rows, strict=True)]
    rows.clear()
    stacks = []
    for column in columns:
        stacks.append(_stacked(column))
        column.clear()
    return stacks


def _products(layers: Sequence[Layer], inputs: Sequence[Sequence[Tensor]], outputs: Stacks) -> list[Piece]:
    """The pieces of linear layers; `outputs` has (K, n, out) a use, None where no task reaches it."""
    following = iter(outputs)
    pieces: list[Piece] = []
    for layer, given in zip(layers, inputs, strict=True):
        pairs = [(one, gradient) for one, gradient in zip(given, following, strict=False) if gradient is not None]
        if len(pairs) == 1:
            pieces += of_linear(layer.leaves, *pairs[0])
        elif pairs:
            together = torch.cat([one for one, _ in pairs]), torch.cat([gradient for _, gradient in pairs], 1)
            pieces += of_linear(layer.leaves, *together)
    return pieces


def _one_by_one(
    losses: Sequence[Output], shared: Sequence[Tensor], found: Survey, scale: Tensor | None, *, retain_graph: bool
) -> tuple[Jacobian, list[Own]]:
    """One whole backward pass a task, for graphs without a cut."""
    rows: list[Sequence[Tensor | None]] = []
    own = []
    for task, (loss, leaves) in enumerate(zip(losses, found.own, strict=True)):
        retain = retain_graph or task < len(losses) - 1
        row = torch.autograd.grad(loss, [*shared, *leaves], _seed(loss, scale), retain_graph=retain, allow_unused=True)
        rows.append(row[: len(shared)])
        own.append(_pairs(leaves, row[len(shared) :]))
    pairs = zip(shared, _columns(rows), strict=True)
    pieces = [Rows([leaf], stack.flatten(1)) for leaf, stack in pairs if stack is not None]
    return Jacobian(joined(pieces), shared, len(losses)), own


def task_gradients(
    losses: Sequence[Output], wanted: Sequence[Tensor], *, scale: Tensor | None = None, retain_graph: bool = False
) -> list[tuple[Tensor | None, ...]]:
    """Each loss's gradient on each wanted tensor, None where it does not reach; K whole backward passes."""
    last = len(losses) - 1
    return [
        torch.autograd.grad(
            loss, wanted, _seed(loss, scale), retain_graph=retain_graph or index < last, allow_unused=True
        )
        for index, loss in enumerate(losses)
    ]


def _seed(loss: Output, scale: Tensor | None) -> Tensor:
    """The gradient of a loss, or of `scale` times it, by itself, which autograd cannot infer for a place in a graph."""
    like = loss if isinstance(loss, Tensor) else loss.node._input_metadata[loss.output_nr]
    if scale is not None:
        return scale.to(device=like.device, dtype=like.dtype)
    return torch.ones((), dtype=like.dtype, device=like.device)


def _stacked(column: Sequence[Tensor | None]) -> Tensor | None:
    """(K, *shape), zeros where a task does not reach; None where none does."""
    like = next((tensor for tensor in column if tensor is not None), None)
    if like is None:
        return None
    return torch.stack([torch.zeros_like(like) if tensor is None else tensor for tensor in column])


def _pairs(leaves: Sequence[Tensor], gradients: Sequence[Tensor | None]) -> Own:
    return [(leaf, gradient) for leaf, gradient in zip(leaves, gradients, strict=True) if gradient is not None]


def _works(vmap: Way) -> bool:
    try:
        vmap(True)
    except RuntimeError as error:
        warnings.warn(f"task gradients are computed one after another: {_first_line(error)}", stacklevel=6)
        return False
    return True


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def _seconds(way: Way) -> float:
    """The shorter time of two runs."""
    times = []
    for _ in range(2):
        start = time.perf_counter()
        stacks = way(True)
        device = next(stack.device for stack in stacks if stack is not None)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)
