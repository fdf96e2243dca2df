"""Connects to a Ray cluster, or starts one of this machine, and places the processes that train."""

from __future__ import annotations

import logging
import re
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayActorError, RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mtl.population import Member
from mtl.ray.cohort import ShardLost
from mtl.ray.host import Host, Recipe

_START_SECONDS = 120


@contextmanager
def connected(address: str | None, wanted: int = 1) -> Iterator[None]:
    """A connection to the cluster at `address` as soon as it has so many nodes, or to a new one of this machine.

    Raises:
        ValueError: there are too few after two minutes.
    """
    if address is None:
        ray.init(address="local", log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
    else:
        _connect(address, wanted)
    try:
        yield
    finally:
        ray.shutdown()


def _connect(address: str, wanted: int) -> None:
    end = time.monotonic() + _START_SECONDS
    why = ""
    while time.monotonic() < end:
        try:
            if not ray.is_initialized():
                _knock(address)  # Ray itself waits for most of a minute, and complains
                ray.init(address=address, log_to_driver=False, logging_level=logging.CRITICAL)
            if len(nodes()) >= wanted:
                return
            why = f"it has {len(nodes())} of {wanted} nodes"
        except (OSError, RuntimeError, ValueError, RayError) as error:
            why = " ".join(str(error).split())[:200]
        time.sleep(0.5)
    ray.shutdown()
    raise ValueError(f"--address {address}: no whole Ray cluster within {_START_SECONDS} s: {why}")


def _knock(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ValueError("HOST:PORT is wanted")
    socket.create_connection((host, int(port)), timeout=2).close()


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
        self._hosts: list[Any] = [
            actor.options(
                num_cpus=0,
                num_gpus=1 if on_gpu else 0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(turns[place % len(turns)], soft=True),
            ).remote(recipe)
            for place in range(count)
        ]
        self._where = self.gather([host.where.remote() for host in self._hosts])

    def call(self, shard: int, method: str, *arguments: Any) -> Any:
        """Start a call of the shard's cohort."""
        return self._of(shard).call.remote(shard, method, *arguments)

    def make(self, shard: int, members: Sequence[Member], saved: Mapping[str, Any] | None = None) -> Any:
        """Start to make a shard."""
        return self._of(shard).make.remote(shard, members, saved)

    def drop(self, shard: int) -> Any:
        """Start to forget a shard."""
        return self._of(shard).drop.remote(shard)

    def train(self, shard: int, steps: int) -> Any:
        """Start to train a shard; the call returns the evaluations of its members after that."""
        return self._of(shard).train.remote(shard, steps)

    def extracted(self, shard: int, saved: Mapping[str, Any], number: int) -> Any:
        """Start to extract a member of a saved shard, in the process of another one."""
        return self._of(shard).extracted.remote(saved, number)

    def clear(self) -> None:
        """Forget all shards."""
        self.gather([host.clear.remote() for host in self._hosts])

    def gather(self, calls: Sequence[Any]) -> list[Any]:
        """What the calls return, when all have.

        Raises:
            ShardLost: a process or its node is gone.
        """
        try:
            return [ray.get(call) for call in calls]
        except (RayActorError, TaskUnschedulableError, GetTimeoutError) as error:
            raise ShardLost(_short(str(error))) from error

    def done(self, calls: Sequence[Any]) -> list[int]:
        """Which of the calls are over, as soon as one is, whether it went well or not."""
        ray.wait(list(calls), num_returns=1, fetch_local=False)
        over, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0, fetch_local=False)
        return [place for place, call in enumerate(calls) if call in over]

    def where(self, shard: int) -> str:
        """The address of the shard's node."""
        return str(self._where[shard % len(self._hosts)])

    def close(self) -> None:
        """End the processes."""
        for host in self._hosts:
            ray.kill(host)

    def _of(self, shard: int) -> Any:
        return self._hosts[shard % len(self._hosts)]


def _short(error: str) -> str:
    """Which process it was where Ray says so, or how Ray's own explanation begins."""
    found = dict(re.findall(r"^\s*(pid|ip): (\S+)$", error, re.MULTILINE))
    if len(found) == 2:
        return f"process {found['pid']} on {found['ip']}"
    return " ".join(error.split())[:200]


def _in_turn(names: Sequence[str]) -> list[str]:
    """The same names, the first of each before the second of any."""
    seen: dict[str, int] = {}
    rank = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        rank.append(seen[name])
    return [name for _, _, name in sorted(zip(rank, range(len(names)), names, strict=True))]
