"""Parts of a task's loss that the strategy weighs as losses of their own."""

import dataclasses

import pytest
import torch

from mtl.benchmarks.losses import with_losses
from mtl.losses import make_loss
from mtl.train import Cohort, Member, Settings, train
from mtl.train.batches import Batches
from tests.population.problem import Three, ThreeMissing, assert_is_the_single_run, close
from tests.train.plain_loop import trained

pytestmark = pytest.mark.usefixtures("float64")
SPEC = "mse+0.1*mae"
NAMES = ["sign", "product.mse", "product.mae", "square"]
SETTINGS = Settings(steps=20, batch_size=16, lr=1e-2, evaluate_every=1)


def apart(benchmark=Three, spec=f"apart:{SPEC}"):
    return with_losses(benchmark(), {"product": spec})


def run(benchmark, strategy="equal", settings=SETTINGS, **more):
    return train(benchmark, benchmark.load(), strategy, settings, seed=1, tell=lambda _: None, **more)


@pytest.mark.parametrize("changes", [{}, {"head_weighting": "own"}, {"scale": "raw"}, {"mixup": 0.3}])
@pytest.mark.parametrize("benchmark", [Three, ThreeMissing])
def test_equal_weights_over_the_parts_are_the_sum(benchmark, changes):
    settings = dataclasses.replace(SETTINGS, **changes)
    parts, whole = run(apart(benchmark), settings=settings), run(apart(benchmark, SPEC), settings=settings)
    assert parts.weights is not None and whole.weights is not None
    for name, value in whole.weights.items():
        torch.testing.assert_close(parts.weights[name], value, rtol=1e-6, atol=1e-6)
    close(parts.history["validation_loss"], whole.history["validation_loss"], 1e-6)
    assert parts.metrics.keys() == {"sign", "product", "square"}
    assert list(parts.history["losses"]) == NAMES and list(whole.history["losses"]) == whole.history["tasks"]
    # The parts have the weights of the sum in them, so they add up to the loss of the task.
    for row, wanted in zip(parts.history["train_loss"], whole.history["train_loss"], strict=True):
        assert (row[1] is None) == (row[2] is None) == (wanted[1] is None)
        close([row[0], None if row[1] is None else row[1] + row[2], row[3]], wanted, 1e-6)


def test_uncertainty_is_what_one_would_write_by_hand():
    """Weights exp(-s), with s learned by the step of `uncertainty` on sum exp(-s) L + s / 2, of four losses."""
    benchmark, steps = apart(), SETTINGS.steps
    splits = benchmark.load()
    torch.manual_seed(1)
    model = benchmark.model(benchmark.tasks, splits.train.first(2)).train()
    logs = torch.zeros(4, requires_grad=True)
    optimizer = torch.optim.Adam([{"params": model.parameters()}, {"params": [logs], "lr": 0.01}], lr=1e-2)
    batches = Batches(splits.train, SETTINGS.batch_size, 1)
    for step in range(steps):
        batch = batches[step]
        found, labels = model(batch.inputs), batch.targets
        error = found["product"][:, 0] - labels["product"]
        losses = torch.stack(
            [
                torch.nn.functional.cross_entropy(found["sign"], labels["sign"]),
                error.square().mean(),
                0.1 * error.abs().mean(),
                torch.nn.functional.huber_loss(found["square"][:, 0], labels["square"]),
            ]
        )
        optimizer.zero_grad()
        (0.5 * (-logs).exp() * losses + 0.5 * logs).sum().backward()
        optimizer.step()
    cohort = Cohort(
        benchmark, splits, [Member("uncertainty:lr=0.01,optimizer=adam", 1)], dataclasses.replace(SETTINGS, scale="raw")
    )
    cohort.advance(steps)
    assert cohort.results()[0].cost["steps"] == steps
    for name, value in model.named_parameters():
        torch.testing.assert_close(cohort.weights(0)[name], value.detach(), rtol=1e-5, atol=1e-5)


