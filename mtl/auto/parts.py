"""What can be decided, in parts that a user may choose among; read without torch."""

from __future__ import annotations

from mtl.suggestions import nearest

#: In the order in which they are shown.
PARTS = ("losses", "weights", "regularization", "optimizer", "architecture")
#: Choices in which runs of one program may differ.
SIDE_BY_SIDE = frozenset({"schedule"})
_REGULARIZATION = ("weight_decay", "dropout", "clip", "noise")
_OPTIMIZER = ("lr", "optimizer", "schedule")
_ARCHITECTURE = ("architecture", "model")


def read_parts(text: str | None) -> tuple[str, ...]:
    """The parts that `--only` names, joined by commas; all where it is not given.

    Raises:
        ValueError: a name that is none of them; one line.
    """
    if text is None:
        return PARTS
    named = [part.strip() for part in text.split(",")]
    for part in named:
        if part not in PARTS:
            raise ValueError(f"--only {text}: unknown part {part!r}: {nearest(part, PARTS)}")
    return tuple(part for part in PARTS if part in named)


def part_of(name: str) -> str:
    """The part to which a dimension of the space belongs.

    Args:
        name: of the dimension, such as `loss.age.delta`.
    """
    kind = name.partition(".")[0]
    if kind == "loss":
        return "losses"
    if kind == "strategy":
        return "weights"
    known = {"regularization": _REGULARIZATION, "optimizer": _OPTIMIZER, "architecture": _ARCHITECTURE}
    return next(part for part, names in known.items() if name in names)
