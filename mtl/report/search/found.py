"""The losses that a search found, as specs that `--loss` takes and as equations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

from mtl.files.lineage import tupled
from mtl.losses import Loss, make_loss
from mtl.losses.taylor import Expansion


class FoundLoss(NamedTuple):
    """The loss of a task that a search found.

    Attributes:
        loss: with the values of the winner.
        usual: what the task has without a search.
        outputs: of the task's head.
    """

    loss: Loss
    usual: Loss
    outputs: int

    @property
    def described(self) -> dict[str, str | None]:
        """Its spec and, if it is a polynomial f of a label x and a prediction y, that with its numbers.

        `of_label` is the loss of one label, by f.
        """
        if not isinstance(self.loss, Expansion):
            return {"spec": str(self.loss), "f": None, "of_label": None}
        of_label = self.loss.formula.partition(", with")[0]
        return {"spec": str(self.loss), "f": self.loss.equation(), "of_label": of_label}


def found_losses(tasks: Mapping[str, Mapping[str, Any]], values: Mapping[str, Any]) -> dict[str, FoundLoss]:
    """The losses that a search found, by task; tasks whose loss was not searched are left out.

    A loss of a library or of a user's file that cannot be read here is left out too.

    Args:
        tasks: as config.yaml describes them.
        values: of the winner, by their names in the search.
    """
    found = {}
    for task, about in tasks.items():
        name, prefix = f"loss.{task}", f"loss.{task}."
        own = tupled({key.removeprefix(prefix): value for key, value in values.items() if key.startswith(prefix)})
        if not own and name not in values:
            continue
        try:
            usual = make_loss(about["loss"])
            found[task] = FoundLoss(
                replace(make_loss(values[name]) if name in values else usual, **own), usual, about["outputs"]
            )
        except ValueError:
            continue
    return found
