"""Metrics that are undefined, and runs that are not finite at their end: what is selected, tested and called done."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from mtl.benchmarks import load_checked
from mtl.losses import MSE, BinaryCrossEntropy
from mtl.losses.labels import known
from mtl.metrics import Metric, accuracy, auc, log_loss, mae, r2
from mtl.search.shards.sharded import ShardedCohort
from mtl.stats.pareto import pareto_front
from mtl.train import Cohort, Member, Settings, tally, train
from mtl.train.evaluate import selection
from mtl.train.references import references
from tests.losses.test_losses import incomplete_labels
from tests.ray.here import Here
from tests.train.test_checks import One

nan = math.nan
LENGTH = 60


def both(benchmark, **settings):
    """The run of the trainer, the same in a population, and the same by itself within one."""
    settings = Settings.of({"steps": LENGTH, "lr": 1e-2, "batch_size": 8}, settings)
    splits = load_checked(benchmark)
    found = [train(benchmark, splits, "equal", settings)]
    for vectorised in (True, False):
        cohort = Cohort(benchmark, splits, [Member("equal"), Member("equal", 1)], settings, vectorised=vectorised)
        cohort.advance(LENGTH)
        found.append(cohort.results()[0])
    return found


def learnable(loss=None, metrics=(mae,), **others):
    """Labels that can be learnt, from a threshold on the inputs where they are of two classes."""
    x = torch.randn(40, 5, generator=torch.Generator().manual_seed(0))
    labels = x[:, 0] if loss is None else (x[:, 0] > 0).float()
    return One(labels, loss or MSE(), metrics, **others)


def _pearson(guess, truth):
    """Pearson's r, undefined for a constant prediction."""
    guess, truth = guess.ravel(), truth.ravel()
    return nan if guess.std() < 1e-12 else pearsonr(guess, truth).statistic


pearson = Metric("pearson", _pearson, True, 1.0)


def test_auc_of_a_validation_split_with_one_class_leaves_selection_to_the_next_metric():
    one_class = {"validation": torch.zeros(40)}
    for result in both(learnable(BinaryCrossEntropy(), (auc, log_loss), **one_class)):
        assert result.status == "done" and result.best_step > 0
        assert result.metrics["rare"]["auc"] > 0.5 and math.isnan(result.validation["rare"]["auc"])


def test_auc_of_a_test_split_with_one_class_is_no_divergence():
    for result in both(learnable(BinaryCrossEntropy(), (auc, accuracy), test=torch.zeros(40))):
        assert result.status == "done" and not result.reason
        assert math.isnan(result.metrics["rare"]["auc"]) and result.validation["rare"]["auc"] > 0.95


def test_r2_of_a_constant_target_leaves_selection_to_the_error():
    for result in both(learnable(metrics=(r2, mae), validation=torch.ones(40))):
        assert result.status == "done" and result.best_step > 0


def test_a_reference_without_a_value_leaves_the_metric_as_a_share_of_perfection():
    benchmark = learnable(metrics=(pearson, mae))
    splits = load_checked(benchmark)
    reference, remarks = references(benchmark.tasks, splits.train, splits.validation)
    assert reference["rare"]["pearson"] == 0
    assert remarks == [
        "task 'rare', validation split: metric 'pearson' has no value for a constant prediction, so skill is its share "
        "of 1; runs are selected by 'pearson'"
    ]
    assert selection(benchmark.tasks, {"rare": {"pearson": 0.8, "mae": 1.0}}, reference) == pytest.approx(0.8)
    for result in both(benchmark):
        assert result.status == "done" and result.best_step > 0
        assert result.selection == pytest.approx(result.validation["rare"]["pearson"]) and result.selection > 0.7


