"""The family tree of a population, against the ancestry of each run and against its own drawing."""

import random

import pytest

from mtl.files.lineage import Event, ancestry
from mtl.report.search.tree import family_tree


def population(seed, runs=12, segments=15):
    """Takeovers at random; a run may take over and be taken over at the same step."""
    draw = random.Random(seed)
    events = [Event("search", 0, run, None, run, None, {}, {}) for run in range(runs)]
    for step in range(1, segments):
        for target in draw.sample(range(runs), draw.randrange(0, runs // 2)):
            source = draw.choice([run for run in range(runs) if run != target])
            events.append(Event("search", step, target, source, target, {}, {}, {}))
    return events


def without_waiting(seed, runs=12, segments=15):
    """The same where each run makes its steps when it likes, and is taken over as it was after its last one."""
    draw = random.Random(seed)
    events = [Event("search", 0, run, None, run, None, {}, {}) for run in range(runs)]
    made = [1] * runs
    while min(made) < segments:
        target = draw.choice([run for run in range(runs) if made[run] < segments])
        source = draw.choice([run for run in range(runs) if run != target])
        if draw.random() < 0.3:
            events.append(Event("search", made[target], target, source, target, {}, {}, {}, made[source]))
        made[target] += 1
    return events


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", [population, without_waiting])
def test_every_run_at_the_end_descends_from_its_ancestry(seed, kind):
    events = kind(seed)
    branches = family_tree(events)
    ends = [branch for branch in branches if branch.end == float("inf")]
    assert sorted(branch.trial for branch in ends) == [*range(12)]
    assert sorted(branch.row for branch in ends) == [*range(12)]
    used = set()
    for branch in ends:
        path = [branch]
        while path[-1].parent is not None:
            path.append(branches[path[-1].parent])
        expected = [(stage.trial, stage.step) for stage in ancestry(events, branch.trial)]
        assert [(one.trial, one.begin) for one in reversed(path)] == expected
        used |= set(path)
    assert used == set(branches)  # nothing that left no trace


@pytest.mark.parametrize("seed", range(20))
def test_no_stroke_of_the_tree_crosses_a_branch(seed):
    branches = family_tree(population(seed))
    for branch in branches:
        if branch.parent is None:
            continue
        parent = branches[branch.parent]
        assert parent.begin < branch.begin <= parent.end
        low, high = sorted((parent.row, branch.row))
        for other in branches:
            assert not (low < other.row < high and other.begin < branch.begin < other.end), (branch, other)
