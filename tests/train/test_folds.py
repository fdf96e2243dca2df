"""Results without each fold of the test split, by which a comparison knows what other examples could change."""

import dataclasses
import math

import pytest
import torch

from mtl.benchmarks import Splits, load_checked
from mtl.benchmarks.losses import fitted_tasks
from mtl.strategies import make
from mtl.train import Cohort, Member, Settings, tally
from mtl.train.evaluate import evaluate
from mtl.train.model import build_model
from tests.benchmarks.domains import Domains
from tests.tiny import Tiny


def results_of(benchmark, splits=None, seeds=(0, 1), *, vectorised=True, folds=20):
    splits = splits or load_checked(benchmark)
    settings = Settings.of(benchmark.recipe, {"steps": 6, "evaluate_every": 3})
    members = [Member(make("equal"), seed) for seed in seeds]
    cohort = Cohort(benchmark, splits, members, settings, vectorised=vectorised)
    cohort.advance(settings.steps)
    models = []
    for number in range(len(seeds)):
        tasks = fitted_tasks(benchmark.tasks, splits.train)
        model = build_model(benchmark, tasks, splits.train.first(2), settings)
        model.load_state_dict(cohort.weights(number))
        models.append(model)
    return cohort.results(folds), models, splits


def near(found, expected):
    assert found.keys() == expected.keys()
    for task, metrics in expected.items():
        assert found[task] == pytest.approx(metrics, rel=1e-5, abs=1e-6, nan_ok=True)


@pytest.mark.parametrize("vectorised", [True, False])
@pytest.mark.parametrize("held", [2**28, 10])
def test_metrics_without_a_fold_are_those_on_the_other_examples(monkeypatch, vectorised, held):
    monkeypatch.setattr(tally, "_HELD", held)  # predictions that are kept, and predictions that are summed up
    benchmark = Tiny()
    results, models, splits = results_of(benchmark, vectorised=vectorised)
    fold = tally.division(len(splits.test), 20)
    assert fold.bincount().tolist() == [4] * 4 + [3] * 16
    for result, model in zip(results, models, strict=True):
        near(evaluate(model, benchmark.tasks, splits.test)[1], result.metrics)
        assert len(result.without) == 20
        for number, found in enumerate(result.without):
            rest = splits.test.take((fold != number).nonzero().flatten())
            near(found, evaluate(model, benchmark.tasks, rest)[1])
    assert results[0].by_fold["product"]["mae"][3] == pytest.approx(results[0].without[3]["product"]["mae"])


def test_tasks_with_examples_of_their_own_leave_out_folds_of_these():
    benchmark = Domains()
    splits = load_checked(benchmark)
    large = dataclasses.replace(
        splits.test, parts={task: part.take(torch.arange(60) % len(part)) for task, part in splits.test.parts.items()}
    )
    results, models, splits = results_of(benchmark, Splits(splits.train, splits.validation, large))
    fold = tally.division(60, 20)
    rest = dataclasses.replace(
        large, parts={task: part.take((fold != 5).nonzero().flatten()) for task, part in large.parts.items()}
    )
    near(results[1].without[5], evaluate(models[1], benchmark.tasks, rest)[1])


def test_few_examples_have_no_folds_and_a_metric_may_be_undefined_without_one():
    benchmark = Tiny()
    splits = benchmark.load()
    few, *_ = results_of(benchmark, Splits(splits.train, splits.validation, splits.test.take(slice(39))))
    assert [result.without for result in few] == [[], []] and few[0].by_fold == {}
    assert all(result.status == "done" for result in few)
    unasked, *_ = results_of(benchmark, folds=0)
    assert unasked[0].without == [] and unasked[0].metrics["sign"]
    product = splits.test.targets["product"].clone()
    product[tally.division(64, 20) != 2] = math.nan  # its labels are all in one fold
    lone = dataclasses.replace(splits.test, targets={**splits.test.targets, "product": product})
    results, *_ = results_of(benchmark, Splits(splits.train, splits.validation, lone))
    assert results[0].status == "done" and math.isnan(results[0].without[2]["product"]["mae"])
    assert math.isfinite(results[0].without[3]["product"]["mae"])
