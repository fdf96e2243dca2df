"""What Ray reads from the environment when it is imported: call `guard` before."""

from __future__ import annotations

import os
import secrets


def guard(*, own_cluster: bool) -> None:
    """Send no usage statistics, print nothing of Ray's own; close a cluster of one's own to all others on the machine.

    Left to itself Ray would write the token of such a cluster into the home directory, and a page of advice on standard
    output for each process that is lost.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # lines that the driver does not pass on
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if own_cluster:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
