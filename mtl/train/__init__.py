"""One life of a run for every strategy: seeded batches, optimizer, schedule, selection, checkpoints."""

from mtl.train.check import check_losses, check_model
from mtl.train.cohort import Cohort
from mtl.train.member import Evaluation, Member
from mtl.train.settings import Settings
from mtl.train.trainer import Result, Stopped, check_trunk, train

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
