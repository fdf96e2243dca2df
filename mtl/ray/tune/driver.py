"""Carries out a search with Ray Tune's trials, schedulers and searchers, in a directory from which it goes on."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import secrets
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray import tune
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mtl.ray.cluster import nodes
from mtl.ray.tune.choices import configurations, make_scheduler, make_searcher, shard_configurations
from mtl.ray.tune.left import Unrestored, left_by, put_aside
from mtl.ray.tune.mirror import Mirror
from mtl.search.methods import OPTIONS, MethodOptions
from mtl.search.search import Search, SearchObserver

_KEPT_CHECKPOINTS = 4  # of a trial: others may still be about to take over an older one
_FAILURES = 3  # of a trial's process or node that are gone on after
_NO_HANDLER = "TUNE_DISABLE_SIGINT_HANDLER"
EXPERIMENT = "tune"  # directory of it, in that of the run


class Unshared(Exception):
    """A node cannot see the directory of the run."""


@dataclass(frozen=True)
class TuneOptions:
    """What the user asked of Ray Tune.

    Attributes:
        scheduler: its name.
        searcher: its name.
        shards: the number of trials, each a shard of members; None where each trial is one member.
        gpus: of one trial.
    """

    scheduler: str
    searcher: str
    shards: int | None
    gpus: float


def carry_out(
    trainable: type[tune.Trainable],
    asked: TuneOptions,
    search: Search,
    options: MethodOptions,
    directory: Path,
    observers: Sequence[SearchObserver],
    should_stop: Callable[[], bool],
) -> tuple[list[Path], list[Exception], bool]:
    """Carry out the experiment, or what is left of it.

    Args:
        trainable: made by `mtl.ray.trainable`.
        asked: of Ray Tune.
        search: its space, length, interval and seed; what is seen of the trials is filled in.
        options: of the search.
        directory: of the run, on a file system that all nodes share.
        observers: of the search.
        should_stop: asked now and then.

    Returns:
        The newest checkpoint of each trial that ended, errors of trials lost too often, and whether trials are left.

    Raises:
        Unshared: the nodes do not share the directory.
    """
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    _check_shared(directory)
    problem = search.problem
    random.seed(problem.seed)
    np.random.seed(problem.seed % 2**32)
    search.unit = "run" if asked.shards is None else "shard"
    mirror = Mirror(search, observers, should_stop)
    path = directory.resolve() / EXPERIMENT  # Tune takes what is relative for a URI
    resources: dict[str, float] = {"cpu": 1, "gpu": asked.gpus} if asked.gpus else {"cpu": 1}
    runnable = tune.with_resources(trainable, resources)
    with _own_signals():
        try:
            grid = _gone_on(runnable, path, mirror)
        except Unrestored:
            put_aside(path, search.tell)
            grid = None
        if grid is None:
            grid = _begun(runnable, asked, search, options, directory, mirror).fit()
    ended = [r for r in grid if r.checkpoint is not None and (not mirror.unfinished or (r.metrics or {}).get("done"))]
    errors = [result.error for result in grid if result.error is not None]
    return [Path(result.checkpoint.path) for result in ended if result.checkpoint], errors, mirror.unfinished


def _gone_on(runnable: Any, path: Path, mirror: Mirror) -> Any:
    """What an experiment that was left came to; None where there is none.

    Raises:
        Unrestored: Tune cannot go on with it.
    """
    if not (left := left_by(path)):
        return None
    mirror.expect(left)
    tuner = tune.Tuner.restore(str(path), runnable, resume_errored=True)
    inner: Any = tuner._local_tuner
    inner._run_config.callbacks = [mirror]  # the one that was saved watches nothing
    return tuner.fit()


def _begun(
    runnable: Any, asked: TuneOptions, search: Search, options: MethodOptions, directory: Path, mirror: Mirror
) -> tune.Tuner:
    problem = search.problem
    trials = search.method.trials
    searcher = None
    if asked.shards is not None:
        names = [name for name in OPTIONS if name not in ("members", "trials")]
        constants = {name: value for name in names if (value := getattr(options, name)) is not None}
        members = options.members // asked.shards
        known = shard_configurations(problem.space, problem.seed, asked.shards, members, constants)
    else:
        constants = {"interval": problem.interval}
        searcher = make_searcher(asked.searcher, problem, constants)
        known = [] if searcher else configurations(asked.searcher, problem, options, trials, constants)
    return tune.Tuner(
        runnable,
        param_space=tune.grid_search(list(known)) if known else None,
        tune_config=tune.TuneConfig(
            scheduler=make_scheduler(asked.scheduler, problem, options),
            search_alg=searcher,
            num_samples=trials if searcher else 1,
            max_concurrent_trials=options.members if searcher else None,
            reuse_actors=True,
            trial_dirname_creator=_name,
            trial_name_creator=_name,
        ),
        run_config=tune.RunConfig(
            name=EXPERIMENT,
            storage_path=str(directory.resolve()),
            verbose=0,
            callbacks=[mirror],
            failure_config=tune.FailureConfig(max_failures=_FAILURES),
            checkpoint_config=tune.CheckpointConfig(num_to_keep=_KEPT_CHECKPOINTS),
        ),
    )


def _name(trial: Any) -> str:
    return f"trial-{trial.trial_id}"


def _check_shared(directory: Path) -> None:
    """Raise `Unshared` unless every node sees what this one writes."""
    alive = nodes()
    if len(alive) < 2:
        return
    token, file = secrets.token_hex(8), directory.resolve() / f".shared-{secrets.token_hex(4)}"
    file.write_text(token, encoding="utf-8")

    @ray.remote(num_cpus=0)
    def seen(path: str) -> str:
        try:
            return Path(path).read_text(encoding="utf-8")
        except OSError:
            return ""

    calls = {
        str(node["NodeManagerAddress"]): seen.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote(str(file))
        for node in alive
    }
    try:
        for address, call in calls.items():
            if ray.get(call) != token:
                raise Unshared(f"--out {directory}: node {address} does not see it; all nodes must share it")
    finally:
        file.unlink(missing_ok=True)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ctrl-C is the command's, which asks Tune to stop; Tune would catch it."""
    before = os.environ.get(_NO_HANDLER)
    os.environ[_NO_HANDLER] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_NO_HANDLER]
        else:
            os.environ[_NO_HANDLER] = before
