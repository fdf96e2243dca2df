"""The text form of strategies.

    chain := item ("+" item)*          each item sees the signals as scaled by those before it
    item  := NAME [":" KEY=VALUE ("," KEY=VALUE)*]  |  "[" chain "]"
    NAME  := one of `REGISTRY`, of the combinators, or `path.py:Class` of a user's file

A combinator (`every`, `ema`, `normalize`, `clip`) wraps everything to its left within its brackets, so that
`uncertainty+mgda+every:n=10` holds both, and `uncertainty+[mgda+every:n=10]` holds mgda only.
"""

from __future__ import annotations

import re
from typing import Any

from mtl.hyperparameters import check_key, check_said, domains, read_pairs, read_unit
from mtl.strategies._files import parted_place, strategy_of_file
from mtl.strategies._registry import REGISTRY
from mtl.strategies.combinators import COMBINATORS, Wrapper, chain
from mtl.strategies.strategy import Strategy
from mtl.suggestions import nearest

# A plus sign inside a number such as 1e+5 is followed by a digit, one that joins by a name or a bracket.
_TOKEN = re.compile(r"\s*(?P<open>\[)|\s*(?P<close>\])|\s*(?P<plus>\+)|\s*(?P<unit>[^\[\]+\s](?:[^\[\]+]|\+(?=\d))*)")


def make(spec: str | Strategy, **hyperparameters: Any) -> Strategy:
    """The strategy that a spec names.

    Args:
        spec: text such as `famo`, `gradnorm:alpha=0.12`, `uncertainty+mgda+every:n=4`; a strategy is passed through.
        hyperparameters: values over those in the text; in a chain, each goes to the one part that has it. A name such
            as `gradnorm.alpha` says which part.

    Raises:
        ValueError: an unknown name (with the nearest ones), an unknown or out-of-range hyperparameter, or a spec that
            cannot be read. The message is one line.
    """
    strategy = spec if isinstance(spec, Strategy) else _read(spec)
    for key, value in hyperparameters.items():
        strategy = _override(strategy, key, value, str(spec))
    return strategy


def hyperparameters_said(spec: str) -> set[str]:
    """The hyperparameters that a spec sets, those at their defaults too: `gradnorm.alpha` of `gradnorm:alpha=1.5`."""
    found = set()
    for unit in (text for kind, text in _tokens(spec) if kind == "unit"):
        cls, values = _read_unit(unit)
        found |= {f"{cls.name}.{key}" for key in values}
    return found


def _tokens(spec: str) -> list[tuple[str, str]]:
    tokens, position = [], 0
    while position < len(spec.rstrip()):
        match = _TOKEN.match(spec, position)
        if match is None:
            raise ValueError(f"strategy {spec!r}: cannot read {spec[position:]!r}")
        tokens.append((str(match.lastgroup), match.group().strip()))
        position = match.end()
    return tokens


def _read(spec: str) -> Strategy:
    tokens = _tokens(spec)
    strategy = _chain(tokens, spec)
    if tokens:
        raise ValueError(f"strategy {spec!r}: nothing opens the bracket that ']' closes")
    return strategy


def _chain(tokens: list[tuple[str, str]], spec: str) -> Strategy:
    parts: list[Strategy] = []
    while True:
        kind, text = tokens.pop(0) if tokens else ("end", "")
        if kind == "open":
            parts.append(_chain(tokens, spec))
            if not tokens or tokens.pop(0)[0] != "close":
                raise ValueError(f"strategy {spec!r}: a bracket is not closed")
        elif kind == "unit":
            parts = _extended(parts, text, spec)
        else:
            raise ValueError(f"strategy {spec!r}: a name is missing" + (f" before {text!r}" if text else ""))
        if not tokens or tokens[0][0] != "plus":
            return chain(*parts)
        tokens.pop(0)


def _extended(parts: list[Strategy], text: str, spec: str) -> list[Strategy]:
    """The chain so far with one more unit at its end, or wrapped in one."""
    cls, values = _read_unit(text)
    if not issubclass(cls, Wrapper):
        return [*parts, cls(**values)]
    if not parts:
        raise ValueError(f"strategy {spec!r}: {cls.name} wraps what stands to its left, and there is nothing")
    return [cls(inner=chain(*parts), **values)]


def _read_unit(text: str) -> tuple[type[Strategy], dict[str, Any]]:
    """The class that a unit names, and the values given for it."""
    if place := parted_place(text):
        cls = strategy_of_file(place[0], place[1])
        if text.rstrip().endswith(":"):
            check_said(place[2], f"strategy {text!r}")
        return cls, read_pairs(cls, cls.name, place[2], f"strategy {text!r}")
    return read_unit(text, {**REGISTRY, **COMBINATORS}, "strategy")


def _override(strategy: Strategy, key: str, value: Any, spec: str) -> Strategy:
    unit, _, key = key.rpartition(".")
    owners = [part for part in units(strategy) if key in domains(part) and unit in ("", part.name)]
    if unit and unit not in (names := [part.name for part in units(strategy)]):
        raise ValueError(f"strategy {spec!r} has no part {unit!r}: {nearest(unit, names)}")
    if not owners:
        check_key(type(strategy), key, spec)
    if len(owners) != 1:
        raise ValueError(f"strategy {spec!r}: {key} belongs to {len(owners)} parts of the chain; set it in the text")
    return _rebuilt(strategy, owners[0], {key: tuple(value) if isinstance(value, list) else value})


def units(strategy: Strategy) -> list[Strategy]:
    """The parts of a chain and what combinators wrap, innermost first, and the strategy itself."""
    inside = getattr(strategy, "parts", ()) or ([strategy.inner] if hasattr(strategy, "inner") else [])
    return [unit for part in inside for unit in units(part)] + [strategy]


def _rebuilt(strategy: Strategy, target: Strategy, changes: dict[str, Any]) -> Strategy:
    """`strategy` with the unit that is `target` replaced by one with the changes."""
    if hasattr(strategy, "parts"):
        strategy = strategy.replace(parts=tuple(_rebuilt(part, target, changes) for part in strategy.parts))
    elif hasattr(strategy, "inner") and strategy is not target:
        strategy = strategy.replace(inner=_rebuilt(strategy.inner, target, changes))
    return strategy.replace(**changes) if strategy is target else strategy
