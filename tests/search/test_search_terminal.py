"""What a search shows while it runs."""

import io
import itertools
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from mtl.cli import search_terminal
from mtl.cli.search_table import Progress
from mtl.cli.search_terminal import SearchTerminal
from mtl.search.methods import MethodOptions, Problem, find_method
from mtl.search.objective import Objective
from mtl.search.search import Search
from mtl.search.shards.sharded import Place
from mtl.search.space.build import build_space
from mtl.search.space.grammar import read_options
from mtl.study.rundir import open_run_directory
from tests.search.cohorts import ToyCohort
from tests.tiny import Tiny


class Placed(ToyCohort):
    """A shard a member."""

    shards = 8

    def places(self):
        states = ["training", "waiting"]
        return [Place(f"10.0.0.{k}", (k,), states[k % 2]) for k in range(len(self.members))]


def searched(tmp_path, observers, cohort=ToyCohort, method="pbt", weight_decay="0.0,0.0123"):
    """Six segments of eight members; those with a weight decay are not finite after the first."""
    ranges = read_options(["lr=1e-3:0.4:log", f"weight_decay={weight_decay}"])
    space, aim = build_space(Tiny(), ["equal"], ranges), Objective(["selection"], Tiny())
    problem = Problem(space, 60, 10, 1, 1)
    search = Search("search", "", find_method(method)(problem, MethodOptions(members=8)), problem, aim, cohort)
    with open_run_directory(tmp_path / "run", resume=True) as directory:
        search.run(directory, "toy", observers)
    return search


class Frames:
    """An observer that draws after each segment."""

    def __init__(self, terminal=None, lost=0, width=120, height=30):
        self.terminal, self.lost, self.drawn = terminal, lost, []
        self.console = Console(width=width, height=height, file=io.StringIO(), record=True)

    def segment(self, search):
        if not self.drawn:
            self.progress = Progress(search, self.lost)
        self.progress.segment()
        self.console.print(self.progress)
        self.drawn.append(self.console.export_text())

    def trial(self, search, record):
        pass


@pytest.fixture
def printed(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(search_terminal, "console", Console(file=file, width=200))
    return file


def test_a_frame_has_progress_the_best_run_failures_and_a_row_a_shard(tmp_path, monkeypatch):
    seconds = itertools.count(step=1e-3)  # a machine with much else to do has a second left
    monkeypatch.setattr("mtl.cli.search_table.time", SimpleNamespace(monotonic=lambda: next(seconds)))
    frames = Frames(lost=2)
    search = searched(tmp_path, [frames], Placed)
    assert search.totals.replaced_nonfinite > 0
    frame = frames.drawn[1]
    assert re.search(r"search pbt .* 160 of 480 steps, [\d,]+ a second, 0:00:00 left", frame)
    assert re.search(r"best selection -\d\.\d+ by run \d at step \d+: strategy=equal lr=0\.\d+ weight_decay=0", frame)
    failures = r"[1-9]\d* of runs that were not finite, 2 processes lost"
    assert re.search(rf"8 of 8 runs, \d+ exploits, {failures}", frame)
    rows = [line.split() for line in frame.splitlines() if "10.0.0." in line]
    assert rows == [[str(k), f"10.0.0.{k}", "1", "20", ["training", "waiting"][k % 2]] for k in range(8)]


def test_more_shards_than_lines_are_summed_up(tmp_path):
    frames = Frames(height=12)
    searched(tmp_path, [frames], Placed)
    assert frames.drawn[0].count("10.0.0.") == 3
    assert re.search(r"… +3 waiting, 2 training", frames.drawn[0])


def test_a_narrow_terminal_has_no_line_too_many(tmp_path):
    frames = Frames(width=60)
    searched(tmp_path, [frames])
    assert max(map(len, frames.drawn[1].splitlines())) <= 60
    assert len(frames.drawn[1].splitlines()) == 5
    assert "this process" in frames.drawn[1]


def test_runs_that_end_not_finite_are_counted(tmp_path, printed):
    with SearchTerminal(quiet=False) as terminal:
        search = searched(tmp_path, [terminal], method="random", weight_decay="0.0123,0.01")
    broken = sum(trial.values["weight_decay"] == 0.0123 for trial in search.trials)
    assert broken > 0
    assert f"480 steps, 8 runs, {broken} runs ended not finite" in printed.getvalue()


@pytest.mark.parametrize(("seconds", "lines"), [(0.0, 6), (3600.0, 1)])
def test_where_there_is_no_terminal_lines_are_printed_now_and_then(tmp_path, printed, monkeypatch, seconds, lines):
    monkeypatch.setattr(search_terminal, "_SECONDS", seconds)
    with SearchTerminal(quiet=False) as terminal:
        searched(tmp_path, [terminal])
    said = printed.getvalue().splitlines()
    assert len(said) == lines
    assert said[-1].startswith("search pbt: best selection ")
    if lines > 1:
        assert said[1].startswith("search pbt: 160 of 480 steps, ")


def test_quiet_is_quiet(tmp_path, printed):
    with SearchTerminal(quiet=True) as terminal:
        searched(tmp_path, [terminal])
    assert printed.getvalue() == ""


def test_a_terminal_shows_the_table_and_leaves_the_result(tmp_path, monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(search_terminal, "console", Console(file=file, width=100, height=30, force_terminal=True))
    with SearchTerminal(quiet=False) as terminal:

        class Slow(Placed):
            def advance(self, steps, should_stop=None):
                super().advance(steps, should_stop)
                terminal._live.refresh()

        searched(tmp_path, [terminal], Slow)
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", file.getvalue())
    assert "10.0.0.7" in shown
    assert shown.count("480 steps, 8 runs") == 1
