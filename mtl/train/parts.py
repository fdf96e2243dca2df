"""The parts of a model whose parameters may be trained in ways of their own: trunk, heads, and pretrained encoders."""

from __future__ import annotations

from collections.abc import Mapping
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
    """

    head: bool = False
    factor: float = 1.0


def parts_of(model: nn.Module) -> dict[str, Part]:
    """The part that each parameter of a model belongs to, by its name."""
    shared = {id(parameter) for parameter in model.shared_parameters()}  # type: ignore[operator]
    groups = model.parameter_groups() if isinstance(model, Shared) else []
    factors = {id(parameter): group["rate_factor"] for group in groups for parameter in group["params"]}
    return {
        name: Part(id(parameter) not in shared, factors.get(id(parameter), 1.0))
        for name, parameter in model.named_parameters()
    }


def values_of(settings: Settings, part: Part) -> dict[str, float]:
    """The settings of a part that it may have for itself: learning rate, weight decay, and penalties."""

    def own(head: float | None, other: float) -> float:
        return head if part.head and head is not None else other

    return {
        "lr": own(settings.head_lr, settings.lr) * part.factor,
        "weight_decay": own(settings.head_weight_decay, settings.weight_decay),
        "l1": own(settings.head_l1, settings.l1),
        "l2": own(settings.head_l2, settings.l2),
    }


def differ(settings: Settings, parts: Mapping[str, Part]) -> bool:
    """Whether parts of the model are trained differently."""
    given = (settings.head_lr, settings.head_weight_decay, settings.head_l1, settings.head_l2)
    return any(value is not None for value in given) or any(part.factor != 1 for part in parts.values())


def lookahead_factor(parts: Mapping[str, Part]) -> float:
    """The factor of the learning rate by which a lookahead goes: the largest of the shared parameters."""
    return max((part.factor for part in parts.values() if not part.head), default=1.0)


def optimizer_groups(model: nn.Module, settings: Settings) -> list[dict[str, Any]]:
    """The parameters of a model in groups for an optimizer, each with its learning rate and weight decay.

    There is one group for each part that is trained in a way of its own; rates are those before any schedule.
    """
    parts, groups = parts_of(model), dict[Any, list[nn.Parameter]]()
    apart = differ(settings, parts) or read_optimizer(settings.optimizer).name == "muon"
    for name, parameter in model.named_parameters():
        groups.setdefault(parts[name] if apart else Part(), []).append(parameter)
    found = []
    for part, parameters in groups.items():
        values = values_of(settings, part)
        own = {"lr": values["lr"], "weight_decay": values["weight_decay"], "head": part.head}
        found.append({"params": parameters, **own})
    return found
