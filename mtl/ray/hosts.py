"""The processes of a Ray cluster that train shards: where they run, and how they are called."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import ray
import torch
from ray.exceptions import (
    GetTimeoutError,
    ObjectStoreFullError,
    OutOfDiskError,
    RayActorError,
    TaskUnschedulableError,
)
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mtl.ray.cluster import nodes
from mtl.ray.host import Host, Recipe
from mtl.search.shards.sharded import HostFailed, ShardLost
from mtl.train import Member

_MOMENT_SECONDS = 0.5  # after which whoever waits for a process looks whether a signal has come


class RayHosts:
    """Processes spread over the nodes of a Ray cluster. With P processes, shard n is trained by process n modulo P.

    Args:
        recipe: what the processes make cohorts from.
        wanted: the largest number of processes. None: one for each node or, with GPUs, as many as these have room for.

    Attributes:
        shards: the number of shards; may grow.

    Raises:
        ValueError: the recipe asks for a GPU and no node has one.
    """

    def __init__(self, recipe: Recipe, wanted: int | None) -> None:
        self._recipe, self._wanted = recipe, wanted
        plan = self._plan()
        if not plan:
            raise ValueError("the Ray cluster has no node with a GPU")
        self._nodes = set(plan)
        actor = ray.remote(Host)
        self._hosts: list[Any] = [
            actor.options(
                num_cpus=0,
                num_gpus=recipe.share if recipe.device == "cuda" else 0,
                scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=True),
            ).remote(recipe)
            for node in plan
        ]
        self.shards = len(plan)
        self._where = self.gather([host.where.remote() for host in self._hosts])

    def __len__(self) -> int:
        return len(self._hosts)

    def could_spread(self) -> bool:
        """Whether the cluster could by now train the shards on more nodes, as when a lost node is back."""
        plan = self._plan()[: self.shards]
        return len(plan) > len(self._hosts) or len(set(plan)) > len(self._nodes)

    def fits(self, members: Sequence[Member]) -> int | None:
        """The number of members like these that every process has memory for; None where memory sets no limit."""
        found = self.gather([host.fits.remote(members) for host in self._hosts])
        limits = [limit for limit in found if limit is not None]
        return min(limits, default=None)

    def begin(self, shards: int, fits: int | None) -> None:
        """Forget all shards.

        Args:
            shards: the number of shards to come.
            fits: the largest number of members that a process holds at a time; None for no limit.
        """
        self.shards = shards
        self.gather([host.begin.remote(fits) for host in self._hosts])

    def call(self, shard: int, method: str, *arguments: Any, **options: Any) -> Any:
        """Start to call a method of the shard's cohort."""
        return self._of(shard).call.remote(shard, method, *arguments, **options)

    def make(self, shard: int, members: Sequence[Member], saved: Mapping[str, Any] | None = None) -> Any:
        """Start to make a shard."""
        return self._of(shard).make.remote(shard, members, saved)

    def drop(self, shard: int) -> Any:
        """Start to forget a shard."""
        return self._of(shard).drop.remote(shard)

    def train(self, shard: int, steps: int) -> Any:
        """Start to make so many steps with a shard's members. The call returns their evaluations after that."""
        return self._of(shard).train.remote(shard, steps)

    def extracted(self, shard: int, saved: Mapping[str, Any], number: int) -> Any:
        """Start to take one member out of a saved shard, in the process of another shard."""
        return self._of(shard).extracted.remote(saved, number)

    def gather(self, calls: Sequence[Any]) -> list[Any]:
        """What the calls return, once all are over.

        Raises:
            ShardLost: a process or its node is gone.
            HostFailed: a process could not be started.
            ValueError: a device or Ray's object store has too little memory.
        """
        try:
            return [ray.get(call) for call in calls]
        except (RayActorError, TaskUnschedulableError, GetTimeoutError) as error:
            if isinstance(error, RayActorError) and error.actor_init_failed:
                raise HostFailed(f"a process that trains shards cannot be made: {_reason(error)}") from None
            raise ShardLost(_short(str(error))) from error
        except (ObjectStoreFullError, OutOfDiskError) as error:
            raise ValueError(
                "the state of a shard has no room in Ray's object store, nor in its directory on disk: give more "
                "--shards, or Ray more room (`ray start --object-store-memory`; sbatch --mem or MTL_OBJECT_STORE in MB)"
            ) from error
        except torch.OutOfMemoryError as error:
            raise ValueError(
                "a GPU is out of memory: give more --shards, fewer --members or a smaller --batch-size"
            ) from error

    def done(self, calls: Sequence[Any]) -> list[int]:
        """The places of the calls that are over, as soon as one is, whether it went well or not; none after a
        moment.
        """
        ray.wait(list(calls), num_returns=1, timeout=_MOMENT_SECONDS, fetch_local=False)
        over, _ = ray.wait(list(calls), num_returns=len(calls), timeout=0, fetch_local=False)
        return [place for place, call in enumerate(calls) if call in over]

    def where(self, shard: int) -> str:
        """The address of the shard's node."""
        return str(self._where[shard % len(self._hosts)])

    def close(self) -> None:
        """End the processes."""
        for host in self._hosts:
            ray.kill(host)

    def _plan(self) -> list[str]:
        """Of each process the node that it is to be on, as the cluster is now."""
        on_gpu = self._recipe.device == "cuda"
        slots = [node for node in nodes() for _ in range(_gpu_slots(node, self._recipe.share) if on_gpu else 1)]
        # Node after node in turn, so that a few processes do not crowd the first.
        turns = in_turn([str(node["NodeID"]) for node in slots])
        if not turns or self._wanted is None:
            return turns
        count = min(self._wanted, len(turns)) if on_gpu else self._wanted
        return [turns[place % len(turns)] for place in range(count)]

    def _of(self, shard: int) -> Any:
        return self._hosts[shard % len(self._hosts)]


def _reason(error: RayActorError) -> str:
    """All that was said where the process was being made; its last line comes first."""
    text = re.sub(r"\x1b\[[0-9;]*m", "", str(error)).strip()
    return f"{text.splitlines()[-1].strip()}\n{text}"


def _short(error: str) -> str:
    """Which process it was where Ray says so, or how Ray's own explanation begins."""
    found = dict(re.findall(r"^\s*(pid|ip): (\S+)$", error, re.MULTILINE))
    if len(found) == 2:
        return f"process {found['pid']} on {found['ip']}"
    return " ".join(error.split())[:200]


def _gpu_slots(node: Mapping[str, Any], share: float) -> int:
    """Processes that the GPUs of a node have room for, each with a share of one."""
    return int(node["Resources"].get("GPU", 0)) * int(1 / share + 1e-9)


def in_turn(names: Sequence[str]) -> list[str]:
    """The same names in another order: first one of each, then the second of each that has two, and so on."""
    seen: dict[str, int] = {}
    rank = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        rank.append(seen[name])
    return [name for _, _, name in sorted(zip(rank, range(len(names)), names, strict=True))]
