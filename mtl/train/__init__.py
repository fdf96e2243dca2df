"""One trainer for every strategy: seeded batches, optimizer, schedule, selection on validation data, checkpoints."""

from mtl.train.settings import Settings
from mtl.train.trainer import Result, Stopped, check_model, train

__all__ = ["Result", "Settings", "Stopped", "check_model", "train"]
