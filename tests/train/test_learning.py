"""Losses that are learned while a run trains: alone and side by side, resumed, with missing labels, and refused."""

import io

import pytest
import torch

from mtl.benchmarks import load_checked
from mtl.losses import make_loss
from mtl.strategies import make
from mtl.train import Cohort, Member, Settings, train
from mtl.train.learning import check_learning
from tests.benchmarks.domains import Domains
from tests.population.problem import Normed, Three, ThreeMissing, assert_is_the_single_run, close

pytestmark = pytest.mark.usefixtures("float64")

SETTINGS = Settings.of(Three.recipe, {"steps": 12, "evaluate_every": 1})
SIGN, PRODUCT = {"name": "learned:hidden=4"}, {"name": "learned:of=mse,hidden=4,on=validation"}
BOTH = {"sign": SIGN, "product": PRODUCT}


def cohort(members, benchmark=None, settings=SETTINGS, **options):
    benchmark = benchmark or Three()
    return Cohort(benchmark, benchmark.load(), members, settings, **options)


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


def test_several_processes_are_refused():
    tasks = Member("equal", losses={"sign": SIGN}).tasks(Three.tasks)
    with pytest.raises(ValueError, match=r"task 'sign': .* which it cannot by several processes: train it by one"):
        check_learning(tasks, make("equal"), processes=True)
    check_learning(Three.tasks, make("famo"), processes=True)


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
