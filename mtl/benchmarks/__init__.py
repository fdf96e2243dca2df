"""Benchmarks by name, and users' own by `path.py:Class`."""

from mtl.benchmarks.benchmark import Benchmark, MissingData, Split, Splits, Task
from mtl.benchmarks.catalogue import BENCHMARKS, find_benchmark
from mtl.benchmarks.checked import load_checked

__all__ = ["BENCHMARKS", "Benchmark", "MissingData", "Split", "Splits", "Task", "find_benchmark", "load_checked"]
