"""One cluster for all scenarios. They run only when asked for by `-m slurm`, as `make test-slurm` does."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.slurm.cluster import Cluster
from tests.slurm.jobs import Jobs

ROOT = Path(__file__).parents[2]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if "slurm" in config.option.markexpr:
        return
    asked_for_only = [item for item in items if item.get_closest_marker("slurm")]
    if asked_for_only:
        config.hook.pytest_deselected(items=asked_for_only)
        items[:] = [item for item in items if item not in set(asked_for_only)]


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    programs = Path(sys.executable).parent
    environment = {
        "PATH": f"{programs}:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    with Cluster((ROOT, Path(sys.prefix), Path(sys.base_prefix)), environment) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def scripts(cluster: Cluster) -> Path:
    """A copy of slurm/ with nothing beside it: it needs no checkout."""
    return shutil.copytree(ROOT / "slurm", cluster.base / "slurm")


@pytest.fixture
def jobs(cluster: Cluster) -> Iterator[Jobs]:
    """Jobs of one test, in a directory of their own; those still there are cancelled at its end."""
    jobs = Jobs(cluster, Path(ROOT))
    yield jobs
    jobs.cancel_all()
