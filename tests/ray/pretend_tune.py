"""Ray Tune without processes: its own controller, with trials in this process, some of which are lost."""

from __future__ import annotations

import contextlib
import logging
import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray
from ray import cloudpickle
from ray.air.execution import FixedResourceManager
from ray.air.execution._internal import actor_manager, event_manager
from ray.exceptions import RayActorError, RayTaskError
from ray.train._internal.storage import StorageContext
from ray.train._internal.syncer import _BackgroundProcess
from ray.tune.execution import class_cache, tune_controller
from ray.tune.experiment import trial as trial_module

import mtl.cli.tune_engine
import mtl.ray.tune.driver

_AT_ONCE = 2  # trials that train at a time
_START = _BackgroundProcess.start


@dataclass(eq=False)
class Call:
    """A call that was made at once, when it is over by the clock, and how it ended."""

    returned: bytes
    error: BaseException | None
    due: float


class RayOfTune:
    """What the controller uses of the module `ray`.

    Args:
        seed: of how long calls take, and so of the order in which trials report.
        lost: numbers of the calls whose process is lost, of even ones after what was called was done.
        happens: told the number of each call before it is made; may raise.
    """

    actor, ObjectRef = SimpleNamespace(ActorClass=object), Call

    def __init__(
        self, seed: int, lost: frozenset[int] = frozenset(), happens: Callable[[int], None] = lambda _number: None
    ) -> None:
        self.draw, self.lost, self.happens = random.Random(seed), lost, happens
        self.calls, self.now = 0, 0.0

    def remote(self, **_: Any) -> Any:
        return lambda cls: _Class(self, cloudpickle.dumps(cls))

    def get(self, call: Call) -> Any:
        if call.error is not None:
            raise call.error
        return cloudpickle.loads(call.returned)

    def wait(self, calls: list[Call], **_: Any) -> tuple[list[Call], list[Call]]:
        if not calls:
            return [], []
        first = min(calls, key=lambda call: call.due)
        self.now = max(self.now, first.due)
        return [first], [call for call in calls if call is not first]

    def kill(self, actor: Any) -> None:
        actor.made_ = None


class _Class:
    def __init__(self, pretend: RayOfTune, pickled: bytes) -> None:
        self._pretend, self._pickled = pretend, pickled

    def options(self, **_: Any) -> _Class:
        return self

    def remote(self, **options: Any) -> _Actor:
        cls = cloudpickle.loads(self._pickled)
        return _Actor(self._pretend, cls(**cloudpickle.loads(cloudpickle.dumps(options))))


class _Actor:
    def __init__(self, pretend: RayOfTune, made: Any) -> None:
        self.pretend_, self.made_, self.busy_ = pretend, made, 0.0

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=lambda *arguments, **options: self.call_(name, arguments, options))

    def call_(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Call:
        pretend = self.pretend_
        self.busy_ = max(self.busy_, pretend.now) + pretend.draw.uniform(0.5, 2)
        if name in ("__ray_ready__", "__ray_terminate__"):
            return Call(cloudpickle.dumps(True), None, self.busy_)
        pretend.calls += 1
        pretend.happens(pretend.calls)
        dies = pretend.calls in pretend.lost
        if dies and pretend.calls % 2:
            self.made_ = None
        if self.made_ is None:
            return Call(b"", RayActorError(), self.busy_)
        try:
            sent, named = cloudpickle.loads(cloudpickle.dumps((arguments, options)))
            returned = getattr(self.made_, name)(*sent, **named)
        except Exception as error:  # raised where the result is fetched, as by Ray
            return Call(b"", RayTaskError(name, repr(error), error, "trial", 1, "here"), self.busy_)
        if dies:
            self.made_ = None
            return Call(b"", RayActorError(), self.busy_)
        return Call(cloudpickle.dumps(returned), None, self.busy_)


def _at_once(start: Callable[..., bool]) -> Callable[..., bool]:
    """Nothing is written behind the back of a driver, which would go on where that is killed."""

    def started(self: Any, *arguments: Any, **options: Any) -> bool:
        begun = start(self, *arguments, **options)
        self._process.join()
        return begun

    return started


def pretend_tune(monkeypatch: Any, folder: Path, ray_of_tune: RayOfTune) -> RayOfTune:
    """Let `--engine tune` use it; what Ray would put into a folder of its own lies in `folder`."""
    for module in (actor_manager, event_manager, class_cache, trial_module):
        monkeypatch.setattr(module, "ray", ray_of_tune)
    resources = {"CPU": float(_AT_ONCE)}
    monkeypatch.setattr(ray, "is_initialized", lambda: True)
    monkeypatch.setattr(ray, "cluster_resources", lambda: resources)
    monkeypatch.setattr(ray.util, "get_current_placement_group", lambda: None)
    monkeypatch.setattr(tune_controller, "PlacementGroupResourceManager", lambda: FixedResourceManager(resources))
    own = str(folder / f"session-{len([*folder.glob('session-*')])}")
    Path(own).mkdir(parents=True)
    monkeypatch.setattr(StorageContext, "_get_session_path", lambda _self: own)
    monkeypatch.setattr(logging.getLogger("ray.train._internal.storage"), "disabled", True)
    monkeypatch.setattr(_BackgroundProcess, "start", _at_once(_START))
    monkeypatch.setattr(mtl.ray.tune.driver, "nodes", list)
    monkeypatch.setattr(mtl.cli.tune_engine, "on_ray", lambda _options: contextlib.nullcontext())
    monkeypatch.setattr(mtl.cli.tune_engine.TuneEngine, "_lent", lambda _self: 0.0)
    for name, value in mtl.cli.tune_engine._ENVIRONMENT.items():
        monkeypatch.setitem(os.environ, name, value)
    monkeypatch.setitem(os.environ, "TUNE_GLOBAL_CHECKPOINT_S", "0")
    return ray_of_tune
