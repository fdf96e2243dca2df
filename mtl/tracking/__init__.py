"""Weights & Biases: one logging process beside the study, fed through a file."""

from mtl.tracking.client import Tracker
from mtl.tracking.search import SearchTracker
from mtl.tracking.study import StudyTracker, log_report

__all__ = ["SearchTracker", "StudyTracker", "Tracker", "log_report"]
