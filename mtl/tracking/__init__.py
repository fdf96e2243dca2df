"""Weights & Biases: one logging process beside the study, fed over a pipe."""

from mtl.tracking.client import Tracker
from mtl.tracking.search import SearchTracker

__all__ = ["SearchTracker", "Tracker"]
