"""The family tree of a population: which stretches of which runs its members at the end descend from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from mtl.files.lineage import Event, source_steps


@dataclass(frozen=True)
class Branch:
    """A run from one takeover to the next, where something that is there at the end descends from it.

    Attributes:
        trial: number of the run.
        begin: its step when it began or took over another.
        end: the step at which the last of its descendants took it over; infinite where it lasted to the end.
        row: where it is drawn, such that no two branches cross.
        parent: the index of the branch that it descends from; None for one of the first runs.
    """

    trial: int
    begin: int
    end: float
    row: int
    parent: int | None


def family_tree(events: Sequence[Event]) -> list[Branch]:
    """The branches, each after its parent. Each run that is there at the end has a row, and relatives are side by side.

    A branch that lasts to the end lies on its own row. Another lies on the row of the descendant that left it last.
    Those that left it earlier are farther away, so a stroke from the branch to a descendant crosses nothing.
    """
    stages: dict[int, list[int]] = defaultdict(list)  # of each run, the steps at which it became something else
    parents: dict[tuple[int, int], tuple[int, int] | None] = {}
    events = sorted(events, key=lambda event: event.step)
    for event in events:
        stages[event.target].append(event.step)
    for event in events:
        parents[event.target, event.step] = None
        if event.source is not None:  # which may have made more or fewer steps, where runs do not wait for each other
            before = max(step for step in stages[event.source] if step < source_steps(event))
            parents[event.target, event.step] = event.source, before
    last = {(trial, steps[-1]) for trial, steps in stages.items()}
    children: dict[tuple[int, int] | None, set[tuple[int, int]]] = defaultdict(set)
    for stage in last:
        at: tuple[int, int] | None = stage
        while at is not None and at not in children[parents[at]]:
            children[parents[at]].add(at)
            at = parents[at]
    branches: list[Branch] = []
    rows = 0
    waiting = [(stage, -1) for stage in sorted(children[None], reverse=True)]
    while waiting:
        stage, parent = waiting.pop()
        left = sorted(children.get(stage, ()), key=lambda child: (child[1], -child[0]))  # the last one is next
        end = float("inf") if stage in last else max(step for _, step in left)
        branches.append(Branch(stage[0], stage[1], end, rows, parent if parent >= 0 else None))
        rows += stage in last
        waiting += [(child, len(branches) - 1) for child in left]
    return branches
