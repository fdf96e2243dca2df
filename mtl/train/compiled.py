"""Compiled forward passes: `torch.compile` of the parts of a model that all tasks share."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from mtl.population.compiled import compiling
from mtl.strategies.strategy import Strategy
from mtl.train.settings import Settings

#: Further forward passes of a step; they are not compiled.
_FURTHER = frozenset({"after", "align", "cross"})


def check_compiler(settings: Settings) -> None:
    """Raise `ValueError` where something is to be compiled and no C++ compiler is found."""
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if settings.compile and shutil.which(compiler) is None:
        raise ValueError(
            f"compile: torch.compile needs a C++ compiler, and {compiler} is not found: install one, or name yours in "
            "the environment variable CXX"
        )


def check_strategy(settings: Settings, strategy: Strategy) -> None:
    """Raise `ValueError` where something is to be compiled that the strategy cannot go back through."""
    if settings.compile and "implicit" in strategy.needs:
        raise ValueError(f"compile: {strategy} needs second derivatives, which a compiled model does not have")


def further_passes(settings: Settings, strategy: Strategy) -> str:
    """What a user should know of the forward passes that are not compiled; empty where all are."""
    if not settings.compile or not strategy.needs & _FURTHER:
        return ""
    return f"compile: {strategy} makes further forward passes in a step, which are not compiled"


class CompiledParts:
    """The parts of a model that all tasks share, compiled where that is asked for.

    Heads are left alone. A compiled part is one node of the graph: with the heads in it, a task without labels would
    give other heads gradients of zero in place of none, and each task's gradient would go back through all heads.

    Args:
        model: whose parts get a forward pass that is compiled inside of `forward()`.

    Raises:
        ValueError: no module of the model is shared as a whole.
    """

    def __init__(self, model: nn.Module) -> None:
        shared = {id(parameter) for parameter in model.shared_parameters()}  # type: ignore[operator]
        parts = dict(_wholly_shared("", model, shared))
        if not parts:
            raise ValueError(
                f"compile: {type(model).__name__} has no module whose parameters are all shared, such as a trunk: "
                "there is nothing to compile"
            )
        self._on, self._names = False, [name or "the model" for name in parts]
        for part in parts.values():
            part.forward = self._either(part.forward)

    @contextlib.contextmanager
    def forward(self) -> Iterator[None]:
        """Inside the block forward passes of the parts are compiled, anew for each shape of the inputs."""
        self._on = True
        try:
            yield
        finally:
            self._on = False

    def step(self) -> contextlib.AbstractContextManager[None]:
        """For the forward pass of a step and all that goes back through it; see `compiling`."""
        return compiling(", ".join(self._names))

    def _either(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        compiled = _compiled(plain)

        def forward(*inputs: Any, **named: Any) -> Any:
            return (compiled if self._on else plain)(*inputs, **named)

        return forward


def _wholly_shared(name: str, module: nn.Module, shared: set[int]) -> Iterator[tuple[str, nn.Module]]:
    """The largest modules that can be called and whose parameters are all shared, by name."""
    own = [*module.parameters()]
    if not own:
        return
    callable_ = type(module).forward is not nn.Module.forward  # containers have no forward pass
    if callable_ and all(id(parameter) in shared or not parameter.requires_grad for parameter in own):
        yield name, module
        return
    for child, inner in module.named_children():
        yield from _wholly_shared(f"{name}.{child}" if name else child, inner, shared)


def _compiled(plain: Callable[..., Any]) -> Callable[..., Any]:
    def forward(*inputs: Any, **named: Any) -> Any:
        return plain(*inputs, **named)

    # What was compiled is kept, and counted against a limit, by the code of a function: each part has its own.
    own = types.FunctionType(forward.__code__.replace(), globals(), closure=forward.__closure__)
    program: Callable[..., Any] = torch.compile(own, dynamic=False)
    return program
