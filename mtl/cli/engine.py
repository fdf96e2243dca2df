"""What carries out a search: the base of all engines, which is this process, and how those on Ray are connected."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType, TracebackType
from typing import Any

from mtl.cli.options import EngineOptions
from mtl.cli.shared import tell
from mtl.search.cohort import MakeCohort
from mtl.search.plan import cohort_maker
from mtl.search.search import Search, SearchObserver
from mtl.study.rundir import RunDirectory
from mtl.study.setup import StudySetup


class Engine(contextlib.AbstractContextManager["Engine"]):
    """This process and its device."""

    #: What config.yaml records of it beside the search.
    about: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, setting: StudySetup) -> None:
        self.lost = 0  # processes, so far
        self._open = contextlib.ExitStack()  # what `__enter__` has opened
        self.make_cohort: MakeCohort = cohort_maker(setting)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> bool | None:
        return self._open.__exit__(kind, error, at)

    def run(
        self,
        make: Callable[[], Search],
        directory: RunDirectory,
        benchmark: str,
        observers: Sequence[SearchObserver],
        should_stop: Callable[[], bool],
    ) -> list[dict[str, Any]]:
        """Carry out the search that `make` gives."""
        return make().run(directory, benchmark, observers, should_stop)


@contextlib.contextmanager
def on_ray(options: EngineOptions) -> Iterator[None]:
    """Connected to the Ray cluster that a command names, or to one of its own on this machine."""
    from mtl.ray.guard import guard

    guard(own_cluster=options.address is None)
    from mtl.ray.cluster import connected

    tell(f"connecting to Ray at {options.address}" if options.address else "starting Ray on this machine")
    with connected(options.address, options.nodes or 1):
        yield
