"""The engine and the methods, on a population in closed form."""

import json
import math
from types import SimpleNamespace

import pytest

from mtl.files.lineage import ancestry, read_events, winner, winning_line
from mtl.search.methods import METHODS, MethodOptions, Problem, find_method, make_options
from mtl.search.space.build import build_space
from mtl.search.trial import Trial
from mtl.train import Stopped
from tests.search.cohorts import ToyCohort
from tests.tiny import Tiny

LIMITS = {"grid": {"grid_points": 2}, "asha": {"trials": 20}} | {
    name: {"trials": 20} for name in ("random", "bohb", "tpe", "gp", "nsga2", "cmaes", "evolution")
}
QUICK = [name for name in METHODS if name != "gp"] + [pytest.param("gp", marks=pytest.mark.slow)]


def options(method):
    return LIMITS.get(method, {})


@pytest.mark.parametrize("method", QUICK)
def test_a_search_stopped_after_any_segment_continues_to_the_same_files(method, toy_search):
    _, whole, directory = toy_search(method, **options(method))
    expected = directory.schedule_path.read_text()
    stops = 0
    while True:
        try:
            _, resumed, again = toy_search(method, out="stopped", stop=lambda: True, **options(method))
            break
        except Stopped:
            stops += 1
    assert stops >= 5
    assert again.schedule_path.read_text() == expected
    assert resumed == whole


