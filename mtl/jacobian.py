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

BATCHING = ("auto", "vmap", "loop")
_WARM_UP = 2  # measurements before those that are timed

#: A task's gradients on its own leaves.
Own = list[tuple[Tensor, Tensor]]

#: Computes the blocks of a Jacobian, and keeps the graph if told so.
Way = Callable[[bool], list[Tensor | None]]


class Jacobian:
    """The gradients of K tasks on the shared parameters, a block (K, *shape) for each parameter, float32 at least.

    A block is None where no task reaches the parameter.
    """

    def __init__(self, blocks: Sequence[Tensor | None], shared: Sequence[Tensor], num_tasks: int) -> None:
        self.shared, self.num_tasks = shared, num_tasks
        self.dtype = torch.promote_types(shared[0].dtype, torch.float32)
        self.blocks = [None if block is None else block.to(self.dtype) for block in blocks]

    def gramian(self) -> Tensor:
        """G = J J^T, (K, K)."""
        gramian = self.shared[0].new_zeros(self.num_tasks, self.num_tasks, dtype=self.dtype)
        for block in self.blocks:
            if block is not None:
                rows = block.flatten(1)
                gramian = torch.addmm(gramian, rows, rows.T)
        return gramian

    def flat(self) -> Tensor:
        """J, (K, D)."""
        return torch.cat(
            [
                parameter.new_zeros(self.num_tasks, parameter.numel(), dtype=self.dtype)
                if block is None
                else block.flatten(1)
                for block, parameter in zip(self.blocks, self.shared, strict=True)
            ],
            1,
        )

    def finite(self) -> Tensor:
        """Which rows are finite, (K,)."""
        sums = [block.flatten(1).sum(1) for block in self.blocks if block is not None]
        return torch.stack(sums).sum(0).isfinite()

    def cleaned(self, finite: Tensor) -> Jacobian:
        """Zeros in the rows that are not finite."""
        blocks = [
            None if block is None else torch.where(finite.view(-1, *[1] * (block.ndim - 1)), block, 0)
            for block in self.blocks
        ]
        return Jacobian(blocks, self.shared, self.num_tasks)

    def combined(self, weights: Tensor) -> list[Tensor | None]:
        """`sum_k weights[k] J[k]` for each parameter; weights (K,)."""
        weights = weights.to(self.dtype)
        return [None if block is None else (weights @ block.flatten(1)).view(block.shape[1:]) for block in self.blocks]


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
        return Jacobian(self._blocks(start, shared, retain_graph=retain_graph), shared, len(losses)), own

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
            part = average(Jacobian(self._blocks(start, group, retain_graph=True), group, len(losses))).gramian()
            gramian = part if gramian is None else gramian + part
        assert gramian is not None
        return gramian, len(losses) * len(groups)

    def _blocks(self, start: Start, shared: Sequence[Tensor], *, retain_graph: bool) -> list[Tensor | None]:
        def loop(retain: bool) -> list[Tensor | None]:
            return _loop(start, shared, retain_graph=retain)

        def vmap(retain: bool) -> list[Tensor | None]:
            return list(
                torch.autograd.grad(
                    start.outputs,
                    shared,
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


def _loop(start: Start, shared: Sequence[Tensor], *, retain_graph: bool) -> list[Tensor | None]:
    rows = []
    for task, row in enumerate(start.cotangents):
        given = [
            (place, cotangent) for place, cotangent in zip(start.outputs, row, strict=True) if cotangent is not None
        ]
        last = task == len(start.cotangents) - 1
        rows.append(
            torch.autograd.grad(
                [place for place, _ in given],
                shared,
                [cotangent for _, cotangent in given],
                retain_graph=retain_graph or not last,
                allow_unused=True,
            )
            if given
            else (None,) * len(shared)
        )
    return [_stacked(column) for column in zip(*rows, strict=True)]


def _one_by_one(
    losses: Sequence[Output], shared: Sequence[Tensor], found: Survey, scale: Tensor | None, *, retain_graph: bool
) -> tuple[Jacobian, list[Own]]:
    """One whole backward pass a task, for graphs without a cut."""
    rows, own = [], []
    for task, (loss, leaves) in enumerate(zip(losses, found.own, strict=True)):
        retain = retain_graph or task < len(losses) - 1
        row = torch.autograd.grad(loss, [*shared, *leaves], _seed(loss, scale), retain_graph=retain, allow_unused=True)
        rows.append(row[: len(shared)])
        own.append(_pairs(leaves, row[len(shared) :]))
    return Jacobian([_stacked(column) for column in zip(*rows, strict=True)], shared, len(losses)), own


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
        blocks = way(True)
        device = next(block.device for block in blocks if block is not None)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - start)
    return min(times)
