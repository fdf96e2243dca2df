"""What the command line asks of Ray Tune: schedulers and searchers by name, and which go together, without Ray."""

from __future__ import annotations

import importlib.util

from mtl.suggestions import nearest

SCHEDULERS = ("pbt", "pb2", "asha", "hyperband", "bohb", "median", "none")
SEARCHERS = ("random", "grid", "optuna", "bohb", "hyperopt", "none")
#: Packages that a searcher needs beside Ray's own.
_PACKAGES = {"optuna": ("optuna",), "bohb": ("hpbandster", "ConfigSpace"), "hyperopt": ("hyperopt",)}


def scheduler_of(given: str | None, shards: int | None) -> str:
    """The scheduler: the given one; else PBT, or none for shards, which search by themselves."""
    return given or ("none" if shards else "pbt")


def searcher_of(given: str | None, scheduler: str) -> str:
    """The searcher: the given one, or the usual one of the scheduler."""
    return given or ("bohb" if scheduler == "bohb" else "random")


def method_like(scheduler: str, searcher: str) -> str:
    """The method whose options a search by Ray Tune's trials takes: what its scheduler or searcher is like."""
    if scheduler in ("pbt", "pb2"):
        return scheduler
    return "grid" if searcher == "grid" else "random"


def check_pair(scheduler: str, searcher: str, shards: int | None) -> None:
    """Raise `ValueError`, one line, for what Ray Tune cannot combine or what is not installed."""
    for kind, name, known in (("scheduler", scheduler, SCHEDULERS), ("searcher", searcher, SEARCHERS)):
        if name not in known:
            raise ValueError(f"--{kind} {name}: {nearest(name, known)}")
    pair = f"--scheduler {scheduler} --searcher {searcher}"
    if scheduler in ("pbt", "pb2") and searcher not in ("random", "grid", "none"):
        raise ValueError(f"{pair}: {scheduler} changes values itself; give --searcher random or grid")
    if (scheduler == "bohb") != (searcher == "bohb"):
        raise ValueError(f"{pair}: bohb is both; give --scheduler bohb --searcher bohb")
    if shards is not None and scheduler != "none":  # members of a shard that is stopped would leave no record
        raise ValueError(f"{pair} --shards {shards}: shards search by themselves, by --method; give --scheduler none")
    if shards is not None and searcher not in ("random", "none"):
        raise ValueError(f"{pair} --shards {shards}: each shard searches the whole space; give --searcher random")
    for package in _PACKAGES.get(searcher, ()):
        if importlib.util.find_spec(package) is None:
            raise ValueError(f"--searcher {searcher} needs the package {package}, which is not installed")
