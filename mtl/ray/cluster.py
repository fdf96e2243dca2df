"""Connects to a Ray cluster, or starts one of this machine."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError

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
