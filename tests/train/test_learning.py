"""Losses that are learned while a run trains: alone and side by side, resumed, with missing labels, and refused."""

import io
import itertools
import json

import pytest
import torch

from mtl.benchmarks import load_checked
from mtl.losses import make_loss
from mtl.train import Cohort, Member, Settings, train
from mtl.train.loop import Stopped, train_to_the_end
from tests.benchmarks.domains import Domains
from tests.population.problem import Normed, Three, ThreeMissing, assert_is_the_single_run, close

pytestmark = pytest.mark.usefixtures("float64")

SETTINGS = Settings.of(Three.recipe, {"steps": 12, "evaluate_every": 1})
SIGN, PRODUCT = {"name": "learned:hidden=4"}, {"name": "learned:of=mse,hidden=4,on=validation"}
BOTH = {"sign": SIGN, "product": PRODUCT}


def cohort(members, benchmark=None, settings=SETTINGS, **options):
    benchmark = benchmark or Three()
    return Cohort(benchmark, benchmark.load(), members, settings, **options)


def in_single_steps(monkeypatch):
    """What precedes the first step is done in pieces of one step, and not of some seconds."""
    begin = Cohort.begin
    monkeypatch.setattr(Cohort, "begin", lambda self: begin(self, seconds=0.0))


def finished(members, *arguments, **options):
    made = cohort(members, *arguments, **options)
    made.advance(made.length)
    return made


@pytest.mark.parametrize("benchmark", [Three, ThreeMissing, Normed])
def test_a_population_learns_the_losses_that_single_runs_learn(benchmark):
    members = [
        Member("equal", 0, losses=BOTH),
        Member("equal", 1, {"lr": 3e-2}, {"sign": {**SIGN, "rate": 1e-2}, "product": PRODUCT}),
        Member("mgda", 2, losses={"sign": SIGN}),
    ]
    settings = Settings.of(benchmark.recipe, {"steps": 12, "batch_size": 4, "evaluate_every": 1, "mixup": 0.2})
    said = []
    made = finished(members, benchmark(), settings, tell=said.append)
    assert not said
    for member, result in zip(members, made.results(), strict=True):
        assert_is_the_single_run(result, benchmark(), benchmark().load(), member, settings)
        tasks = member.tasks(benchmark.tasks)
        alone = train(
            benchmark(), benchmark().load(), member.strategy, member.resolved(settings), seed=member.seed, tasks=tasks
        )
        assert result.learned.keys() == alone.learned.keys() == member.losses.keys()
        for task, about in alone.learned.items():
            close(result.learned[task]["weights"], about["weights"], 1e-7)
            start = make_loss(member.losses[task]["name"]).weights.tolist()
            assert max(abs(one - other) for one, other in zip(about["weights"], start, strict=True)) > 1e-4
        assert not [name for name in alone.weights if "learned" in name]


def test_the_first_step_is_that_of_the_fixed_loss_and_the_next_is_not():
    def losses(steps, rate):
        settings = Settings.of(Three.recipe, {"steps": steps})
        found = finished([Member("equal", 0, losses={"sign": {**SIGN, "rate": rate}})], settings=settings)
        return found.results()[0].history["train_loss"]

    fixed, learned = losses(3, 0.0), losses(3, 0.1)
    assert learned[0] == fixed[0]
    assert abs(learned[1][0] - fixed[1][0]) > 1e-4


def test_validation_data_are_measured_by_the_loss_that_it_is_of():
    # The model stays as it is, so that both measure the same predictions.
    settings = Settings.of(Three.recipe, {"steps": 1, "lr": 0.0})
    members = [Member("equal", 0, losses={"sign": SIGN}), Member("equal", 0)]
    learned, plain = (found.history for found in finished(members, settings=settings).results())
    close(learned["validation_loss"], plain["validation_loss"], 1e-12)
    assert abs(learned["train_loss"][0][0] - plain["train_loss"][0][0]) > 1e-6


