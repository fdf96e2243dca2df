"""Schedules are those of `torch.optim.lr_scheduler`, as functions of the step and the length."""

import copy

import pytest
import torch
from torch.optim import lr_scheduler as theirs

from mtl.train import Cohort, Member, Settings
from mtl.train.schedules import SCHEDULES, read_schedule
from tests.population.problem import Three, assert_is_the_single_run

STEPS = 60
PAIRS = {
    "constant": lambda optimizer: theirs.ConstantLR(optimizer, factor=1.0),
    "cosine": lambda optimizer: theirs.CosineAnnealingLR(optimizer, STEPS),
    "linear": lambda optimizer: theirs.LinearLR(optimizer, 1.0, 0.0, STEPS),
    "step": lambda optimizer: theirs.StepLR(optimizer, 18, 0.1),
    "step:every=0.2,factor=0.5": lambda optimizer: theirs.StepLR(optimizer, 12, 0.5),
    "step:every=0.1,factor=0.9": lambda optimizer: theirs.StepLR(optimizer, 6, 0.9),
    "exponential": lambda optimizer: theirs.ExponentialLR(optimizer, 0.01 ** (1 / STEPS)),
    "exponential:final=0.5": lambda optimizer: theirs.ExponentialLR(optimizer, 0.5 ** (1 / STEPS)),
    "polynomial": lambda optimizer: theirs.PolynomialLR(optimizer, STEPS),
    "polynomial:power=0.9": lambda optimizer: theirs.PolynomialLR(optimizer, STEPS, 0.9),
    "one-cycle": lambda optimizer: theirs.OneCycleLR(optimizer, 0.5, STEPS),
    "one-cycle:pct_start=0.5,div_factor=4,final_div_factor=10": lambda optimizer: theirs.OneCycleLR(
        optimizer, 0.5, STEPS, pct_start=0.5, div_factor=4, final_div_factor=10
    ),
    "one-cycle:pct_start=0": lambda optimizer: theirs.OneCycleLR(optimizer, 0.5, STEPS, pct_start=0.0),
    "one-cycle:pct_start=1": lambda optimizer: theirs.OneCycleLR(optimizer, 0.5, STEPS, pct_start=1.0),
}


@pytest.mark.usefixtures("float64")
def test_a_warmup_that_outlasts_the_run_is_said_once():
    benchmark, said = Three(), []
    settings = Settings.of(benchmark.recipe, {"steps": 10, "warmup": 39})
    members = [Member("equal", 0), Member("mgda", 0, {"warmup": 99}), Member("mgda", 1, {"warmup": 9})]
    Cohort(benchmark, benchmark.load(), members, settings, tell=said.append)
    Cohort(benchmark, benchmark.load(), members[2:], settings, tell=said.append)
    assert said == ["warmup=39 is no shorter than the run of 10 steps: the learning rate rises to 0.25 of its value"]


@pytest.mark.parametrize("spec", PAIRS)
def test_equal_to_torch(spec):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5, momentum=0.9)
    scheduler, settings = PAIRS[spec](optimizer), Settings(lr=0.5, schedule=spec)
    wanted, got = [], []
    for step in range(STEPS):
        wanted.append(optimizer.param_groups[0]["lr"])
        got.append(settings.lr * settings.factor(step, STEPS))
        optimizer.step()
        scheduler.step() if step < STEPS - 1 else None
    assert got == pytest.approx(wanted, rel=1e-9, abs=1e-12)


def test_every_schedule_is_compared_with_torch():
    assert {spec.partition(":")[0] for spec in PAIRS} | {"plateau"} == {*SCHEDULES}


@pytest.mark.parametrize("spec", PAIRS)
@pytest.mark.parametrize("steps", [1, 2, 4, 7])
def test_a_factor_is_between_0_and_1_in_short_runs_and_beyond_their_end(spec, steps):
    factors = [read_schedule(spec).at(step, steps) for step in range(steps + 3)]
    assert all(0 <= factor <= 1 for factor in factors) and len({*factors[steps:]}) == 1


def test_a_falling_share_of_a_run_that_rounds_down_is_whole():
    """0.6 of a run in parts of 0.2 are three parts, although 0.6 / 0.2 < 3."""
    assert read_schedule("step:every=0.2,factor=0.5").at(6, 10) == 0.125


