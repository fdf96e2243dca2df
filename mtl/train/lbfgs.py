"""What L-BFGS needs of its arguments and of a run: in a step it evaluates one function at several points.

Torch is imported by nothing here: the command line reads the declarations of settings without it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl.strategies.strategy import Strategy
    from mtl.train.settings import Settings

_WHOLE = ("max_iter", "max_eval", "history_size")
_TOLERANCES = ("tolerance_grad", "tolerance_change")
_SEARCHES = ("strong_wolfe", None)
_SHORT = 0.1
_WHOLE_GRADIENTS = "its steps are made of whole gradients"
#: Settings that have to stay as they are, so that its steps are those of one function: what they are, and why.
_KEPT: Mapping[str, tuple[Any, str]] = {
    "accumulate": (1, "each evaluation is of a batch as a whole"),
    "amp": ("off", "it goes by small differences, which that rounds away"),
    "head_weighting": ("weighted", "heads and trunk would follow the gradients of two functions"),
    "clip": (None, _WHOLE_GRADIENTS),
    "clip_value": (None, _WHOLE_GRADIENTS),
    "head_lr": (None, "it has one learning rate for all parameters"),
}


def check_arguments(text: str, arguments: Mapping[str, Any]) -> None:
    """Raise `ValueError` for arguments with which torch's class would make no step, or fail after some.

    Args:
        text: the spec, for messages.
        arguments: those given.
    """
    for name, value in arguments.items():
        if name in _WHOLE and value is not None and not (isinstance(value, int) and value >= 1):
            complaint = "must be a whole number, at least 1"
        elif name in _TOLERANCES and not value >= 0:
            complaint = "must be at least 0"
        elif name == "line_search_fn" and value not in _SEARCHES:
            complaint = "must be strong_wolfe or none"
        else:
            continue
        raise ValueError(f"optimizer {text!r}: {name}={value} {complaint}")


def check_settings(settings: Settings) -> None:
    """Raise `ValueError` for the first setting of a run that would make its steps those of no one function."""
    given = {name: getattr(settings, name) for name in _KEPT}
    given |= {f"heads.{task}.lr": own["lr"] for task, own in settings.of_heads.items() if "lr" in own}
    for name, value in given.items():
        kept, reason = _KEPT[_like(name)]
        if value != kept:
            raise ValueError(f"optimizer {settings.optimizer!r} does not go with {name}={value}: {reason}")


def _like(name: str) -> str:
    """The setting whose rule a setting has: the rates of single heads have that of all."""
    return "head_lr" if name.startswith("heads.") and name.endswith(".lr") else name


def check_strategy(text: str, strategy: Strategy) -> None:
    """Raise `ValueError` for a strategy that does not weigh losses with the same weight for every parameter."""
    where = f"optimizer {text!r} does not go with {strategy}"
    if strategy.elementwise or strategy.tracking:
        raise ValueError(f"{where}: that makes a direction, and no weighted sum of losses to minimise")
    if "align" in strategy.needs:
        raise ValueError(f"{where}: that looks ahead along the gradient, where no step of L-BFGS goes")


def check_run(text: str, learned: Sequence[str], *, processes: bool) -> None:
    """Raise `ValueError` where a run cannot be trained so.

    Args:
        text: the spec, for messages.
        learned: tasks whose loss is learned while the model trains.
        processes: whether several train the run together.
    """
    where = f"optimizer {text!r} does not go with"
    if learned:
        raise ValueError(
            f"{where} a learned loss, as of task {learned[0]!r}: that looks ahead along the gradient, where no step of "
            "L-BFGS goes"
        )
    if processes:
        raise ValueError(f"{where} several processes: train by one")


def check_searched(text: str, names: Iterable[str]) -> None:
    """Raise `ValueError` for a searched setting that has to stay as it is."""
    for name in names:
        if (like := _like(name)) in _KEPT:
            raise ValueError(
                f"optimizer {text!r} does not go with {name}, which is searched; mtl search --search "
                f"{name}={'none' if _KEPT[like][0] is None else _KEPT[like][0]} leaves it"
            )


def remark(settings: Settings) -> str:
    """What a user should know of its learning rate; empty where that is usual."""
    if settings.lr >= _SHORT:
        return ""
    return f"optimizer {settings.optimizer}: lr={settings.lr:g} makes its steps short, of which 1 is the natural length"
