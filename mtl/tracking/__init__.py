"""Weights & Biases: one logging process beside the study, fed over a pipe."""

from mtl.tracking.client import Tracker

__all__ = ["Tracker"]
