"""One life of a run for every strategy: seeded batches, optimizer, schedule, selection, checkpoints.

Names are imported when they are first asked for, so that the command line reads `settings` without torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mtl.train.check import check_losses, check_model
    from mtl.train.cohort import Cohort
    from mtl.train.loop import Stopped
    from mtl.train.member import Evaluation, Member
    from mtl.train.model import check_trunk
    from mtl.train.outcome import Result
    from mtl.train.settings import Settings
    from mtl.train.trainer import train

_NAMES = {
    "Cohort": "cohort",
    "Evaluation": "member",
    "Member": "member",
    "Result": "outcome",
    "Settings": "settings",
    "Stopped": "loop",
    "check_losses": "check",
    "check_model": "check",
    "check_trunk": "model",
    "train": "trainer",
}
__all__ = [
    "Cohort",
    "Evaluation",
    "Member",
    "Result",
    "Settings",
    "Stopped",
    "check_losses",
    "check_model",
    "check_trunk",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module 'mtl.train' has no attribute {name!r}")
    return getattr(import_module(f"mtl.train.{_NAMES[name]}"), name)