@pytest.mark.parametrize("method", QUICK)
def test_seeds_decide_a_search(method, toy_search):
    first, second, other = (
        toy_search(method, out=out, seed=seed, **options(method))[1] for out, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == second
    if method != "grid":
        assert [r["hyperparameters"] for r in first] != [r["hyperparameters"] for r in other]


@pytest.mark.parametrize("method", QUICK)
def test_every_run_has_values_inside_the_space_and_one_record(method, toy_search):
    search, records, directory = toy_search(method, **options(method))
    lines = [json.loads(line) for line in directory.results_path.read_text().splitlines()]
    assert [r["run"] for r in records] == sorted(r["run"] for r in lines) and len(lines) == len(search.trials)
    for record in records:
        values = record["hyperparameters"]
        assert 1e-3 <= values["lr"] <= 0.4 and 1e-6 <= values["weight_decay"] <= 1e-2
        gradnorm = values["strategy"] == "gradnorm"
        assert ("strategy.gradnorm.alpha" in values) == gradnorm
        assert record["strategy"].split(":")[0] == values["strategy"]
        assert record["phase"] == "search" and record["status"] in ("done", "stopped")
    assert search.totals.steps == sum(r["cost"]["steps"] for r in records) <= search.method.work


def test_grid_trains_every_combination_once(toy_search):
    _, records, _ = toy_search(
        "grid", grid_points=2, ranges=["lr=0.01,0.1,0.2", "weight_decay=0", "strategy=equal,dwa"]
    )
    # dwa declares one more number, of which two values are tried: 3 with equal and 3 x 2 with dwa.
    assert len(records) == len({json.dumps(r["hyperparameters"]) for r in records}) == 3 + 3 * 2


@pytest.mark.parametrize("method", ["pbt", "pb2"])
def test_exploits_copy_the_best_into_the_worst_and_perturb_within_bounds(method, toy_search):
    search, _, directory = toy_search(method, members=12, quantile=0.25)
    events = read_events(directory.schedule_path)
    starts = [event for event in events if event.source is None]
    exploits = [event for event in events if event.source is not None]
    assert len(starts) == 12 and len(exploits) == 3 * 5 == search.totals.exploits
    values = {event.target: event.after for event in starts}
    for event in exploits:
        assert event.scores["source"] >= event.scores["target"]
        assert event.before == values[event.target]
        assert 1e-3 <= event.after["lr"] <= 0.4
        values[event.target] = event.after
    for step in (10, 20, 30, 40, 50):
        now = [event for event in exploits if event.step == step]
        assert not {event.source for event in now} & {event.target for event in now}


def test_pbt_perturbs_by_a_fifth_unless_it_draws_anew(toy_search):
    *_, directory = toy_search("pbt", members=12, resample=0.0, ranges=["lr=1e-9:0.4:log"])
    values = {}
    for event in read_events(directory.schedule_path):
        if event.source is not None:
            ratio = event.after["lr"] / values[event.source]["lr"]
            assert min(abs(ratio - 0.8), abs(ratio - 1.2)) < 1e-9 or event.after["lr"] == 0.4
        values[event.target] = event.after


def test_nothing_is_replaced_during_the_burn_in(toy_search):
    *_, directory = toy_search("pbt", burn_in=30)
    steps = [event.step for event in read_events(directory.schedule_path) if event.source is not None]
    assert min(steps) == 30


def test_a_run_that_is_not_finite_is_replaced_at_once_and_counted(toy_search):
    # Half of the space breaks, which is more than the quantile.
    ranges = ["lr=0.01:0.1:log", "weight_decay=0,0.0123", "strategy=equal"]
    search, records, directory = toy_search("pbt", ranges=ranges, burn_in=60, resample=0.0, members=8)
    broken = [
        event.target
        for event in read_events(directory.schedule_path)
        if event.source is None and event.after["weight_decay"] == 0.0123
    ]
    assert 2 < len(broken) < 8
    first = [event for event in read_events(directory.schedule_path) if event.step == 10]
    assert [event.target for event in first] == broken and all(event.scores["target"] is None for event in first)
    assert search.totals.replaced_nonfinite == len(broken)
    assert all(record["status"] == "done" and math.isfinite(record["selection"]) for record in records)


def test_a_search_in_which_every_run_breaks_ends(toy_search):
    for method in ("pbt", "asha", "hyperband", "bohb", "tpe"):
        ranges = ["lr=0.1", "weight_decay=0.0123", "strategy=equal"]
        search, records, _ = toy_search(method, out=method, ranges=ranges)
        assert search.best is None and {record["status"] for record in records} <= {"diverged"}


def test_asha_spends_its_steps_on_the_good_runs(toy_search):
    search, records, _ = toy_search("asha", members=9, ranges=["lr=1e-4:0.4:log", "strategy=equal"])
    done = [r["hyperparameters"]["lr"] for r in records if r["status"] == "done"]
    cut = [r["hyperparameters"]["lr"] for r in records if r["status"] == "stopped"]
    assert len(done) < len(cut) and sum(done) / len(done) > sum(cut) / len(cut)
    assert search.totals.steps < 0.6 * len(records) * 60


def test_hyperband_halves_by_rank_and_then_trains_fewer_to_the_end(toy_search):
    """With length / interval = 6 and eta = 3 there are two brackets: 9 runs of which 3 go on after 20 steps, then 6."""
    search, records, _ = toy_search("hyperband", members=9, ranges=["lr=1e-4:0.4:log", "strategy=equal"])
    assert [r["cost"]["steps"] for r in records[9:]] == [60] * 6
    at_rung = sorted(search.trials[:9], key=lambda trial: -trial.curve[1][2][0])
    assert {trial.number for trial in at_rung[:3]} == {k for k in range(9) if records[k]["cost"]["steps"] == 60}
    assert search.totals.steps == search.method.work == 6 * 20 + 3 * 60 + 6 * 60


def test_hyperband_begins_its_brackets_again_until_it_has_its_trials(toy_search):
    search, records, _ = toy_search("hyperband", members=9, trials=9 + 6 + 7)
    assert (
        len(records) == 22 and search.totals.steps == search.method.work == (6 * 20 + 3 * 60 + 6 * 60) + 7 * 20 + 2 * 40
    )


def test_asha_fills_the_places_of_stopped_runs(toy_search):
    search, records, _ = toy_search("asha", members=4, trials=20)
    assert len(records) == 20
    assert len(search.totals.best) < 20 * 6 / 2  # never fewer than it takes, never one run after another


def test_the_lineage_of_a_run_leads_back_to_a_start(toy_search):
    search, _, directory = toy_search("pbt", members=12)
    events = read_events(directory.schedule_path)
    for trial in search.trials:
        stages = ancestry(events, trial.number)
        assert stages[0].step == 0 and stages[-1].trial == trial.number and stages[-1].values == trial.values
        theta = 1 + stages[0].seed / 100
        ends = [stage.step for stage in stages[1:]] + [60]
        for stage, end in zip(stages, ends, strict=True):
            theta *= (1 - 2 * stage.values["lr"]) ** (end - stage.step)
        assert trial.curve[-1][2][0] == pytest.approx(-(theta**2))


def test_a_line_cut_short_in_the_schedule_is_written_again(toy_search):
    _, _, directory = toy_search("pbt", out="whole")
    expected = directory.schedule_path.read_text()
    with pytest.raises(Stopped):
        toy_search("pbt", out="cut", stop=iter([False, False, True]).__next__)
    path = directory.path.parent / "cut" / "schedule.jsonl"
    path.write_text(path.read_text() + '{"search": "search", "step": 4')
    *_, again = toy_search("pbt", out="cut")
    assert again.schedule_path.read_text() == expected


@pytest.mark.parametrize(
    ("method", "given", "message"),
    [
        ("pbt", {"members": 1}, "--members 1: pbt needs at least 2"),
        ("pb2", {"trials": 30}, "--trials 30: pb2 trains its members and no others"),
        ("grid", {"trials": 2}, "points, more than --trials 2"),
        ("pbt", {"quantile": 0.7}, r"quantile=0.7 must be in \[0, 0.5\]"),
    ],
)
def test_options_that_do_not_fit_are_refused(method, given, message, toy_search):
    with pytest.raises(ValueError, match=message):
        toy_search(method, **given)


def test_an_unknown_method_is_refused_with_the_nearest():
    with pytest.raises(ValueError, match="unknown method 'hyberband': did you mean hyperband"):
        find_method("hyberband")
    assert set(METHODS) >= {
        "grid",
        "random",
        "pbt",
        "pb2",
        "asha",
        "hyperband",
        "bohb",
        "tpe",
        "nsga2",
        "cmaes",
        "evolution",
    }
    assert MethodOptions().members > 1


def _history(directory, record):
    return json.loads((directory.path / record["history"]).read_text())


LEARNING = [(method, members) for method in ("tpe", "cmaes", "evolution", "nsga2") for members in (4, 16)]


@pytest.mark.parametrize(("method", "members"), [*LEARNING, pytest.param("gp", 4, marks=pytest.mark.slow)])
def test_by_default_a_method_that_learns_has_something_to_learn_from(method, members, toy_search):
    """Four waves, of which all but the first know scores; with as many trials as members it is blind, and says so."""
    search, records, _ = toy_search(method, members=members)
    assert len(records) == 4 * members and search.standing.informed == (3 * members, 4 * members)
    assert [record["informed"] for record in records] == [False] * members + [True] * 3 * members
    blind, records, _ = toy_search(method, out="blind", members=members, trials=members)
    assert blind.standing.informed == (0, members)


@pytest.mark.parametrize("method", ["pbt", "random", "asha", "hyperband", "grid"])
def test_methods_that_propose_nothing_claim_nothing(method, toy_search):
    search, records, _ = toy_search(method, **options(method))
    assert search.standing.informed is None and {record["informed"] for record in records} == {None}


@pytest.mark.parametrize(
    ("method", "given", "expected"),
    [
        ("tpe", {}, (16, 64)),
        ("tpe", {"trials": 16}, (4, 16)),
        ("tpe", {"trials": 1}, (2, 1)),
        ("cmaes", {"trials": 8}, (4, 8)),
        ("random", {"trials": 1000}, (16, 1000)),
        ("random", {"members": 4}, (4, 4)),
        ("evolution", {"trials": 16, "members": 16}, (16, 16)),
        ("asha", {"members": 8}, (8, 32)),
        ("pbt", {"trials": 8}, (8, 8)),
    ],
)
def test_members_and_trials_that_were_not_given(method, given, expected):
    cls = find_method(method)
    made = cls(Problem(build_space(Tiny(), ["equal"], {}), 60, 10, 0), make_options(cls, given))
    assert (made.options.members, made.trials) == expected


@pytest.mark.parametrize("method", QUICK)
def test_what_is_compared_shares_its_seed_and_what_is_passed_on_does_not(method, toy_search):
    _, records, _ = toy_search(method, seed=7, **options(method))
    seeds = [record["seed"] for record in sorted(records, key=lambda record: record["trial"])]
    own = method in ("pbt", "pb2", "epbt")
    assert seeds == ([7 + number for number in range(len(records))] if own else [7] * len(records))


@pytest.mark.parametrize("method", ["random", "tpe", "cmaes", "evolution", "asha", "hyperband", "bohb"])
def test_a_search_that_is_over_goes_on_with_more_trials(method, toy_search):
    _, first, directory = toy_search(method, members=4, trials=6)
    before = directory.schedule_path.read_text(), directory.results_path.read_text()
    search, records, _ = toy_search(method, members=4, trials=15)
    assert [record["trial"] for record in records] == [*range(15)] and records[:6] == first
    assert directory.schedule_path.read_text().startswith(before[0])
    assert directory.results_path.read_text().startswith(before[1])
    assert search.totals.steps == sum(record["cost"]["steps"] for record in records)
    again, same, _ = toy_search(method, members=4, trials=15)
    assert same == records and again.totals == search.totals


class Wandering(ToyCohort):
    """Each run's score is highest in the middle of its training, and then falls; the metrics disagree with selection.

    A member's peak is its learning rate, at step 30.
    """

    def evaluate(self):
        found = []
        for member, row in zip(self.members, self.rows, strict=True):
            height = member.settings["lr"] - abs(row["step"] - 30) / 100
            metrics = {"sign": {"accuracy": height}, "product": {"mae": 1.0, "r2": 0.0}}
            found.append(
                SimpleNamespace(selection=row["step"] / 100, metrics=metrics, finite=True, curves={}, failure="")
            )
        return found


@pytest.mark.parametrize("method", ["random", "pbt", "asha", "tpe", "pb2", "epbt", "hyperband"])
def test_the_best_that_is_told_is_the_best_that_is_recorded_and_wins(method, toy_search):
    """One rule, the objective's, over the evaluations between segments, whatever happens to a run afterwards."""
    search, records, directory = toy_search(
        method, ranges=("lr=0.1:0.4",), objective=("sign",), cohort=Wandering, **options(method)
    )
    best = winner(records, {"sign/accuracy": True})
    trial, kept = search.best
    assert best["trial"] == trial.number and best["objective"] == {"sign/accuracy": kept.scores[0]}
    heard = [scores[0] for record in records for scores in _history(directory, record)["search_scores"]]
    ran = [record for record in records if record["status"] == "done"]
    assert max(record["objective"]["sign/accuracy"] for record in ran) == search.totals.best[-1][1]
    if method in ("random", "pbt", "tpe", "pb2", "epbt"):
        assert best["objective"]["sign/accuracy"] == max(heard)
    assert best["best_step"] == 30 and best["selection"] == 0.3
    assert best["validation"]["sign"]["accuracy"] == kept.scores[0]
    stages = winning_line(read_events(directory.schedule_path), best)
    assert stages[-1].trial == best["best_trial"] and all(stage.step < 30 for stage in stages)
    assert best["hyperparameters"] == stages[-1].values


def test_with_several_objectives_a_run_keeps_the_latest_state_that_none_of_its_others_covers():
    trial = Trial(0, 0, {})
    heard = [(1.0, 1.0), (0.5, 2.0), (0.4, 1.5), (2.0, 0.5), (2.0, 0.5), (math.nan, 9.0)]
    kept = []
    for scores in heard:
        trial = trial.evaluated(trial.step + 1, SimpleNamespace(selection=0.0, metrics={}), scores, 0)
        kept.append(trial.best.step)
        assert trial.at_its_best == (trial.best.step == trial.step)
    assert kept == [1, 2, 2, 4, 4, 4]
