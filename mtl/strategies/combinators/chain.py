from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtl.strategies.strategy import DOMAINS, Signals, Strategy


@dataclass(frozen=True)
class Chain(Strategy):
    """Strategies one after another: each sees the signals as scaled by the weights so far, and the weights multiply.

    With weights w of the first, the second is given L' = w L, G' = diag(w) G diag(w), J' = diag(w) J, and the returned
    weights are the product. Losses read back (`after`) and products with other batches' gradients scale alike, so a
    chain of pure strategies is a pure strategy. After one that tracks gradients, J' is what it tracked, which holds the
    weights before it: those are left out of the product.
    """

    name: ClassVar[str] = "chain"
    paper: ClassVar[str] = ""

    parts: tuple[Strategy, ...] = ()

    def __post_init__(self) -> None:
        if not self.parts:
            raise ValueError("chain: needs at least one strategy")
        for part in self.parts[:-1]:
            if part.elementwise:
                raise ValueError(f"chain: {part.name} gives one weight a coordinate and can only come last")
        if len(self.parts) > 1:
            for part in self.parts:
                if part.tracking and part.needs_at(1) != part.needs:
                    raise ValueError(f"chain: {part} tracks gradients on some steps only and can only stand alone")

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset().union(*(part.needs for part in self.parts))

    @property
    def domain(self) -> str:  # type: ignore[override]
        return max((part.domain for part in self.parts), key=list(DOMAINS).index)  # the strictest

    @property
    def elementwise(self) -> bool:  # type: ignore[override]
        return self.parts[-1].elementwise

    @property
    def tracking(self) -> bool:  # type: ignore[override]
        return any(part.tracking for part in self.parts)

    @property
    def vmappable(self) -> bool:  # type: ignore[override]
        return all(part.vmappable for part in self.parts)

    @property
    def measuring(self) -> dict[str, Any]:
        return {name: value for part in self.parts for name, value in part.measuring.items()}

    def needs_at(self, step: int) -> frozenset[str]:
        return frozenset().union(*(part.needs_at(step) for part in self.parts))

    def suffices(self, names: Collection[str]) -> bool:
        return all(part.suffices(names) for part in self.parts)

    def check_tasks(self, num_tasks: int) -> None:
        for part in self.parts:
            part.check_tasks(num_tasks)

    def init(self, losses: Tensor) -> tuple[Any, ...]:
        return tuple(part.init(losses) for part in self.parts)

    def init_sized(self, losses: Tensor, dimension: int) -> tuple[Any, ...]:
        return tuple(part.init_sized(losses, dimension) for part in self.parts)

    def __call__(self, state: tuple[Any, ...], signals: Signals) -> tuple[Tensor, tuple[Any, ...]]:
        weights, states = None, []
        for part, own in zip(self.parts, state, strict=True):
            more, following = part(own, signals)
            states.append(following)
            if part.tracking:
                weights, signals = more, tracked(signals, part.gradients(following, signals["jacobian"]))
            elif weights is None:
                weights = more
            else:
                weights = weights[:, None] * more if part.elementwise else weights * more
            if part is not self.parts[-1]:
                signals = scaled(signals, more)
        assert weights is not None
        return weights, tuple(states)

    def gradients(self, state: tuple[Any, ...], jacobian: Tensor) -> Tensor:
        for part, own in zip(reversed(self.parts), reversed(state), strict=True):
            if part.tracking:
                return part.gradients(own, jacobian)
        return jacobian

    def current(self, state: tuple[Any, ...], signals: Signals) -> Tensor:
        weights = torch.ones_like(signals["losses"])
        for part, own in zip(self.parts, state, strict=True):
            if not part.elementwise:  # a lookahead has one weight a task
                more = part.current(own, signals)
                weights, signals = weights * more, scaled(signals, more)
        return weights

    def __str__(self) -> str:
        first, *rest = self.parts
        return "+".join([str(first), *(f"[{part}]" if _compound(part) else str(part) for part in rest)])


def chain(*strategies: Strategy) -> Strategy:
    """The strategies one after another; chains inside are laid flat, and a chain of one is that one."""
    flat = [part for s in strategies for part in (s.parts if isinstance(s, Chain) else (s,))]
    return flat[0] if len(flat) == 1 else Chain(tuple(flat))


def scaled(signals: Signals, weights: Tensor) -> dict[str, Tensor]:
    """The signals of the problem whose losses are `weights * losses`; weights (K,) count as constants."""
    result = dict(signals)
    for name in ("losses", "after", "align", "implicit"):
        if name in result:
            result[name] = result[name] * weights  # align and implicit scale by their columns, the training tasks
    for name in ("gramian", "cross"):
        if name in result:
            result[name] = result[name] * weights[:, None] * weights
    if "jacobian" in result:
        result["jacobian"] = result["jacobian"] * weights[:, None]
    return result


def tracked(signals: Signals, rows: Tensor) -> dict[str, Tensor]:
    """The signals of the problem whose task gradients are `rows` (K, D)."""
    own = {"jacobian": rows, "gramian": rows @ rows.T}
    return {**signals, **{name: value for name, value in own.items() if name in signals}}


def _compound(strategy: Strategy) -> bool:
    return hasattr(strategy, "inner") or isinstance(strategy, Chain)
