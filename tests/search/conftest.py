import pytest

from mtl.search.methods import MethodOptions, Problem, find_method
from mtl.search.objective import Objective
from mtl.search.search import Search
from mtl.search.space.build import build_space
from mtl.search.space.grammar import read_options
from mtl.study.rundir import open_run_directory
from tests.search.cohorts import ToyCohort
from tests.tiny import Tiny


@pytest.fixture
def toy_search(tmp_path):
    """Runs a method on the toy, in a directory, and returns the search, its records and the directory."""

    def run(
        method,
        *,
        out="run",
        ranges=("lr=1e-3:0.4:log",),
        objective=("selection",),
        stop=lambda: False,
        tell=print,
        cohort=ToyCohort,
        **options,
    ):
        space = build_space(Tiny(), ["equal", "gradnorm"], read_options(ranges))
        aim = Objective(objective, Tiny())
        problem = Problem(space, 60, 10, options.pop("seed", 1), len(objective))
        made = find_method(method)(problem, MethodOptions(**{"members": 8, **options}))
        search = Search("search", "", made, problem, aim, cohort, tell=tell)
        with open_run_directory(tmp_path / out, resume=True) as directory:
            return search, search.run(directory, "toy", should_stop=stop), directory

    return run
