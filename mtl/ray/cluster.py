"""Connects to a Ray cluster, or starts one of this machine, and places the processes that train."""

from __future__ import annotations

import os
import secrets
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from mtl.population import Member
from mtl.ray.cohort import ShardLost
from mtl.ray.host import Host, Recipe

# Ray reads these when it is imported. Without a token anybody on the network may run code on the cluster.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_AUTH_MODE", "token")
if os.environ["RAY_AUTH_MODE"] == "token" and "RAY_AUTH_TOKEN_PATH" not in os.environ:
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

_START_SECONDS = 120


@contextmanager
def connected(address: str | None, processes: int) -> Iterator[None]:
    """A connection to the cluster at `address`, or to one of this machine with room for so many processes.

    Raises:
        ValueError: nothing answers there.
    """
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "include_dashboard": False}
    if address is None:
        ray.init(address="local", num_cpus=max(processes, os.cpu_count() or 1), **quiet)
    else:
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError, RayError) as error:
            raise ValueError(f"--address {address}: no Ray cluster answers: {' '.join(str(error).split())}") from error
    try:
        yield
    finally:
        ray.shutdown()


def gpus() -> int:
    """GPUs of the cluster."""
    return int(ray.cluster_resources().get("GPU", 0))


def nodes() -> list[dict[str, Any]]:
    """Nodes that are alive, by address."""
    return sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: str(node["NodeManagerAddress"]))


class RayHosts:
    """Processes spread over the nodes, a shard each; where there are fewer GPUs than shards, a process has several.

    Args:
        recipe: from what they make cohorts.
        shards: how many; may grow.

    Raises:
        ValueError: the recipe wants a GPU and no node has one.
    """

    def __init__(self, recipe: Recipe, shards: int) -> None:
        self.shards = shards
        on_gpu = recipe.device == "cuda"
        slots = [node for node in nodes() for _ in range(int(node["Resources"].get("GPU", 0)) if on_gpu else 1)]
        # Node after node in turn, so that a few shards do not crowd the first.
        turns = _in_turn([str(node["NodeID"]) for node in slots])
        if not turns:
            raise ValueError("the Ray cluster has no node with a GPU")
        count = min(shards, len(turns)) if on_gpu else shards
        actor = ray.remote(Host)
        self._hosts = [
            actor.options(
                num_cpus=0,
                num_gpus=1 if on_gpu else 0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(turns[place % len(turns)], soft=True),
            ).remote(recipe)
            for place in range(count)
        ]

    def call(self, shard: int, method: str, *arguments: Any) -> Any:
        """Start a call of the shard's cohort."""
        return self._of(shard).call.remote(shard, method, *arguments)

    def make(self, shard: int, members: Sequence[Member], saved: Mapping[str, Any] | None = None) -> Any:
        """Start to make a shard."""
        return self._of(shard).make.remote(shard, members, saved)

    def drop(self, shard: int) -> Any:
        """Start to forget a shard."""
        return self._of(shard).drop.remote(shard)

    def gather(self, calls: Sequence[Any]) -> list[Any]:
        """What the calls return, when all have.

        Raises:
            ShardLost: a process or its node is gone.
        """
        try:
            return [ray.get(call) for call in calls]
        except (RayActorError, TaskUnschedulableError, GetTimeoutError) as error:
            raise ShardLost(" ".join(str(error).split())[:200]) from error

    def close(self) -> None:
        """End the processes."""
        for host in self._hosts:
            ray.kill(host)

    def _of(self, shard: int) -> Any:
        return self._hosts[shard % len(self._hosts)]


def _in_turn(names: Sequence[str]) -> list[str]:
    """The same names, the first of each before the second of any."""
    seen: dict[str, int] = {}
    rank = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        rank.append(seen[name])
    return [name for _, _, name in sorted(zip(rank, range(len(names)), names, strict=True))]
