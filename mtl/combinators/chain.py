from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from mtl.strategy import Signals, Strategy


@dataclass(frozen=True)
class Chain(Strategy):
    """Strategies one after another: each sees the signals as scaled by the weights so far, and the weights multiply.

    With weights w of the first, the second is given L' = w L, G' = diag(w) G diag(w), J' = diag(w) J, and the returned
    weights are the product. Losses read back (`after`) and validation alignment (`align`, by training task) scale
    alike, so a chain of pure strategies is a pure strategy.
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

    @property
    def needs(self) -> frozenset[str]:  # type: ignore[override]
        return frozenset().union(*(part.needs for part in self.parts))

    @property
    def elementwise(self) -> bool:  # type: ignore[override]
        return self.parts[-1].elementwise

    def needs_at(self, step: int) -> frozenset[str]:
        return frozenset().union(*(part.needs_at(step) for part in self.parts))

    def check_tasks(self, num_tasks: int) -> None:
        for part in self.parts:
            part.check_tasks(num_tasks)

    def init(self, losses: Tensor) -> tuple[Any, ...]:
        return tuple(part.init(losses) for part in self.parts)

    def __call__(self, state: tuple[Any, ...], signals: Signals) -> tuple[Tensor, tuple[Any, ...]]:
        weights, first = self.parts[0](state[0], signals)
        states = [first]
        for part, own in zip(self.parts[1:], state[1:], strict=True):
            more, following = part(own, scaled(signals, weights))
            states.append(following)
            weights = weights[:, None] * more if part.elementwise else weights * more
        return weights, tuple(states)

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
    for name in ("losses", "after", "align"):
        if name in result:
            result[name] = result[name] * weights  # align scales by its column, the training task
    if "gramian" in result:
        result["gramian"] = result["gramian"] * weights[:, None] * weights
    if "jacobian" in result:
        result["jacobian"] = result["jacobian"] * weights[:, None]
    return result


def _compound(strategy: Strategy) -> bool:
    return hasattr(strategy, "inner") or isinstance(strategy, Chain)
