"""Ray without processes: actors in this one, some of which die, and calls that take a time drawn from a seed."""

from __future__ import annotations

import contextlib
import pickle
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ray.exceptions import RayActorError

import mtl.cli.engines
import mtl.ray.cluster
import mtl.ray.host
import mtl.ray.hosts

NODE = "10.0.0.{}"


def _never(_number: int, _name: str) -> bool:
    return False


@dataclass
class Call:
    """A call that was made at once, when it is over by the clock, and how it ended."""

    returned: Any
    error: BaseException | None = None
    due: float = 0.0


class Ray:
    """What `mtl.ray.hosts` uses of the module `ray`.

    Args:
        seed: of how long calls take.
        dies: whether the process that is called dies then, by the number of the call and what it does.
        nodes: of the cluster.
    """

    def __init__(self, seed: int, dies: Callable[[int, str], bool] = _never, nodes: int = 1) -> None:
        self.draw, self.dies, self.nodes = random.Random(seed), dies, nodes
        self.calls, self.lost, self.now = 0, 0, 0.0

    def remote(self, cls: type) -> Any:
        return _Class(self, cls)

    def get(self, call: Call) -> Any:
        if call.error is not None:
            raise call.error
        return pickle.loads(call.returned)

    def wait(self, calls: list[Call], num_returns: int, timeout: float, **_: Any) -> tuple[list[Call], list[Call]]:
        if timeout > 0:
            self.now = max(self.now, min(call.due for call in calls))
        over = [call for call in calls if call.due <= self.now][: num_returns or None]
        return over, [call for call in calls if call not in over]

    def kill(self, actor: Any) -> None:
        actor.made_ = None

    def listed(self) -> list[dict[str, Any]]:
        """The nodes of the cluster."""
        return [
            {"NodeID": f"{number:056x}", "NodeManagerAddress": NODE.format(number), "Resources": {}, "Alive": True}
            for number in range(self.nodes)
        ]


class _Class:
    def __init__(self, pretend: Ray, cls: type) -> None:
        self._pretend, self._cls = pretend, cls

    def options(self, **_: Any) -> _Class:
        return self

    def remote(self, *arguments: Any) -> _Actor:
        return _Actor(self._pretend, self._cls(*arguments))


class _Actor:
    def __init__(self, pretend: Ray, made: Any) -> None:
        self.pretend_, self.made_, self.busy_ = pretend, made, 0.0

    def __getattr__(self, name: str) -> _Method:
        return _Method(self, name)

    def call_(self, name: str, arguments: tuple[Any, ...], options: dict[str, Any]) -> Call:
        ray = self.pretend_
        ray.calls += 1
        if ray.dies(ray.calls, arguments[1] if name == "call" else name):
            ray.lost, self.made_ = ray.lost + 1, None
        self.busy_ = max(self.busy_, ray.now) + (ray.draw.uniform(0.5, 2) if name == "train" else 0.0)
        if self.made_ is None:
            return Call(None, RayActorError(), ray.now)
        sent_arguments, sent_options = pickle.loads(pickle.dumps((arguments, options)))
        try:
            returned = getattr(self.made_, name)(*sent_arguments, **sent_options)
        except Exception as error:  # raised where the result is fetched, as by Ray
            return Call(None, error, self.busy_)
        return Call(pickle.dumps(returned), None, self.busy_)


@dataclass
class _Method:
    actor: _Actor
    name: str

    def remote(self, *arguments: Any, **options: Any) -> Call:
        return self.actor.call_(self.name, arguments, options)


class _Quiet:
    """A module `signal` whose handlers stay as they are."""

    SIGTERM = SIGUSR1 = SIGHUP = SIG_IGN = 0

    @staticmethod
    def signal(_number: int, _handler: Any) -> None:
        return


def pretend(monkeypatch: Any, ray: Ray) -> Ray:
    """Let `--engine ray` use it."""
    monkeypatch.setattr(mtl.ray.hosts, "ray", ray)
    monkeypatch.setattr(mtl.ray.host, "signal", _Quiet)
    monkeypatch.setattr(mtl.ray.host.Host, "where", lambda _self: NODE.format(0))
    for module in (mtl.ray.hosts, mtl.ray.cluster):
        monkeypatch.setattr(module, "nodes", ray.listed)
    monkeypatch.setattr(mtl.ray.cluster, "gpus", lambda: 0)
    monkeypatch.setattr(mtl.cli.engines, "on_ray", lambda _options: contextlib.nullcontext())
    monkeypatch.setattr(mtl.cli.engines, "_SIGNAL_SECONDS", 0.0)
    return ray
