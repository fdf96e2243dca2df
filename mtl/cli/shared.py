"""What commands that train have in common: the setting, the recorded configuration, the output directory."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from mtl.benchmarks import Benchmark, Splits, find_benchmark, load_checked
from mtl.benchmarks.catalogue import resolved_name
from mtl.benchmarks.digest import check_repeats, difference, of_study, of_tasks
from mtl.benchmarks.losses import fitted
from mtl.cli.checks import read_settings
from mtl.cli.config_file import options_of
from mtl.cli.errors import BadInput
from mtl.cli.options import CompareOptions, RunOptions
from mtl.cli.place import out_of
from mtl.cli.torchrun import leads
from mtl.files.config import Config
from mtl.stats.examples import FOLDS
from mtl.study.described import described
from mtl.study.models import Models
from mtl.study.rundir import RunDirectory, open_run_directory
from mtl.study.setup import StudySetup
from mtl.train import Settings, check_model
from mtl.train.allocator import keep_freed_memory
from mtl.train.recipe import decided_losses

# What a resumed study may not change: finished and new runs would not be comparable.
_FIXED = ("command", "benchmark", "training", "device")


def make_setting(options: RunOptions, benchmark: Benchmark | None = None) -> StudySetup:
    """Everything that the runs share, checked before any work starts."""
    keep_freed_memory()
    benchmark = benchmark or find_benchmark(options.subject)
    settings = read_settings(options, benchmark)
    device = find_device(options.device)
    started = time.perf_counter()
    for line in getattr(benchmark, "about", ()):
        tell(line)
    splits: Splits = load_checked(benchmark)
    check_repeats(benchmark, splits, time.perf_counter() - started, tell)
    benchmark = fitted(benchmark, splits)
    compared = options if isinstance(options, CompareOptions) else None
    alone = compared is not None and not compared.no_single_task  # then there are runs of each task by itself
    check_model(benchmark, splits, settings, tell, alone=alone)
    one_at_a_time = compared is not None and compared.one_at_a_time
    folds = 0 if compared is None else FOLDS
    return StudySetup(benchmark, splits, settings, device, one_at_a_time=one_at_a_time, tell=tell, folds=folds)


def load_setting(config: Mapping[str, Any], device: str) -> StudySetup:
    """The setting of a run that is recorded in its config.yaml.

    Raises:
        ValueError: its data or its tasks are not what they were.
    """
    keep_freed_memory()
    benchmark = find_benchmark(config["benchmark"])
    settings = Settings.of(config["training"])
    splits = load_checked(benchmark)
    benchmark = fitted(benchmark, splits)
    tasks = of_tasks(benchmark.tasks)
    if found := difference(config, {"tasks": tasks, "digests": of_study(tasks, splits)}):
        raise ValueError(f"benchmark {benchmark.name!r} is not what the run was made on any more: {found}")
    return StudySetup(benchmark, splits, settings, find_device(device), tell=tell)


def tell(text: str) -> None:
    """Say something beside the results; of several processes of a run one does."""
    if leads():
        print(f"mtl: {text}", file=sys.stderr)


def once(tell: Callable[[str], None]) -> Callable[[str], None]:
    """Says each text the first time only."""
    said: set[str] = set()

    def say(text: str) -> None:
        if text not in said:
            said.add(text)
            tell(text)

    return say


def find_device(name: str) -> torch.device:
    """The device that `--device` names.

    Raises:
        ValueError: it is not there.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("--device cuda: no CUDA device is available here")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def make_config(
    options: RunOptions, setting: StudySetup, strategies: Sequence[Any], seeds: Sequence[int], reference: Any
) -> Config:
    """The resolved settings, as recorded in config.yaml."""
    told = described(setting, resolved_name(options.subject), strategies, seeds, reference)
    return {"command": options.command, "options": options_of(options), **told}


@contextlib.contextmanager
def run_directory(
    options: RunOptions, setting: StudySetup, config: Config, fixed: Sequence[str] = (), growing: Sequence[str] = ()
) -> Iterator[tuple[RunDirectory, Config]]:
    """The locked output directory and the configuration as recorded in it; neither stays if the input proves bad.

    Args:
        options: of this command.
        setting: of its runs.
        config: of this command.
        fixed: keys of `config`, beside the training settings, that a resumed run may not change.
        growing: keys within those whose number may become larger.
    """
    path = out_of(options)
    with contextlib.ExitStack() as stack:
        try:
            directory = stack.enter_context(open_run_directory(path, resume=options.resume))
            before = directory.config()
        except ValueError as error:
            raise BadInput(str(error)) from error
        if before is None and directory.begun():
            raise BadInput(
                f"output directory {str(path)!r} holds a run without its config.yaml, so nothing says how it was made: "
                "put that file back, or start another run with --out DIR"
            )
        for damage in directory.damages():
            tell(f"{damage}; the other lines count")
        if before is not None:
            if found := difference(before, config):
                raise BadInput(
                    f"output directory {str(path)!r} was started with something else than there is now: {found}; "
                    "use another --out"
                )
            _check_same(before, config, directory.path, (*_FIXED, *fixed), growing)
        # Identifies the study wherever its runs are shown together; kept when it is resumed.
        # W&B's own variable names it where several processes carry out one study.
        named = os.environ.get("WANDB_RUN_GROUP") or f"{directory.path.resolve().name}-{secrets.token_hex(3)}"
        study = (before.get("study") if before is not None else None) or named
        recorded: Config = {"study": study, **config}
        directory.write_config(recorded)
        tasks, train = setting.benchmark.tasks, setting.splits.train
        directory.decided = partial(decided_losses, tasks=tasks, train=train)
        directory.models = Models(directory.path, options.keep_models, config.get("search", {}).get("objective"))
        try:
            yield directory, recorded
        except (BadInput, KeyboardInterrupt):
            if before is None:
                directory.forget()
            raise


def recorded_config(options: RunOptions) -> Config | None:
    """The config.yaml of the run that the options resume, where it can be read."""
    try:
        return RunDirectory(out_of(options)).config()
    except ValueError:  # is said when the directory is opened
        return None


def _check_same(
    before: Mapping[str, Any], now: Mapping[str, Any], path: Path, fixed: Sequence[str], growing: Sequence[str]
) -> None:
    for key in fixed:
        if before.get(key) == now.get(key):
            continue
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            grown = {name: new[name] for name in growing if name in old and name in new and new[name] > old[name]}
            if {**old, **grown} == new:
                continue
            old = {**old, **grown}
            key = next(name for name in {**old, **new} if old.get(name) != new.get(name))
            old, new = old.get(key), new.get(key)
        raise BadInput(
            f"output directory {str(path)!r} was started with {key}={old}, now {key}={new}; use another --out"
        )
