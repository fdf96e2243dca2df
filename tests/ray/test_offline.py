"""Losses that learn before training, in shards: in pieces, with what is left of them shown, and the same numbers."""

import subprocess
import sys

import pytest

from mtl.search.shards.sharded import ShardedCohort, StillLearning
from mtl.train import Cohort, Member, Settings
from tests.processes import ROOT
from tests.ray.here import Call, Here
from tests.tiny import Tiny

STEPS = 6
LEARNED = {"sign": {"name": f"learned:hidden=4,start=random,offline_steps={STEPS}"}}
MEMBERS = [Member("equal", 0, losses=LEARNED), Member("equal", 1), Member("equal", 2, losses=LEARNED)]


class Piecewise(Here):
    """Hosts that return after each piece, as those on Ray do, and what a user would see each time."""

    seen, cohort = (), None

    def _piece(self, shard):
        cohort = self.cohorts[shard]
        return Call(StillLearning(*cohort.learning), self.now + 0.4) if cohort.begin(0.0) else None

    def call(self, shard, method, *arguments, **options):
        piece = self._piece(shard) if method == "advance" else None
        return piece or super().call(shard, method, *arguments, **options)

    def train(self, shard, steps):
        return self._piece(shard) or super().train(shard, steps)

    def done(self, calls):
        self.seen += ((self.cohort.learning, tuple(place.state for place in self.cohort.places())),)
        return super().done(calls)


def in_shards(shards):
    hosts = Piecewise(shards)
    hosts.cohort = ShardedCohort(hosts, MEMBERS, print)
    return hosts, hosts.cohort


@pytest.mark.parametrize("shards", [1, 2, 3])
def test_it_is_shown_how_far_they_are_and_numbers_are_those_of_one_cohort(shards):
    hosts, sharded = in_shards(shards)
    whole = Cohort(Tiny(), hosts.splits, MEMBERS, Settings(steps=40, batch_size=32), told=True)
    for cohort in (sharded, whole):
        cohort.advance(5)
        assert cohort.learning is None
    said = [learning for learning, _ in hosts.seen if learning]
    assert said == sorted(said) and said[0][0] < STEPS and said[-1] == (2 * STEPS - said[0][0], 2 * STEPS)
    assert any("learning losses" in states for _, states in hosts.seen)
    found, expected = ([each.selection for each in cohort.evaluate()] for cohort in (sharded, whole))
    assert found == pytest.approx(expected, abs=1e-6)


def test_shards_that_do_not_wait_go_on_after_each_piece():
    hosts, sharded = in_shards(3)
    first = sharded.arrivals(5)
    assert [*first] == [1], "the one that has nothing to learn comes first"
    assert sharded.learning is not None
    later = {}
    while len(later) < 3:
        later |= sharded.arrivals(5)
    assert sharded.learning is None
    alone = Cohort(Tiny(), hosts.splits, MEMBERS, Settings(steps=40, batch_size=32), told=True)
    alone.advance(5)
    assert later[0].selection == pytest.approx(alone.evaluate()[0].selection, abs=1e-6)


SCRIPT = """
import sys
import mtl.cli.search_terminal as terminal
from mtl.cli.main import main
terminal._SECONDS = 0.1
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "more",
    [
        ["--engine=ray", "--shards=1"],
        ["--engine=ray", "--shards=1", "--asynchronous"],
        ["--engine=tune"],
        ["--engine=tune", "--shards=1"],
    ],
)
def test_a_search_on_ray_shows_it(more, tmp_path):
    pytest.importorskip("ray")
    spec = "learned:hidden=4,start=random,offline_steps=1500"
    arguments = ["search", "tests/tiny.py:Tiny", "--strategy=equal", "--members=2", "--steps=20"]
    arguments += ["--search", f"loss.sign={spec}", "--wandb=disabled", f"--out={tmp_path / 'run'}"]
    command = [sys.executable, "-c", SCRIPT, *arguments, *more]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    assert "learning losses before training, " in done.stdout
