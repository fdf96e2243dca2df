"""One trainer for every strategy: seeded batches, optimizer, schedule, selection on validation data, checkpoints."""

from mtl.train.check import check_losses, check_model
from mtl.train.settings import Settings
from mtl.train.trainer import Result, Stopped, check_trunk, train

__all__ = ["Result", "Settings", "Stopped", "check_losses", "check_model", "check_trunk", "train"]
