"""A model's losses for all members at once: calls of a template under `vmap`, parameters as rows of a matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.utils import _pytree as pytree

from mtl.gradients.graph import distinct, real, shaped, size
from mtl.population.attention import PlainAttention
from mtl.population.compiled import CompiledForward
from mtl.population.convolution import OneByOne
from mtl.population.dropout import Recorded, replaced
from mtl.population.mapped import mapped
from mtl.population.normalisation import forgotten, gathering
from mtl.step.passes import called_with

#: From a model and a batch to one loss a task, as (K,) or by name.
LossFunction = Callable[[nn.Module, Any], Tensor | Mapping[str, Tensor]]


class Program:
    """One model as a template of the others, and the layout of a member's parameters in a row (P,).

    The shared parameters come first, in the order in which `shared` gives them, D numbers; then the heads'. A complex
    number takes two places.

    Args:
        model: the template, on its device; its own values are never used.
        shared: gives the shared parameters of a model.
    """

    def __init__(self, model: nn.Module, shared: Callable[[nn.Module], Iterable[Tensor]]) -> None:
        self.model = model
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        by_identity = {id(parameter): name for name, parameter in trained.items()}
        first = [by_identity[id(p)] for p in distinct(shared(model)) if p.requires_grad]
        if not first:
            raise ValueError("shared holds no parameter that requires grad")
        dtypes = {parameter.dtype.to_real() for parameter in trained.values()}
        if len(dtypes) > 1:
            raise ValueError(f"parameters have several dtypes, {', '.join(sorted(map(str, dtypes)))}: one is wanted")
        self.dtype = dtypes.pop()
        self.names = [*first, *(name for name in trained if name not in set(first))]
        self.shapes = [trained[name].shape for name in self.names]
        self.sizes = [size(trained[name]) for name in self.names]
        self.dtypes = [trained[name].dtype for name in self.names]
        self._like = [trained[name].detach() for name in self.names]
        self.shared_tensors, self.dimension = len(first), sum(self.sizes[: len(first)])
        self._on_cpu = all(parameter.device.type == "cpu" for parameter in trained.values())
        self._loops = self._on_cpu and any(isinstance(module, _ConvNd) for module in model.modules())
        self.fixed = [name for name, p in model.named_parameters() if not p.requires_grad]
        self.fixed += [name for name, _ in model.named_buffers()]

    def row(self, model: nn.Module) -> tuple[Tensor, dict[str, Tensor]]:
        """A member's parameters (P,), and its buffers and frozen parameters by name."""
        return self.row_of({**dict(model.named_parameters()), **dict(model.named_buffers())})

    def row_of(self, values: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """The same from parameters and buffers by name."""
        missing = [name for name in [*self.names, *self.fixed] if name not in values]
        if missing or any(values[n].shape != s for n, s in zip(self.names, self.shapes, strict=True)):
            raise ValueError("the members' models differ in structure: make one population of each")
        row = torch.cat([real(values[name].detach()).flatten() for name in self.names])
        return row, {name: values[name].detach().clone() for name in self.fixed}

    def state_dict(self, row: Tensor, fixed: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One member as a `state_dict` of the model."""
        pieces = row.split(self.sizes)
        named = {n: shaped(p, like) for n, p, like in zip(self.names, pieces, self._like, strict=True)}
        known = self.model.state_dict(keep_vars=True)
        tied = {id(tensor): name for name, tensor in [*self.model.named_parameters(), *self.model.named_buffers()]}
        every = {**named, **fixed}
        return {name: every[tied[id(tensor)]].detach().clone() for name, tensor in known.items()}

    def losses(
        self,
        losses: LossFunction,
        rows: Tensor,
        fixed: Mapping[str, Tensor],
        batch: Any,
        masks: Sequence[Tensor] = (),
        forward: CompiledForward | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """The K losses (N,) of a training step with their graph, and the buffers after it.

        Args:
            losses: from a model and a batch to its losses.
            rows: (N, P).
            fixed: buffers and frozen parameters, (N, ...) each.
            batch: tensors (N, ...) in any nesting.
            masks: what each dropout multiplies with, (N, ...) each, in the order of the calls; empty without dropout.
            forward: makes the pass as a compiled program; None makes it as it is.
        """
        self.model.train()
        call = ModelCall(self.model, lambda model, inner: separate(losses(model, inner)))

        def one(
            pieces: list[Tensor], held: dict[str, Tensor], inner: Any, own: Sequence[Tensor]
        ) -> tuple[list[Tensor], dict[str, Tensor]]:
            held = {name: value.clone() for name, value in held.items()}  # normalisation layers write to them
            values = {f"model.{n}": p for n, p in [*zip(self.names, pieces, strict=True), *held.items()]}
            with replaced(own), self._convolving(len(rows)), self._attending():
                return called_with(call, values, inner), held

        def every(rows: Tensor, *given: Any) -> Any:
            return mapped(one, len(rows))(self._pieces(rows), *given)

        given = dict(fixed), batch, list(masks)
        found: tuple[list[Tensor], dict[str, Tensor]]
        found = every(rows, *given) if forward is None else forward(every, rows, *given)
        return found

    def reach(
        self, losses: LossFunction, row: Tensor, fixed: Mapping[str, Tensor], batch: Any
    ) -> tuple[Tensor, Recorded]:
        """Which tensors the gradient of each loss reaches (K, T), and the dropouts of a forward pass, from one member.

        The batch is one member's. Nothing is left changed, the random state included.
        """
        pieces = [
            shaped(p.detach(), q).requires_grad_() for p, q in zip(row.split(self.sizes), self._like, strict=True)
        ]
        held = {name: value.clone() for name, value in fixed.items()}
        values = {f"model.{n}": p for n, p in [*zip(self.names, pieces, strict=True), *held.items()]}
        self.model.train()
        recorded = Recorded()
        devices = [row.device] if row.is_cuda else []
        with torch.random.fork_rng(devices), recorded:
            out = called_with(ModelCall(self.model, lambda m, b: separate(losses(m, b))), values, batch)
        reached = [torch.autograd.grad(loss, pieces, retain_graph=True, allow_unused=True) for loss in out]
        table = torch.tensor([[gradient is not None for gradient in row_] for row_ in reached], device=row.device)
        return table, recorded

    @torch.no_grad()
    def evaluate(
        self, function: Callable[[nn.Module, Any], Any], rows: Tensor, fixed: Mapping[str, Tensor], batch: Any
    ) -> Any:
        """`function(model, batch)` of every member on the same batch, in evaluation mode; results (N, ...)."""
        self.model.eval()
        call = ModelCall(self.model, function)

        def one(pieces: list[Tensor], held: dict[str, Tensor]) -> Any:
            values = {f"model.{n}": p for n, p in [*zip(self.names, pieces, strict=True), *held.items()]}
            with self._attending():
                return called_with(call, values, batch)

        if self._loops:
            each = [one(*members_of((self._pieces(rows), dict(fixed)), row)) for row in range(len(rows))]
            return pytree.tree_map(lambda *leaves: torch.stack(leaves), *each)
        return mapped(one, len(rows))(self._pieces(rows), dict(fixed))

    @torch.no_grad()
    def statistics(self, rows: Tensor, fixed: Mapping[str, Tensor], batches: Iterable[Any]) -> dict[str, Tensor]:
        """The buffers (N, ...) with the running statistics of batch normalisation gathered anew.

        Args:
            rows: (N, P).
            fixed: buffers and frozen parameters, (N, ...) each.
            batches: inputs of the model, the same for all members.
        """
        call, found = ModelCall(self.model, lambda model, inputs: model(inputs)), forgotten(self.model, fixed)

        def one(pieces: list[Tensor], held: dict[str, Tensor], inner: Any) -> dict[str, Tensor]:
            held = {name: value.clone() for name, value in held.items()}
            values = {f"model.{n}": p for n, p in [*zip(self.names, pieces, strict=True), *held.items()]}
            with self._convolving(len(rows)), self._attending():
                called_with(call, values, inner)
            return held

        for number, batch in enumerate(batches):
            with gathering(self.model, number):
                each = mapped(lambda pieces, held, shared=batch: one(pieces, held, shared), len(rows))
                found = each(self._pieces(rows), found)
        return found

    def _convolving(self, members: int) -> AbstractContextManager[Any]:
        # One alone is not under `vmap`, which autograd would need to see within.
        return OneByOne() if self._loops and members > 1 else nullcontext()

    def _attending(self) -> AbstractContextManager[Any]:
        return PlainAttention() if self._on_cpu else nullcontext()

    def _pieces(self, rows: Tensor) -> list[Tensor]:
        pieces = rows.split(self.sizes, 1)
        return [
            shaped(piece, like.expand(len(rows), *like.shape)) for piece, like in zip(pieces, self._like, strict=True)
        ]


class ModelCall(nn.Module):
    """A function of a model as a module, so that `called_with` swaps the values within the model it is given."""

    def __init__(self, model: nn.Module, function: Callable[[nn.Module, Any], Any]) -> None:
        super().__init__()
        self.model, self.function = model, function
        self.training = model.training

    def forward(self, batch: Any) -> Any:
        return self.function(self.model, batch)


def separate(losses: Tensor | Mapping[str, Tensor]) -> list[Tensor]:
    """One scalar a task. Losses given by name keep graphs of their own: a broken one does not spoil the others'."""
    if isinstance(losses, Mapping):
        return [loss.reshape(()) for loss in losses.values()]
    if losses.ndim != 1:
        raise ValueError(f"losses of a member have shape {tuple(losses.shape)}; one loss a task is wanted, (K,)")
    return list(losses.unbind())


def members_of(tree: Any, index: Any) -> Any:
    """The tensors of a tree at an index of their leading member axis."""
    return pytree.tree_map(lambda leaf: leaf[index] if isinstance(leaf, Tensor) else leaf, tree)


def concatenated(trees: Sequence[Any]) -> Any:
    """Trees of one structure joined along their leading member axis."""
    return pytree.tree_map(lambda *leaves: torch.cat(leaves), *trees)