MEMBERS = [
    Member("mgda", 3),
    Member("gradnorm", 4),
    Member("famo", 5),
    Member("pcgrad", 6, {"head_weighting": "own"}),
    Member("graddrop", 7, {"mixup": 0.3}),
    Member("auto-lambda", 8),
    Member("uncertainty", 9, {}, {"product": {"weight2": 0.7}}),
    Member("uncertainty", 10, {}, {"product": {"weight2": 0.02}}),
    Member("static:weights=1/2/3/4", 11),
]


@pytest.mark.parametrize("benchmark", [Three, ThreeMissing])
def test_members_of_a_population_are_the_runs_alone(benchmark):
    chosen = apart(benchmark)
    splits = chosen.load()
    cohort = Cohort(chosen, splits, MEMBERS, SETTINGS)
    cohort.advance(SETTINGS.steps)
    for member, result in zip(MEMBERS, cohort.results(), strict=True):
        assert len(result.history["weights"][-1]) == 4
        assert_is_the_single_run(result, chosen, splits, member, SETTINGS)


@pytest.mark.parametrize("vectorised", [True, False])
def test_a_saved_run_goes_on_as_if_nothing_had_happened(vectorised):
    benchmark = apart(ThreeMissing)
    splits = benchmark.load()
    first, second, whole = (
        Cohort(benchmark, splits, [Member("gradnorm", 2)], SETTINGS, vectorised=vectorised) for _ in range(3)
    )
    first.advance(9)
    second.load_state_dict(first.state_dict())
    for cohort in (second, whole):
        cohort.advance(1000)
    assert second.results()[0].history == whole.results()[0].history


def test_the_baseline_of_a_task_trains_the_sum():
    benchmark = apart()
    alone = run(benchmark, tasks=[benchmark.tasks[1]])
    assert alone.history["losses"] == {"product.mse": "product", "product.mae": "product"}

    class Alone(Three):
        tasks = (dataclasses.replace(Three.tasks[1], loss=make_loss(SPEC)),)

    by_hand = trained(
        Alone(), Alone().load(), SETTINGS, 1, lambda model: torch.optim.Adam(model.parameters(), SETTINGS.lr)
    )
    for name, value in by_hand.items():
        torch.testing.assert_close(alone.weights[name], value, rtol=1e-6, atol=1e-6)


def test_a_strategy_and_a_task_that_do_not_fit_the_losses_are_refused():
    with pytest.raises(ValueError, match="weights has 3 numbers, one a loss would be 4"):
        run(apart(), "static:weights=1/2/3")

    class Named(Three):
        tasks = (*Three.tasks[:2], dataclasses.replace(Three.tasks[2], name="product.mae"))

        def load(self):
            splits = super().load()
            for split in (splits.train, splits.validation, splits.test):
                split.targets["product.mae"] = split.targets.pop("square")
            return splits

    with pytest.raises(ValueError, match=r"named 'product\.mae', of tasks 'product' and 'product\.mae': rename one"):
        run(apart(Named))


def test_a_member_keeps_the_number_of_its_losses():
    benchmark = apart()
    cohort = Cohort(benchmark, benchmark.load(), [Member("gradnorm", 1), Member("gradnorm", 2)], SETTINGS)
    cohort.advance(3)
    with pytest.raises(ValueError, match=r"member 1 weighs 4 losses \(sign, product.mse, product.mae, square\) and"):
        cohort.replace({1: Member("gradnorm", 2, {}, {"product": {"name": "mse"}})})


@pytest.mark.parametrize("vectorised", [True, False])
def test_a_member_goes_on_with_other_parts(vectorised):
    benchmark = apart()
    splits = benchmark.load()
    cohort = Cohort(benchmark, splits, [Member("gradnorm", 1), Member("famo", 2)], SETTINGS, vectorised=vectorised)
    cohort.advance(5)
    cohort.replace({0: Member("gradnorm", 1, {}, {"product": {"name": "apart:mse+huber"}})})
    cohort.exploit({1: 0})
    cohort.advance(1000)
    for result in cohort.results():
        assert result.status == "done" and list(result.history["losses"]) == [
            "sign",
            "product.mse",
            "product.huber",
            "square",
        ]
