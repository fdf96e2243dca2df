"""Strategies side by side: the continuous hyperparameters of several of one structure, with a member axis."""

from __future__ import annotations

import dataclasses
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtl.hyperparameters import domains


def structure(unit: Any) -> Hashable:
    """What units have in common that can be computed together: everything but their continuous hyperparameters.

    Continuous are floats, and tuples of numbers that are one a task. Works for every frozen dataclass whose
    hyperparameters are declared by `mtl.hyperparameters.hyper`: strategies, combinators, losses.
    """
    fixed: list[Any] = [type(unit)]
    continuous = _continuous(unit)
    for field in filter(lambda field: field.init, dataclasses.fields(unit)):
        value = getattr(unit, field.name)
        if field.name in continuous:
            fixed.append(len(value) if isinstance(value, tuple) else "number")
        elif dataclasses.is_dataclass(value):
            fixed.append(structure(value))
        elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            fixed.append(tuple(structure(part) for part in value))
        else:
            fixed.append(value if isinstance(value, Hashable) else id(value))
    return tuple(fixed)


def differing(units: Sequence[Any], like: Tensor) -> dict[str, Tensor]:
    """The continuous hyperparameters in which units of one structure differ, (N,) or (N, length) each, by path.

    Those that all share stay numbers in the unit, which is faster.
    """
    each = [_values(unit) for unit in units]
    return {
        key: torch.tensor([values[key] for values in each], dtype=like.dtype, device=like.device)
        for key in each[0]
        if any(values[key] != each[0][key] for values in each)
    }


def substituted(unit: Any, values: Mapping[str, Any]) -> Any:
    """`unit` with the hyperparameters at the paths of `differing` replaced."""
    for path, value in values.items():
        unit = _set(unit, path.split("."), value)
    return unit


def _continuous(unit: Any) -> dict[str, Any]:
    if not getattr(unit, "takes_tensors", True):
        return {}  # other people's losses read their settings as plain numbers
    found = {}
    for name, domain in domains(unit).items():
        value = getattr(unit, name)
        if isinstance(value, bool) or domain.choices:
            continue
        if isinstance(value, float) or (
            isinstance(value, tuple) and value and domain.tasks in ("each", "ratios", "classes", "class ratios")
        ):
            found[name] = value
    return found


def _values(unit: Any, path: str = "") -> dict[str, Any]:
    found = {path + name: value for name, value in _continuous(unit).items()}
    for field in filter(lambda field: field.init, dataclasses.fields(unit)):
        value = getattr(unit, field.name)
        if dataclasses.is_dataclass(value):
            found |= _values(value, f"{path}{field.name}.")
        elif isinstance(value, tuple) and value and dataclasses.is_dataclass(value[0]):
            for index, part in enumerate(value):
                found |= _values(part, f"{path}{field.name}.{index}.")
    return found


def _set(unit: Any, path: list[str], value: Any) -> Any:
    if isinstance(unit, tuple):
        index = int(path[0])
        return (*unit[:index], _set(unit[index], path[1:], value), *unit[index + 1 :])
    if len(path) == 1:
        return dataclasses.replace(unit, **{path[0]: value})
    return dataclasses.replace(unit, **{path[0]: _set(getattr(unit, path[0]), path[1:], value)})
