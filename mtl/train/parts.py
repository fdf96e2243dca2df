"""The parts of a model whose parameters may be trained in ways of their own: trunk, heads, and pretrained encoders."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from torch import nn

from mtl.models import Shared
from mtl.train.optimizers import read_optimizer
from mtl.train.settings import Settings


class Part(NamedTuple):
    """Where a parameter belongs.

    Attributes:
        head: not all tasks share it.
        factor: of its learning rate, as a pretrained encoder has one.
        task: whose head it belongs to; empty where nobody asks.
    """

    head: bool = False
    factor: float = 1.0
    task: str = ""


def parts_of(model: nn.Module, tasks: Iterable[str] = ()) -> dict[str, Part]:
    """The part that each parameter of a model belongs to, by its name.

    Args:
        model: of some tasks.
        tasks: those whose heads are to be told apart; others than the model's are left out.
    """
    owner = {
        id(parameter): task
        for task in tasks
        if isinstance(model, Shared) and task in model.headed_tasks
        for parameter in model.own_parameters(task)
    }
    shared = {id(parameter) for parameter in model.shared_parameters()}  # type: ignore[operator]
    groups = model.parameter_groups() if isinstance(model, Shared) else []
    factors = {id(parameter): group["rate_factor"] for group in groups for parameter in group["params"]}
    return {
        name: Part(id(parameter) not in shared, factors.get(id(parameter), 1.0), owner.get(id(parameter), ""))
        for name, parameter in model.named_parameters()
    }


def values_of(settings: Settings, part: Part) -> dict[str, float]:
    """The settings of a part that it may have for itself: learning rate, weight decay, and penalties."""

    values = {}
    for name in ("lr", "weight_decay", "l1", "l2"):
        value: float | None = settings.of_heads.get(part.task, {}).get(name)
        if value is None and part.head:
            value = getattr(settings, f"head_{name}")
        values[name] = getattr(settings, name) if value is None else value
    return {**values, "lr": values["lr"] * part.factor}


def differ(settings: Settings, parts: Mapping[str, Part]) -> bool:
    """Whether parts of the model are trained differently."""
    given = (settings.head_lr, settings.head_weight_decay, settings.head_l1, settings.head_l2)
    return (
        bool(settings.of_heads)
        or any(value is not None for value in given)
        or any(part.factor != 1 for part in parts.values())
    )


def lookahead_factor(parts: Mapping[str, Part]) -> float:
    """The factor of the learning rate by which a lookahead goes: the largest of the shared parameters."""
    return max((part.factor for part in parts.values() if not part.head), default=1.0)


def optimizer_groups(model: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """The parameters of a model in groups for an optimizer, each with its learning rate and weight decay.

    There is one group for each part that is trained in a way of its own; rates are those before any schedule.
    """
    parts, groups = parts_of(model, settings.of_heads), dict[Any, list[nn.Parameter]]()
    if read_optimizer(settings.optimizer).searches:
        return [_one_group(model, settings, parts)]
    apart = differ(settings, parts) or read_optimizer(settings.optimizer).name == "muon"
    for name, parameter in model.named_parameters():
        groups.setdefault(parts[name] if apart else Part(), []).append(parameter)
    found = []
    for part, parameters in groups.items():
        values = values_of(settings, part)
        own = {"lr": values["lr"], "weight_decay": values["weight_decay"], "head": part.head}
        found.append({"params": parameters, **own})
    return found


def _one_group(model: nn.Module, settings: Settings, parts: Mapping[str, Part]) -> dict[str, Any]:
    """All parameters, for an optimizer that steps them as one vector."""
    rates = {values_of(settings, part)["lr"] for part in parts.values()}
    if len(rates) > 1:
        raise ValueError(
            f"optimizer {settings.optimizer!r}: it has one learning rate for all parameters, and those of the model "
            f"have {', '.join(f'{rate:g}' for rate in sorted(rates))}: give the encoder rate_factor=1"
        )
    dtypes = {parameter.dtype for parameter in model.parameters()}
    if len(dtypes) > 1:
        raise ValueError(
            f"optimizer {settings.optimizer!r}: it takes all parameters as one vector, and they are of "
            f"{', '.join(sorted(map(str, dtypes)))}"
        )
    return {"params": [*model.parameters()], "lr": rates.pop(), "head": False}