def test_a_run_that_no_evaluation_could_judge_has_no_result():
    # Nothing is learnt, and all predictions are equal: the network stays constant, and is finite.
    benchmark = learnable(metrics=(pearson, mae))
    original = benchmark.model

    def model(tasks, inputs):
        made = original(tasks, inputs)
        for parameter in made.heads.parameters():
            torch.nn.init.zeros_(parameter)
        return made

    benchmark.model = model
    for result in both(benchmark, lr=0.0):
        assert result.status == "failed" and result.metrics == result.validation == {}
        assert result.reason == "no evaluation on validation data gave a finite value of rare/pearson"


def test_what_is_not_finite_at_its_end_is_no_result():
    def broken(prediction, target):  # NaN from the first step on, but only where it is trained on
        loss = (prediction - target).square().mean()
        return loss * nan if torch.is_grad_enabled() else loss

    for result in both(learnable(broken)):
        assert result.status == "diverged", result
        assert "not finite" in result.reason


class Picky(MSE):
    """A loss that cannot be trained on."""

    def __init__(self, kind):
        object.__setattr__(self, "kind", kind)

    def __call__(self, prediction, target):
        if torch.is_grad_enabled():
            raise self.kind("not\nthis one")
        return super().__call__(prediction, target)


def raising_when_large(limit):
    def function(guess, truth):
        if np.abs(guess).max() > limit:
            raise ValueError("Input contains a value\ntoo large")
        return float(np.abs(guess - truth).mean())

    return Metric("picky", function, False, 0.0)


def test_a_metric_that_raises_breaks_its_own_run_alone():
    benchmark = learnable(metrics=(raising_when_large(1e3),))
    splits, settings = load_checked(benchmark), Settings.of({"steps": LENGTH, "lr": 1e-3, "batch_size": 8})
    wild = {"lr": 1e4, "optimizer": "sgd", "momentum": 0.0, "clip": 1.0}
    reason = "metric 'picky' of task 'rare' raises ValueError: Input contains a value too large"
    result = train(benchmark, splits, "equal", Settings.of({"steps": LENGTH, "batch_size": 8}, wild))
    assert (result.status, result.reason) == ("failed", reason) and result.cost["steps"] < LENGTH
    for vectorised in (True, False):
        members = [Member("equal", 0, {**wild, "lr": 1e-3}), Member("equal", 0, wild)]
        cohort = Cohort(benchmark, splits, members, settings, told=True, vectorised=vectorised)
        cohort.advance(10)
        fine, broken = cohort.evaluate()
        cohort.remember([0])
        assert fine.finite and not fine.failure
        assert not broken.finite and broken.selection == -math.inf and broken.failure == reason
        assert cohort.finished() == [False, True]
        assert [result.status for result in cohort.results()] == ["done", "failed"]
        cohort.exploit({1: 0})
        assert cohort.finished() == [False, False]
        cohort.advance(LENGTH - 10)


@pytest.mark.parametrize("held", [2**28, 0])
def test_a_loss_that_raises_on_data_that_is_measured_breaks_its_own_run_alone(held, monkeypatch):
    monkeypatch.setattr(tally, "_HELD", held)  # predictions that are kept, and predictions that are summed up

    def picky(prediction, target):
        if len(prediction) > 8 and bool(prediction.abs().max() > 1e3):  # of more than a batch of training
            raise ValueError("not\nso large")
        return (prediction - target).square().mean()

    benchmark, wild = learnable(), {"lr": 1e4, "optimizer": "sgd", "momentum": 0.0, "clip": 1.0}
    benchmark.tasks = (dataclasses.replace(benchmark.tasks[0], loss=picky),)
    splits, reason = load_checked(benchmark), "the loss of task 'rare' raises ValueError: not so large"
    result = train(benchmark, splits, "equal", Settings.of({"steps": LENGTH, "batch_size": 8}, wild))
    assert (result.status, result.reason) == ("failed", reason)
    members = [Member("equal", 0, {**wild, "lr": 1e-3}), Member("equal", 0, wild)]
    settings = Settings.of({"steps": LENGTH, "batch_size": 8})
    cohort = Cohort(benchmark, splits, members, settings, told=True, tell=lambda _: None)
    cohort.advance(10)
    fine, broken = cohort.evaluate()
    assert fine.finite and not fine.failure and not broken.finite and broken.failure == reason
    cohort.remember([0])
    assert [found.status for found in cohort.results()] == ["done", "failed"]


