"""Which runs a comparison consists of, and what the others are compared with."""

import dataclasses

import pytest

from mtl.strategies import make
from mtl.study.plan import compare_plan, usual_reference


@dataclasses.dataclass
class _Task:
    name: str


@dataclasses.dataclass
class _Benchmark:
    tasks: tuple[_Task, ...]


@pytest.mark.parametrize(("specs", "reference"), [(["famo", "equal"], "equal"), (["famo", "mgda"], "famo")])
def test_equal_weights_are_the_reference_where_they_take_part(specs, reference):
    assert usual_reference([make(spec) for spec in specs]) == make(reference)


@pytest.mark.parametrize(("tasks", "baselines"), [("a", 0), ("ab", 4)])
def test_one_task_needs_no_single_task_baseline(tasks, baselines):
    benchmark = _Benchmark(tuple(map(_Task, tasks)))
    plan = compare_plan(benchmark, [make("equal")], [0, 1], single=True)
    assert sum(run.phase == "single_task" for run in plan.runs) == baselines
    assert sum(run.phase == "final" for run in plan.runs) == 2
