"""Which leaves of a step's graph are shared, and which belong to tasks; read at each step, as layers may be frozen."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from mtl.gradients.graph import distinct, size
from mtl.gradients.task_gradients import HEAD, INPUT, UNMEASURED


class Leaves:
    """The shared parameters, and what the other leaves of a graph are.

    Another parameter belongs to a task (it is of its head). Where the shared parameters are `nn.Parameter`s, a plain
    tensor that requires grad is an input, such as the points at which a physics-informed loss takes derivatives: it
    gets the gradient of its task as in any backward pass, but it is nothing that training moves.

    Args:
        shared: the shared parameters. Those that are frozen count from the step on at which they require grad.
        measured_on: those to form the Gramian on, where not on all.
        blocks: a partition of those that require grad.

    Attributes:
        shared: all of them, each once.
        trained: those that require grad at this step, whose numbers are the columns of a Jacobian.
        dimension: D, the number of columns.
        blocks: the number of blocks.
        unmeasurable: in words, a part that a Gramian is formed on and that has been frozen since; None if none is.

    Raises:
        ValueError: there is nothing to train, or `measured_on` or `blocks` does not fit.
    """

    def __init__(
        self,
        shared: Iterable[Tensor],
        measured_on: Iterable[Tensor] | None = None,
        blocks: Iterable[Iterable[Tensor]] | None = None,
    ) -> None:
        self.shared = distinct(shared)
        self._frozen = [not parameter.requires_grad for parameter in self.shared]
        self.trained, self.dimension = self._now()
        if not self.trained:
            raise ValueError("shared holds no parameter that requires grad (was a generator already used up?)")
        self._groups, self.blocks = grouped(self.shared, measured_on, blocks)
        self._some = measured_on is not None
        self.unmeasurable: str | None = None
        self._no_inputs = not all(isinstance(parameter, nn.Parameter) for parameter in self.shared)

    @property
    def device(self) -> torch.device:
        """Where the shared parameters are."""
        return self.shared[0].device

    @property
    def positions(self) -> list[int]:
        """The places in `shared` of the parameters that have columns."""
        return [at for at, frozen in enumerate(self._frozen) if not frozen]

    def layout(self, positions: Sequence[int]) -> None:
        """Take up the columns that `positions` told of."""
        self._frozen = [at not in positions for at in range(len(self.shared))]
        self.trained, self.dimension = self._now()

    def refresh(self) -> tuple[Tensor, Tensor] | None:
        """See which shared parameters require grad now.

        Returns:
            Where that has changed, the columns in the former Jacobian and in the new one of those that stay; else None.
        """
        frozen = [not parameter.requires_grad for parameter in self.shared]
        if frozen == self._frozen:
            return None
        former, self._frozen = self._frozen, frozen
        self.trained, self.dimension = self._now()
        there = {self._groups.get(id(parameter)) for parameter in self.trained}
        gone = next((block for block in range(self.blocks) if block not in there), None)
        whole = "measured_on" if self._some else "shared"
        self.unmeasurable = None if gone is None else whole if self.blocks == 1 else f"block {gone} of shared"
        return self._columns(former, frozen), self._columns(frozen, former)

    def group(self, leaf: Tensor) -> int:
        """The block of a shared parameter, or `UNMEASURED`, `HEAD` or `INPUT`."""
        known = self._groups.get(id(leaf))
        if known is not None:
            return known
        return HEAD if self._no_inputs or isinstance(leaf, nn.Parameter) else INPUT

    def groups(self, leaves: Iterable[Tensor]) -> dict[int, int]:
        """The group of each leaf by its id."""
        return {id(leaf): self.group(leaf) for leaf in leaves}

    def others(self, leaves: Iterable[Tensor]) -> list[Tensor]:
        """Those of the leaves that are not shared."""
        return [leaf for leaf in leaves if id(leaf) not in self._groups]

    def heads(self, leaves: Iterable[Tensor]) -> list[Tensor]:
        """Those of the leaves that belong to tasks, without inputs."""
        return [leaf for leaf in leaves if self.group(leaf) == HEAD]

    def _now(self) -> tuple[list[Tensor], int]:
        trained = [parameter for parameter, frozen in zip(self.shared, self._frozen, strict=True) if not frozen]
        return trained, sum(map(size, trained))

    def _columns(self, frozen: Sequence[bool], other: Sequence[bool]) -> Tensor:
        """In the Jacobian without what is `frozen`, the columns of what is in the other one too."""
        found, start = [torch.zeros(0, dtype=torch.int64)], 0
        for parameter, left_out, elsewhere in zip(self.shared, frozen, other, strict=True):
            if not left_out:
                if not elsewhere:
                    found.append(torch.arange(start, start + size(parameter)))
                start += size(parameter)
        return torch.cat(found).to(self.device)


def grouped(
    shared: Sequence[Tensor], measured_on: Iterable[Tensor] | None, blocks: Iterable[Iterable[Tensor]] | None
) -> tuple[dict[int, int], int]:
    """The group of each shared parameter by its id, and the number of blocks."""
    if measured_on is not None and blocks is not None:
        raise ValueError("measured_on= and blocks= cannot be combined: leave parameters out of `shared` instead")
    known = {id(parameter): parameter for parameter in shared}
    if measured_on is not None:
        chosen = distinct(measured_on)
        if not {id(parameter) for parameter in chosen} <= known.keys() or not any(p.requires_grad for p in chosen):
            raise ValueError("measured_on must hold some of the shared parameters, and only those")
        groups = dict.fromkeys(known, UNMEASURED)
        return groups | dict.fromkeys(map(id, chosen), 0), 1
    if blocks is None:
        return dict.fromkeys(known, 0), 1
    parts = [distinct(block) for block in blocks]
    groups = {id(parameter): at for at, block in enumerate(parts) for parameter in block}
    left_out = [parameter for key, parameter in known.items() if key not in groups]
    if (
        not groups.keys() <= known.keys()
        or sum(map(len, parts)) != len(groups)
        or any(parameter.requires_grad for parameter in left_out)
        or not all(any(parameter.requires_grad for parameter in part) for part in parts)
        or not parts
    ):
        raise ValueError("blocks must divide the shared parameters: each in one block, and no block empty")
    return groups, len(parts)
