"""The forward pass of all members as a compiled program."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils import _pytree as pytree

from mtl.messages import in_one_line

_MOST = 8  # forms of what a program is given


@contextlib.contextmanager
def compiling(what: str) -> Iterator[None]:
    """For compiled forward passes and all that goes back through them, which is compiled when it is first done.

    Args:
        what: is compiled, for messages.

    Raises:
        ValueError: it cannot be compiled; one line.
    """
    import torch._dynamo.config
    import torch._functorch.config
    import torch._inductor.config
    from torch._dynamo import exc

    dynamo, functorch, inductor = torch._dynamo.config, torch._functorch.config, torch._inductor.config
    with (
        # Inputs whose shape is another in each batch would silently be eager after some of them.
        dynamo.patch(fail_on_recompile_limit_hit=True, suppress_errors=False),
        # A strategy goes back through one graph several times.
        functorch.patch(donated_buffer=False),
        # Dropout draws what it draws without compilation.
        inductor.patch(fallback_random=True),
    ):
        try:
            yield
        except exc.FailOnRecompileLimitHit as error:
            raise _too_many(what, dynamo.recompile_limit) from error
        except exc.TorchDynamoException as error:
            raise _failed(what, error) from error


class CompiledForward:
    """A function of rows (N, P) and other tensors as compiled programs, one for each form of what it is given.

    The function is traced, so a program is the arithmetic of one call. Regions without gradients and functions with a
    backward pass of their own are lost on the way, and what Python counts stays as it was. So losses and gradient of
    a program are compared with the function's own at calls 1, 2, 4, 8, and so on.

    Args:
        tolerance: how far these may differ, as a share of their length.

    Raises:
        ValueError: they do, or the function cannot be compiled.
    """

    def __init__(self, tolerance: float) -> None:
        self._tolerance = tolerance
        self._programs: dict[Hashable, tuple[Callable[..., Any], Any]] = {}
        self._calls = Counter[Hashable]()

    def __call__(self, function: Callable[..., Any], rows: Tensor, *trees: Any) -> Any:
        """`function(rows, *trees)`, which gives a list of losses (N,) and something that has no gradient."""
        leaves, spec = pytree.tree_flatten(trees)
        key = (str(spec), *((tuple(leaf.shape), leaf.dtype) for leaf in (rows, *leaves)))
        if key not in self._programs:
            if sum(form[0] == key[0] and form[1] == key[1] for form in self._programs) == _MOST:  # type: ignore[index]
                raise _too_many("a population", _MOST)
            self._programs[key] = self._made(function, rows, leaves, spec)
        program, structure = self._programs[key]
        self._calls[key] += 1
        compared, plain = self._calls[key].bit_count() == 1, []
        if compared:
            with torch.random.fork_rng([rows.device] if rows.is_cuda else []):
                plain, _ = function(rows, *trees)
        losses, others = pytree.tree_unflatten(list(program(rows, *leaves)), structure)
        if compared:
            self._compare(rows, losses, plain)
        return losses, pytree.tree_map(lambda leaf: leaf.detach() if isinstance(leaf, Tensor) else leaf, others)

    @staticmethod
    def _made(function: Callable[..., Any], rows: Tensor, leaves: list[Tensor], spec: Any) -> tuple[Any, Any]:
        """The program, which takes and gives tensors one by one, and the structure of what it gives."""
        from torch.fx.experimental.proxy_tensor import make_fx

        structures = []

        def flat(rows: Tensor, *leaves: Tensor) -> list[Tensor]:
            found, structure = pytree.tree_flatten(function(rows, *pytree.tree_unflatten(list(leaves), spec)))
            structures.append(structure)
            return found

        try:
            with torch.random.fork_rng([rows.device] if rows.is_cuda else []):
                traced = make_fx(flat)(rows.detach(), *(leaf.detach() for leaf in leaves))
        except Exception as error:  # a model or a loss of a user's may do what cannot be traced
            raise _failed("a population", error) from error
        return torch.compile(traced, dynamic=False), structures[0]

    def _compare(self, rows: Tensor, losses: list[Tensor], plain: list[Tensor]) -> None:
        def both(of: list[Tensor]) -> Iterator[Tensor]:
            every = torch.stack(of)
            yield every.detach()
            yield from torch.autograd.grad(every.nansum(), rows, retain_graph=True)

        for found, wanted in zip(both(losses), both(plain), strict=True):
            there = wanted.isfinite()
            if float((found - wanted)[there].norm()) > self._tolerance * float(wanted[there].norm()):
                raise ValueError(
                    "compile: the compiled program of a population has other losses or gradients than the model, as "
                    "where this counts its calls, has regions without gradients, or a backward pass of its own; train "
                    "without --compile"
                )


def _too_many(what: str, number: int) -> ValueError:
    return ValueError(
        f"compile: {what} was compiled for inputs of {number} shapes, and here is another: bring batches to one shape, "
        "or train without --compile"
    )


def _failed(what: str, error: Exception) -> ValueError:
    return ValueError(f"compile: {what} cannot be compiled: {in_one_line(error)}; train without --compile")
