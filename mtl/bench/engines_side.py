"""One search of `mtl bench search --engine ray` in a process of its own, with the times at which things happened."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from mtl.bench import search_problem
from mtl.bench.search_ours import make_setting, pbt
from mtl.bench.search_problem import Size
from mtl.search.cohort import MakeCohort, SearchCohort
from mtl.search.plan import cohort_maker, member_settings
from mtl.search.search import Search
from mtl.study.rundir import open_run_directory
from mtl.study.setup import StudySetup
from mtl.train import Member
from mtl.train.allocator import keep_freed_memory


class Times:
    """When the members were there, and when each segment was over, with its evaluation, decision and checkpoint.

    The clock is one that all processes of a machine share.
    """

    def __init__(self) -> None:
        self.ready = 0.0
        self.segments: list[float] = []

    def watched(self, make_cohort: MakeCohort) -> MakeCohort:
        """`make_cohort`, noting when it is done."""

        def make(members: Sequence[Member]) -> SearchCohort:
            cohort = make_cohort(members)
            self.ready = time.monotonic()
            return cohort

        return make

    def segment(self, _search: Search) -> None:
        """Note it."""
        self.segments.append(time.monotonic())

    def trial(self, search: Search, record: dict[str, Any]) -> None:
        """Runs end inside their last segment."""


def main(size: Size, shards: int) -> None:
    """Carry out the search, in this process when `shards` is 0, and print the times as JSON."""
    keep_freed_memory()
    setting, times = make_setting(size), Times()
    with ExitStack() as stack:
        maker = _sharded(stack, setting, shards) if shards else cohort_maker(setting)
        search = pbt(setting, size, times.watched(maker))
        with open_run_directory(Path(size.folder), resume=True) as directory:
            search.run(directory, setting.benchmark.name, [times])
    print(json.dumps({"ready": times.ready, "segments": times.segments}))


def _sharded(stack: ExitStack, setting: StudySetup, shards: int) -> MakeCohort:
    from mtl.ray.guard import guard

    guard(own_cluster=True)
    from mtl.ray.cluster import connected
    from mtl.ray.host import Recipe
    from mtl.ray.hosts import RayHosts
    from mtl.search.shards.sharded import ShardedCohort

    stack.enter_context(connected(None))
    recipe = Recipe(
        benchmark=f"{search_problem.__file__}:SmallProblem",
        directory=os.getcwd(),
        settings=member_settings(setting),
        device="cpu",
        vectorised=True,
    )
    hosts = RayHosts(recipe, shards)
    return lambda members: ShardedCohort(hosts, members, lambda text: print(text, file=sys.stderr))


if __name__ == "__main__":
    main(Size.read(sys.argv[1]), int(sys.argv[2]))
