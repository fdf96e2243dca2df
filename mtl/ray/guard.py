"""Environment variables that Ray reads when it is imported. Call `guard` before."""

from __future__ import annotations

import os
import secrets


def guard(*, own_cluster: bool) -> None:
    """Keep Ray quiet: it sends no usage statistics, and prints nothing by itself.

    Left to itself it prints a page of advice for each process that is lost.

    Args:
        own_cluster: whether the cluster will be this command's own. It then gets a password, so that nobody else on the
            machine can use it; by default Ray would write one into the home directory.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # lines that the driver does not pass on
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if own_cluster:
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
