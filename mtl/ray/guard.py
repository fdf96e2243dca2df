"""What Ray reads from the environment when it is imported: call `guard` before."""

from __future__ import annotations

import os
import secrets


def guard(*, own_cluster: bool) -> None:
    """Send no usage statistics; close a cluster of one's own to everybody else on the machine.

    Left to itself Ray would write the token of such a cluster into the home directory.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if own_cluster:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
