"""What the command line asks of Ray Tune: schedulers and searchers by name, and which go together, without Ray."""

from __future__ import annotations

import argparse
import importlib.util

from mtl.suggestions import nearest

SCHEDULERS = ("pbt", "pb2", "asha", "hyperband", "bohb", "median", "none")
SEARCHERS = ("random", "grid", "optuna", "bohb", "hyperopt", "none")
#: Packages that a searcher needs beside Ray's own.
_PACKAGES = {"optuna": ("optuna",), "bohb": ("hpbandster", "ConfigSpace"), "hyperopt": ("hyperopt",)}


def scheduler_of(args: argparse.Namespace) -> str:
    """The scheduler: that of the options; else PBT, or none for shards, which search by themselves."""
    return args.scheduler or ("none" if args.shards else "pbt")


def searcher_of(args: argparse.Namespace) -> str:
    """The searcher: that of the options, or the usual one of the scheduler."""
    return args.searcher or ("bohb" if scheduler_of(args) == "bohb" else "random")


def method_of(args: argparse.Namespace) -> str:
    """The method whose options a search takes: with Ray Tune that of the shards, or what the scheduler is like.

    Raises:
        ValueError: a method is given, and Ray Tune's trials are members.
    """
    if args.engine != "tune" or args.shards is not None:
        return str(args.method)
    if "method" in args.given:
        raise ValueError(f"--method {args.method}: --engine tune takes --scheduler and --searcher, or --shards")
    if scheduler_of(args) in ("pbt", "pb2"):
        return scheduler_of(args)
    return "grid" if searcher_of(args) == "grid" else "random"


def check_tune(args: argparse.Namespace) -> None:
    """Raise `ValueError`, one line, for what Ray Tune cannot do."""
    check_pair(scheduler_of(args), searcher_of(args), args.shards)
    if args.gpus_per_trial is not None and args.gpus_per_trial < 0:
        raise ValueError(f"--gpus-per-trial {args.gpus_per_trial:g}: must not be negative")


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
