"""A Ray cluster that several searches use, one after another: to start and end one takes as long as a small search."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys

import pytest

from tests.processes import ROOT, finish, start

HOLDER = """
import sys
from mtl.ray.guard import guard
guard(own_cluster=True)
from mtl.ray.cluster import connected
with connected(None):
    import ray
    print(ray.get_runtime_context().gcs_address, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def on_cluster():
    """Runs `mtl ARGUMENTS` to its end on the module's cluster, and gives what it says on stderr."""
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    options = {"cwd": ROOT, "env": {**os.environ, **token}}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", HOLDER], **options, **pipes) as holder:
        address = holder.stdout.readline().strip()
        assert address, "the cluster did not start"

        def run(*arguments, code=0):
            return finish(start(*arguments, f"--address={address}", env=options["env"]), code)

        yield run
        holder.stdin.close()
