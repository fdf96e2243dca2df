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
#: Settings that a search could vary and that have to stay as they are, with what leaves them so.
_FIXED = {"clip": "none", "clip_value": "none", "head_lr": "none", "head_weighting": "weighted"}


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
    wrong = {
        f"accumulate={settings.accumulate}": settings.accumulate > 1 and "each evaluation is of a batch as a whole",
        f"amp={settings.amp}": settings.amp != "off" and "it goes by small differences, which that rounds away",
        f"head_weighting={settings.head_weighting}": settings.head_weighting == "own"
        and "heads and trunk would follow the gradients of two functions",
        f"clip={settings.clip}": settings.clip is not None and "its steps are made of whole gradients",
        f"clip_value={settings.clip_value}": settings.clip_value is not None
        and "its steps are made of whole gradients",
        f"head_lr={settings.head_lr}": settings.head_lr is not None and "it has one learning rate for all parameters",
        **{
            f"heads.{task}.lr={own['lr']}": "it has one learning rate for all parameters"
            for task, own in settings.of_heads.items()
            if "lr" in own
        },
    }
    for setting, reason in wrong.items():
        if reason:
            raise ValueError(f"optimizer {settings.optimizer!r} does not go with {setting}: {reason}")


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
        if name in _FIXED or (name.startswith("heads.") and name.endswith(".lr")):
            raise ValueError(
                f"optimizer {text!r} does not go with {name}, which is searched; mtl search --search "
                f"{name}={_FIXED.get(name, 'none')} leaves it"
            )


def remark(settings: Settings) -> str:
    """What a user should know of its learning rate; empty where that is usual."""
    if settings.lr >= _SHORT:
        return ""
    return f"optimizer {settings.optimizer}: lr={settings.lr:g} makes its steps short, of which 1 is the natural length"
