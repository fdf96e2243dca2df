"""Where a search trains: in this process, or in processes of a Ray cluster."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import time
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from mtl.cli.engine import Engine, on_ray
from mtl.cli.errors import BadInput
from mtl.cli.options import EngineOptions, SearchOptions
from mtl.cli.shared import tell
from mtl.extras import install
from mtl.search.cohort import SearchCohort
from mtl.search.plan import member_settings
from mtl.search.search import Search, SearchObserver
from mtl.study.rundir import RunDirectory
from mtl.study.setup import StudySetup
from mtl.train import Member, Stopped

if TYPE_CHECKING:
    from mtl.ray.host import Recipe

_MOST_LOSSES = 10  # without a segment between them that was finished
_SIGNAL_SECONDS = 3.0  # by which the signal to one process of a job may be behind that to another


class _NodeCame(Exception):
    """Shards can be spread over more nodes than they are; the segment before is checkpointed."""


class RayEngine(Engine):
    """Processes of a Ray cluster. One that dies costs the segment that was being trained."""

    def __init__(self, options: EngineOptions, setting: StudySetup) -> None:
        super().__init__(setting)
        self._options, self._setting = options, setting
        self._hosts: Any = None
        self._told = ""
        self.make_cohort = self._sharded

    def __enter__(self) -> RayEngine:
        with contextlib.ExitStack() as stack:
            stack.enter_context(on_ray(self._options))
            if self._options.gpus_per_shard is not None and not self._on_gpu:
                raise ValueError(f"--gpus-per-shard {self._options.gpus_per_shard:g}: the search trains on no GPU")
            self._open = stack.pop_all()
        return self

    def run(
        self,
        make: Callable[[], Search],
        directory: RunDirectory,
        benchmark: str,
        observers: Sequence[SearchObserver],
        should_stop: Callable[[], bool],
    ) -> list[dict[str, Any]]:
        """Carry out the search that `make` gives; goes on from its checkpoint as processes and nodes come and go."""
        from mtl.ray.cluster import nodes
        from mtl.search.shards.sharded import ShardLost

        lost, spent = 0, -1

        def spread() -> None:
            if self._hosts is not None and self._hosts.could_spread():
                raise _NodeCame

        while True:
            search = make()
            try:
                return search.run(directory, benchmark, observers, should_stop, spread)
            except _NodeCame:
                tell("a node of the Ray cluster has come: going on from the last segment with its help")
                self._close_hosts()
            except ShardLost as error:
                if _comes(should_stop):
                    raise Stopped from error
                lost = lost + 1 if search.totals.steps == spent else 1
                spent = search.totals.steps
                if lost > _MOST_LOSSES:
                    raise
                if not nodes():
                    tell("no node of the Ray cluster is left")
                    raise Stopped from error
                tell(f"lost {error}; going on from the last segment")
                self.lost += 1
                self._close_hosts()

    def _close_hosts(self) -> None:
        if self._hosts is not None:
            self._hosts.close()
            self._hosts = None

    def _sharded(self, members: Sequence[Member]) -> SearchCohort:
        from mtl.ray.cluster import nodes
        from mtl.ray.hosts import RayHosts
        from mtl.ray.sizing import describe, lay_out
        from mtl.search.shards.sharded import ShardedCohort

        options, on_gpu = self._options, self._on_gpu
        try:
            if self._hosts is None:
                self._hosts = RayHosts(self._recipe(on_gpu), options.shards)
            fits = self._hosts.fits(members)
            layout = lay_out(len(members), len(self._hosts), fits, options.shards)
        except ValueError as error:  # what was asked for does not fit the cluster
            raise BadInput(str(error)) from error
        text = describe(layout, [str(node["NodeManagerAddress"]) for node in nodes()], on_gpu=on_gpu)
        if text != self._told:
            tell(f"Ray: {text}")
        self._told = text
        self._hosts.begin(layout.shards, layout.fits)
        return ShardedCohort(self._hosts, members, tell)

    @property
    def _on_gpu(self) -> bool:
        from mtl.ray.cluster import gpus

        return self._options.device != "cpu" and gpus() > 0

    def _recipe(self, on_gpu: bool) -> Recipe:
        from mtl.ray.host import Recipe

        return Recipe(
            benchmark=self._options.subject,
            directory=os.getcwd(),
            settings=member_settings(self._setting),
            device="cuda" if on_gpu else "cpu",
            vectorised=not self._setting.one_at_a_time,
            share=self._options.gpus_per_shard or 1.0,
        )


@contextlib.contextmanager
def opened(engine: Engine) -> Iterator[Engine]:
    """The engine, ready to train.

    Raises:
        BadInput: what was asked for is not there; what goes wrong later is no matter of input.
    """
    with contextlib.ExitStack() as closing:
        try:
            ready = closing.enter_context(engine)
        except ValueError as error:
            raise BadInput(str(error)) from error
        yield ready


def _comes(should_stop: Callable[[], bool]) -> bool:
    """Whether the search is to stop.

    A scheduler that ends a job ends Ray on its nodes too, one after another. What is lost with the first may be heard
    of before the signal is here, and to go on would be to wait for what is left of Ray.
    """
    end = time.monotonic() + _SIGNAL_SECONDS
    while not should_stop():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def find_engine(options: EngineOptions, setting: StudySetup) -> Engine:
    """The engine that the options name.

    Raises:
        ValueError: Ray is not installed.
    """
    if options.engine == "population":
        return Engine(setting)
    if importlib.util.find_spec("ray") is None:
        raise ValueError(f"--engine {options.engine} needs Ray, which is not installed: {install('ray')}")
    if options.engine == "ray":
        return RayEngine(options, setting)
    from mtl.cli.tune_engine import TuneEngine

    assert isinstance(options, SearchOptions)  # a comparison with this engine is refused before
    return TuneEngine(options, setting)