def test_warmup_multiplies_a_schedule():
    settings = Settings(schedule="exponential:final=0.5", warmup=3)
    assert settings.factor(1, 10) == pytest.approx(0.5 * 0.5**0.1)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("cosin", "unknown schedule 'cosin': did you mean cosine"),
        ("CosineAnnealingLR", "unknown schedule 'CosineAnnealingLR': did you mean cosine"),
        ("ReduceLROnPlateau", "unknown schedule 'ReduceLROnPlateau': did you mean plateau"),
        ("onecycle", "did you mean one-cycle"),
        ("step:evry=0.3", "step has no hyperparameter 'evry': did you mean every"),
        ("step:every=2", r"step: every=2.0 must be in \[0.001, 1\]"),
        ("cosine:power=2", "cosine has no hyperparameter 'power'"),
        ("polynomial:power=two", "power='two' cannot be read as float"),
    ],
)
def test_a_bad_spec_is_one_line(spec, message):
    with pytest.raises(ValueError, match=message) as caught:
        Settings(schedule=spec)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("float64")
def test_members_of_one_program_have_schedules_of_their_own():
    specs = ["constant", "step:every=0.25", "one-cycle:div_factor=5", "polynomial:power=2"]
    members = [Member("equal", seed, {"schedule": spec}) for seed, spec in enumerate(specs)]
    benchmark = Three()
    splits, settings = benchmark.load(), Settings.of(benchmark.recipe, {"steps": 20})
    cohort = Cohort(benchmark, splits, members, settings)
    assert len(cohort._groups.all) == 1
    cohort.advance(100)
    for member, result in zip(members, cohort.results(), strict=True):
        assert_is_the_single_run(result, benchmark, splits, member, settings)


UNSTEADY = {"lr": 0.4, "optimizer": "sgd", "momentum": 0.9}  # its selection goes up and down


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize(
    ("spec", "factor", "patience"), [("plateau:factor=0.5,patience=0", 0.5, 0), ("plateau", 0.1, 3)]
)
def test_a_plateau_is_that_of_torch(spec, factor, patience, vectorised):
    settings, splits = Settings(epochs=14, batch_size=64, schedule=spec, **UNSTEADY), Three().load()
    cohort = Cohort(Three(), splits, [Member("equal", 1)], settings, vectorised=vectorised)
    rates = []
    while not cohort.over:
        cohort.advance(5)
        rates.append(0.4 * factor ** cohort.states[0].falls)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.4)
    scheduler = theirs.ReduceLROnPlateau(optimizer, "max", factor, patience, threshold=0)
    wanted = []
    for score in cohort.results()[0].history["validation_selection"]:
        scheduler.step(score)
        wanted.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx(wanted) and rates[-1] < 0.4


@pytest.mark.usefixtures("float64")
def test_plateaus_with_warmup_are_each_that_of_the_single_run():
    settings, splits = Settings(epochs=12, batch_size=64, warmup=7, **UNSTEADY), Three().load()
    specs = ["plateau:factor=0.5,patience=0", "plateau:factor=0.1,patience=1", "constant", "plateau:patience=2"]
    members, told = [Member("equal", seed, {"schedule": spec}) for seed, spec in enumerate(specs)], []
    cohort = Cohort(Three(), splits, members, settings, tell=told.append)
    assert len(cohort._groups.all) == 1
    cohort.advance(1000)
    for member, result in zip(members, cohort.results(), strict=True):
        assert_is_the_single_run(result, Three(), splits, member, settings)
    assert not told and [state.falls > 0 for state in cohort.states] == [True, True, False, True]


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("vectorised", [True, False])
def test_the_falls_are_in_a_checkpoint_and_go_with_a_member(vectorised):
    settings, splits = (
        Settings(epochs=14, batch_size=64, schedule="plateau:factor=0.5,patience=0", **UNSTEADY),
        Three().load(),
    )
    members = [Member("equal", 0), Member("equal", 1)]
    whole, resumed = (Cohort(Three(), splits, members, settings, vectorised=vectorised) for _ in range(2))
    whole.advance(38)
    assert whole.states[0].falls
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    whole.advance(1000)
    resumed.advance(1000)
    assert str([one.history for one in whole.results()]) == str([one.history for one in resumed.results()])
    falls = [state.falls for state in whole.states]
    whole.exploit({1: 0})
    assert [state.falls for state in whole.states] == [falls[0], falls[0]]