def test_tasks_with_examples_of_their_own_learn_on_these():
    benchmark, splits = Domains(), load_checked(Domains())
    members = [Member("equal", seed, losses={"web": PRODUCT, "lens": SIGN}) for seed in (0, 1)]
    settings = Settings.of(benchmark.recipe, {"steps": 6})
    made = Cohort(benchmark, splits, members, settings)
    made.advance(6)
    for member, result in zip(members, made.results(), strict=True):
        tasks = member.tasks(benchmark.tasks)
        alone = train(benchmark, splits, "equal", settings, seed=member.seed, tasks=tasks)
        for task, about in alone.learned.items():
            close(result.learned[task]["weights"], about["weights"], 1e-5)


@pytest.mark.parametrize("vectorised", [True, False])
def test_it_goes_on_bit_for_bit_from_what_was_saved(vectorised):
    members = [Member("gradnorm", seed, losses=BOTH) for seed in (0, 1)]
    settings = Settings.of(Three.recipe, {"steps": 12, "dropout": 0.2, "ema": 0.9})
    whole, begun, again = (cohort(members, settings=settings, vectorised=vectorised) for _ in range(3))
    whole.advance(12)
    begun.advance(5)
    file = io.BytesIO()
    torch.save(begun.state_dict(), file)
    file.seek(0)
    again.load_state_dict(torch.load(file, weights_only=True))
    again.advance(7)
    for one, other in zip(whole.results(), again.results(), strict=True):
        assert one.learned == other.learned and one.metrics == other.metrics and one.cost["forwards"] > 12
        assert one.cost["forwards"] == other.cost["forwards"] and one.cost["backwards"] == other.cost["backwards"]


@pytest.mark.parametrize("vectorised", [True, False])
def test_a_member_takes_over_what_another_has_learned_and_may_change_its_loss(vectorised):
    members = [Member("equal", seed, losses={"sign": SIGN}) for seed in (0, 1, 2)]
    made = cohort(members, told=True, vectorised=vectorised)
    made.advance(4)
    made.exploit({0: 1})
    copied, source = (_weights(made, number) for number in (0, 1))
    torch.testing.assert_close(copied, source, rtol=0, atol=0)
    made.replace({0: Member("equal", 0, losses={"sign": {"name": "focal"}})})
    made.replace({1: Member("equal", 1, losses={"sign": {"name": "learned:hidden=4,of=focal"}})})
    torch.testing.assert_close(_weights(made, 1), source, rtol=0, atol=0)
    made.replace({2: Member("equal", 2, losses=BOTH)})
    made.advance(4)
    made.replace({0: Member("equal", 0, losses={"sign": SIGN})})
    start = make_loss(SIGN["name"]).weights
    torch.testing.assert_close(_weights(made, 0), start)
    made.advance(4)
    assert all(each.finite for each in made.evaluate())


BEFORE = {
    "sign": {"name": "learned:hidden=4,start=random,offline_steps=3,offline_rate=0.02"},
    "product": {"name": "learned:of=mse,hidden=4,on=validation,offline_steps=2,inner_steps=2"},
}


@pytest.mark.parametrize("benchmark", [Three, ThreeMissing, Normed])
def test_a_population_learns_before_training_what_single_runs_learn(benchmark):
    members = [
        Member("equal", 0, losses=BEFORE),
        Member("mgda", 1, {"lr": 3e-2}, BEFORE),
        Member("equal", 2, losses={"sign": {**BEFORE["sign"], "rate": 0}}),
    ]
    settings = Settings.of(benchmark.recipe, {"steps": 6, "batch_size": 4, "evaluate_every": 1, "mixup": 0.2})
    made = finished(members, benchmark(), settings)
    alone = finished(members, benchmark(), settings, vectorised=False)
    for member, result, other in zip(members, made.results(), alone.results(), strict=True):
        assert_is_the_single_run(result, benchmark(), benchmark().load(), member, settings)
        assert (result.cost["forwards"], result.cost["backwards"]) == (other.cost["forwards"], other.cost["backwards"])
        for task, about in other.learned.items():
            close(result.learned[task]["weights"], about["weights"], 1e-7)


