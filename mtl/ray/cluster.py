"""Connects to a Ray cluster, or starts one of this machine."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray
from ray.exceptions import RayError

_START_SECONDS = 120
_LONGEST_DIRECTORY = 35  # a socket's path has at most 107 bytes, of which Ray adds about 70


@contextmanager
def connected(address: str | None, wanted: int = 1) -> Iterator[None]:
    """A block with a connection to a Ray cluster.

    Args:
        address: of the cluster; None starts one on this machine.
        wanted: the number of nodes that it must have.

    Raises:
        ValueError: there are too few nodes after two minutes, or a new cluster does not start.
    """
    if address is None:
        _start()
    else:
        _connect(address, wanted)
    try:
        yield
    finally:
        ray.shutdown()


def _start() -> None:
    try:
        ray.init(
            address="local",
            log_to_driver=False,
            logging_level=logging.CRITICAL,
            include_dashboard=False,
            _temp_dir=_short_directory(),
        )
    except Exception as error:  # that of a node that is late has no class of its own
        ray.shutdown()
        why = " ".join(str(error).split())[:200]
        raise ValueError(f"--engine ray: Ray does not start on this machine: {why}") from error


def _short_directory() -> str | None:
    """Where Ray is to put its files if its own choice is too long a path for the sockets in it."""
    own = os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp"
    return None if len(os.fsencode(own)) <= _LONGEST_DIRECTORY else "/tmp/ray"


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
    """The number of GPUs in the cluster."""
    return int(ray.cluster_resources().get("GPU", 0))


def nodes() -> list[dict[str, Any]]:
    """The nodes that are alive, in order of their addresses."""
    return sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: str(node["NodeManagerAddress"]))
