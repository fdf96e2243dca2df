"""Makes the trainable of a benchmark."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray import tune

from mtl.benchmarks import Benchmark
from mtl.benchmarks.apart import tasks_of_losses
from mtl.ray.tune.about import About
from mtl.ray.tune.benchmark import found, spec_of
from mtl.ray.tune.member import MemberTrial
from mtl.ray.tune.shard import ShardTrial
from mtl.search.methods import find_method
from mtl.search.objective import Objective
from mtl.strategies import make
from mtl.study.models import KEEP
from mtl.train import Settings

DEVICES = ("auto", "cpu", "cuda")


def trainable(
    benchmark: Benchmark | type[Benchmark] | str,
    *,
    strategy: str = "equal",
    settings: Settings | Mapping[str, Any] | None = None,
    members: int = 1,
    method: str = "pbt",
    objective: str | Sequence[str] | Objective = "selection",
    device: str = "auto",
    keep_models: str = "best",
) -> type[tune.Trainable]:
    """A trainable for `ray.tune.Tuner`.

    It reports `selection` (mean skill on validation data, higher is better; -inf once the run is not finite), every
    `TASK/METRIC`, `objective` (of the first objective, higher is better), `steps`, `exploits`, and the values in use
    as `hyperparameters/NAME`. Each report has a checkpoint, and a run that is restored equals one that was never
    interrupted bit for bit. A configuration holds values by the names of `param_space`, and if wanted `seed` (by
    default `first_seed`, 0, plus the number of the trial: no two trials share one) and `interval`, the steps between
    two reports.

    Args:
        benchmark: its name, `path.py:Class`, or its class.
        strategy: of trials whose configuration names none.
        settings: training settings over the benchmark's recipe, such as `{"epochs": 10}`.
        members: 1: a trial is one run. More: a trial is a vectorised shard of so many runs that search among
            themselves, which costs a fraction of a process for each; its configuration then holds their ranges.
        method: by which the runs of a shard search, a name of `mtl list methods`.
        objective: `selection`, `TASK` or `TASK/METRIC`.
        device: `auto` (a GPU where the cluster has some), `cpu` or `cuda`.
        keep_models: runs of a shard whose weights its checkpoint holds: `best`, `all` or `none`. That of a trial of one
            run always holds them.

    Raises:
        ValueError: one line that names what does not exist or does not fit.
    """
    spec = spec_of(benchmark)
    made = found(spec)
    if members < 1:
        raise ValueError(f"members={members}: must be at least 1")
    if device not in DEVICES:
        raise ValueError(f"device={device!r}: must be one of {', '.join(DEVICES)}")
    if keep_models not in KEEP:
        raise ValueError(f"keep_models={keep_models!r}: must be one of {', '.join(KEEP)}")
    find_method(method)
    if not isinstance(objective, Objective):
        objective = Objective([objective] if isinstance(objective, str) else list(objective), made)
    make(strategy).check_tasks(len(tasks_of_losses(made.tasks)))
    plain = dataclasses.asdict(settings) if isinstance(settings, Settings) else dict(settings or {})
    about = About(spec, str(make(strategy)), plain, members, method, objective, device, keep_models)
    about.setting(trains=False)
    base = MemberTrial if members == 1 else ShardTrial
    return type(f"{made.name}", (base,), {"about": about, "default_resource_request": classmethod(_resources)})


def _resources(cls: Any, config: dict[str, Any]) -> tune.PlacementGroupFactory:  # noqa: ARG001
    """One core, and one GPU where trials train on one."""
    device = cls.about.device
    has_gpus = ray.is_initialized() and ray.cluster_resources().get("GPU", 0) > 0
    gpus = 1 if device == "cuda" or (device == "auto" and has_gpus) else 0
    return tune.PlacementGroupFactory([{"CPU": 1, "GPU": gpus} if gpus else {"CPU": 1}])