def test_tasks_with_examples_of_their_own_learn_on_these_before_training():
    benchmark = Domains()
    losses = {"web": {**BEFORE["product"], "rate": 0}, "lens": {**BEFORE["sign"], "rate": 0}}
    settings = Settings.of(benchmark.recipe, {"steps": 2})
    made = Cohort(benchmark, load_checked(benchmark), [Member("equal", 1, losses=losses)], settings)
    made.advance(2)
    (result,) = made.results()
    for task, about in result.learned.items():
        assert (torch.tensor(about["weights"]) - make_loss(losses[task]["name"]).weights).abs().max() > 1e-3


def test_training_goes_on_as_from_a_file_of_what_was_learned_before(tmp_path):
    spec = "learned:hidden=4,offline_steps=3,inner_steps=2"
    settings = Settings.of(Three.recipe, {"steps": 12, "dropout": 0.2, "ema": 0.9, "evaluate_every": 1})
    still, begun = finished(
        [Member("equal", 1, losses={"sign": {"name": f"{spec},rate={rate}"}}) for rate in (0, 0.01)],
        settings=settings,
        vectorised=False,
    ).results()
    path = tmp_path / "found.json"
    path.write_text(json.dumps(still.learned["sign"]))
    named = {"sign": {"name": f"learned:hidden=4,rate=0.01,start={path}"}}
    (other,) = finished([Member("equal", 1, losses=named)], settings=settings, vectorised=False).results()
    assert begun.history == other.history and begun.learned["sign"]["weights"] == other.learned["sign"]["weights"]
    assert begun.learned["sign"]["weights"] != still.learned["sign"]["weights"]
    # Each of the three steps reads the model three times, and goes back through it five times.
    assert begun.cost["forwards"] == other.cost["forwards"] + 9
    assert begun.cost["backwards"] == other.cost["backwards"] + 15
    assert (still.cost["forwards"], still.cost["backwards"]) == (12 + 9, 12 + 15)


@pytest.mark.parametrize("vectorised", [True, False])
def test_what_was_learned_before_training_is_learned_once(vectorised):
    members = [Member("gradnorm", seed, losses=BEFORE) for seed in (0, 1)]
    whole, begun, again = (cohort(members, vectorised=vectorised) for _ in range(3))
    whole.advance(12)
    begun.advance(5)
    again.load_state_dict(begun.state_dict())
    again.exploit({1: 1})
    again.advance(7)
    for one, other in zip(whole.results(), again.results(), strict=True):
        assert one.learned == other.learned and one.metrics == other.metrics
        assert one.cost["forwards"] == other.cost["forwards"] and one.cost["backwards"] == other.cost["backwards"]


@pytest.mark.parametrize("vectorised", [True, False])
def test_what_precedes_training_can_be_stopped_and_goes_on_where_it_was(vectorised, monkeypatch):
    members = [Member("equal", seed, losses=BEFORE) for seed in (0, 1)]
    whole, begun, again = (cohort(members, vectorised=vectorised) for _ in range(3))
    whole.advance(12)
    in_single_steps(monkeypatch)
    asked, saved = itertools.count(), []
    with pytest.raises(Stopped):
        train_to_the_end(
            begun, lambda: saved.append(begun.state_dict()), should_stop=lambda: next(asked) == 2 + vectorised
        )
    assert begun.step == 0 and len(saved) == 1
    between = _weights(begun, 0)
    again.load_state_dict(saved[0])
    assert not torch.equal(between, make_loss(BEFORE["sign"]["name"]).weights)
    assert again.states[0].seconds > 0
    train_to_the_end(again)
    for one, other in zip(whole.results(), again.results(), strict=True):
        assert one.learned == other.learned and one.metrics == other.metrics
        assert one.cost["forwards"] == other.cost["forwards"] and one.cost["backwards"] == other.cost["backwards"]


@pytest.mark.parametrize("vectorised", [True, False])
def test_a_loss_that_another_follows_is_learned_before_it_is_trained_on(vectorised):
    made = cohort([Member("equal", seed) for seed in (0, 1)], told=True, vectorised=vectorised)
    made.advance(4)
    sign = {"name": "learned:hidden=4,rate=0,offline_steps=3"}
    made.replace({0: Member("equal", 0, losses={"sign": sign})})
    made.advance(1)
    found = _weights(made, 0)
    assert (found - make_loss(sign["name"]).weights).abs().max() > 1e-4
    made.replace({0: Member("equal", 0, losses={"sign": {"name": "learned:hidden=4,rate=0,offline_steps=5"}})})
    made.advance(1)
    assert torch.equal(_weights(made, 0), found)  # it was learned once
    made.replace({0: Member("equal", 0, losses={"sign": {"name": "learned:hidden=5,rate=0,offline_steps=3"}})})
    made.advance(1)
    start = make_loss("learned:hidden=5").weights
    assert _weights(made, 0).shape == start.shape and (_weights(made, 0) - start).abs().max() > 1e-4