@pytest.mark.parametrize("whole_numbers", [False, True])
def test_labels_missing_one_by_one_train_alike_alone_and_in_a_population(whole_numbers):
    _, labels = incomplete_labels(whole_numbers)
    alone, together, by_itself = both(One(labels, BinaryCrossEntropy(), (accuracy,), 12))
    there = known(labels)
    assert int(there.sum()) > 1600
    for other in (together, by_itself):
        assert other.metrics["rare"]["accuracy"] == pytest.approx(alone.metrics["rare"]["accuracy"], abs=2e-3)
        losses, same = (torch.tensor(result.history["validation_loss"]) for result in (other, alone))
        torch.testing.assert_close(losses, same, atol=1e-4, rtol=0)
    assert 0.5 < alone.metrics["rare"]["accuracy"] < 0.8 and not alone.skipped


@pytest.mark.parametrize("kind", [RuntimeError, ValueError])
def test_a_member_whose_training_step_raises_fails_and_the_others_go_on(kind):
    benchmark = One(torch.arange(40.0))
    members = [Member("equal", losses={}), Member("equal", losses={"rare": {"name": "mae"}})]
    benchmark.tasks = (dataclasses.replace(benchmark.tasks[0], loss=Picky(kind)),)
    cohort = Cohort(benchmark, load_checked(benchmark), members, Settings(), told=True)
    cohort.advance(3)
    broken, fine = cohort.evaluate()
    assert not broken.finite and broken.failure == f"a training step raises {kind.__name__}: not this one"
    assert fine.finite and [state.step for state in cohort.states] == [0, 3]
    cohort.remember([1])
    assert [(r.status, r.reason) for r in cohort.results()] == [("failed", broken.failure), ("done", "")]
    with pytest.raises(kind):
        Cohort(benchmark, load_checked(benchmark), members, Settings()).advance(1)


def test_labels_missing_from_the_last_batch_do_not_make_a_member_broken():
    labels = torch.full((40,), nan)
    labels[::10] = torch.arange(4.0)
    benchmark = One(labels, MSE(), (mae,))
    for vectorised in (True, False):
        cohort = Cohort(
            benchmark, load_checked(benchmark), [Member("equal", seed) for seed in range(8)],
            Settings.of({"steps": 9, "batch_size": 2}), vectorised=vectorised,
        )  # fmt: skip
        cohort.advance(9)
        assert all(evaluation.finite for evaluation in cohort.evaluate())
        assert {result.status for result in cohort.results()} == {"done"}


def test_points_that_are_not_finite_are_on_no_front():
    assert pareto_front([(1.0, nan), (0.0, 0.0), (-math.inf, 2.0)]) == [1]


def test_a_metric_that_raises_breaks_its_own_run_alone_in_shards_too():
    benchmark = learnable(metrics=(raising_when_large(1e3),))
    hosts = Here(2, benchmark=lambda: benchmark, steps=20)
    wild = {"lr": 1e4, "optimizer": "sgd", "momentum": 0.0, "clip": 1.0}
    cohort = ShardedCohort(hosts, [Member("equal"), Member("equal", 0, wild)], lambda _text: None)
    cohort.advance(5)
    fine, broken = cohort.evaluate()
    assert fine.finite and not broken.finite and broken.failure.startswith("metric 'picky' of task 'rare' raises")
    cohort.remember([0])
    assert [result.status for result in cohort.results()] == ["done", "failed"]
    cohort.exploit({1: 0})
    cohort.replace({1: Member("equal", 0)})
    assert all(evaluation.finite for evaluation in cohort.evaluate())