def test_a_loss_that_learns_before_training_alone_goes_with_strategies_that_compare_losses_over_time():
    settings = Settings.of(Three.recipe, {"steps": 3})
    members = [Member(strategy, losses={"sign": {**BEFORE["sign"], "rate": 0}}) for strategy in ("famo", "auto-lambda")]
    assert [each.status for each in finished(members, settings=settings).results()] == ["done", "done"]


def _weights(made, number):
    """The network of the loss of `sign` as it is in a member's state now."""
    state = made.extract(number)["group"]["stepper"]
    named = state["fixed"] if "fixed" in state else state["model"]
    (found,) = (value for name, value in named.items() if name.endswith("0.weights") and "learned" in name)
    return found.reshape(-1)


@pytest.mark.parametrize(
    ("strategy", "said"),
    [
        (
            "famo",
            "task 'sign': its loss learned:hidden=4 is learned while the model trains, and famo reads losses again",
        ),
        ("auto-lambda", "auto-lambda reads losses of another split, when it is another loss: take another strategy"),
        ("uncertainty+famo", "reads losses again after the step"),
    ],
)
def test_strategies_that_compare_losses_over_time_are_refused(strategy, said):
    with pytest.raises(ValueError, match=said) as refused:
        cohort([Member(strategy, losses={"sign": SIGN})])
    assert "\n" not in str(refused.value)
    cohort([Member(strategy, losses={"sign": {**SIGN, "rate": 0}})])


@pytest.mark.parametrize(
    "changes",
    [{"accumulate": 2}, {"amp": "bf16"}, {"optimizer": "sgd"}, {"clip": 1.0, "schedule": "cosine", "warmup": 2}],
)
def test_it_goes_with_other_settings(changes):
    settings = Settings.of(Three.recipe, {"steps": 8, **changes})
    (result,) = finished([Member("mgda", losses=BOTH)], settings=settings).results()
    assert result.status == "done" and result.learned.keys() == {"sign", "product"}


@pytest.mark.parametrize("benchmark", [Three, Domains])
@pytest.mark.parametrize("architecture", ["mmoe:experts=2", "cgc", "dselect-k:experts=2", "learning-to-branch"])
def test_a_loss_is_learned_with_every_architecture_alone_as_in_a_population(architecture, benchmark):
    settings = Settings.of(benchmark.recipe, {"steps": 6, "batch_size": 7, "architecture": architecture})
    task = {Three: "product", Domains: "web"}[benchmark]
    member = Member("equal", 1, losses={task: {"name": "learned:of=mse,hidden=4,rate=0.05"}})
    (result,) = finished([member], benchmark(), settings).results()
    assert_is_the_single_run(result, benchmark(), benchmark().load(), member, settings, 1e-7)


def test_whoever_trains_is_told_how_far_losses_are_that_learn_before(monkeypatch):
    in_single_steps(monkeypatch)
    spec = "learned:hidden=4,offline_steps=3"
    made = cohort([Member("equal", seed, losses={"sign": {"name": spec}}) for seed in (0, 1)])
    learned, trained = [], []
    train_to_the_end(made, progress=lambda *at: trained.append(at), learning=lambda *at: learned.append(at))
    assert learned == [(made, 6) for made in range(1, 7)] and made.learning is None
    assert trained == [(step, 12) for step in range(1, 13)]


def test_steps_that_are_tried_leave_out_what_precedes_them():
    made = cohort([Member("equal", 0, losses={"sign": {"name": "learned:hidden=4,offline_steps=3"}})])
    made.try_steps(2)
    assert (made.step, made.waiting) == (2, 3)
