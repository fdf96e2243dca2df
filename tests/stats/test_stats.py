from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from mtl.stats import (
    comparable_metrics,
    delta_m_over_metrics,
    delta_m_over_tasks,
    holm,
    interval_against,
    mean_interval,
    mean_ranks,
    paired,
    paired_over_examples,
    ranks,
)

DIRECTIONS = {"seg": {"miou": True, "accuracy": True}, "depth": {"error": False}}
BASELINE = {"seg": {"miou": 40.0, "accuracy": 50.0}, "depth": {"error": 0.5}}


def test_interval_is_scipys_t_interval() -> None:
    values = [0.91, 0.93, 0.90, 0.95]
    found = mean_interval(values)
    low, high = stats.t.interval(0.95, 3, loc=np.mean(values), scale=stats.sem(values))
    assert (found.mean, found.low, found.high, found.n) == pytest.approx((np.mean(values), low, high, 4))
    assert found.half_width == pytest.approx((high - low) / 2)


def test_interval_against_a_baseline_counts_both_spreads() -> None:
    rng = np.random.default_rng(0)
    ours, base = rng.normal(1, 0.3, 5), rng.normal(0, 0.5, 4)
    moved = [float(np.mean(ours - np.delete(base, left).mean())) for left in range(len(base))]
    interval = interval_against((ours - base.mean()).tolist(), moved)
    welch = stats.ttest_ind(ours, base, equal_var=False).confidence_interval(0.95)
    assert (interval.low, interval.high) == pytest.approx((welch.low, welch.high))
    sure = interval_against((ours - 1.0).tolist(), [float(np.mean(ours)) - 1.0] * 4)
    assert (sure.low, sure.high) == pytest.approx(((own := mean_interval((ours - 1.0).tolist())).low, own.high))
    assert interval_against([1.0], [1.0, 2.0]).high is None
    assert interval_against([None, None], []).mean is None


def test_interval_needs_two_values() -> None:
    assert mean_interval([0.5]).low is None
    assert mean_interval([0.5]).mean == 0.5
    assert mean_interval([]).mean is None
    assert mean_interval([0.5, None, math.nan, 0.7]).n == 2


def test_delta_m_by_hand_in_both_conventions() -> None:
    run = {"seg": {"miou": 44.0, "accuracy": 49.0}, "depth": {"error": 0.6}}
    # Gains of +10 %, -2 % and -20 %.
    assert delta_m_over_metrics(run, BASELINE, DIRECTIONS) == pytest.approx(-(10 - 2 - 20) / 3)
    assert delta_m_over_tasks(run, BASELINE, DIRECTIONS) == pytest.approx(((10 - 2) / 2 - 20) / 2)


def test_delta_m_of_the_baseline_is_zero() -> None:
    assert delta_m_over_metrics(BASELINE, BASELINE, DIRECTIONS) == 0
    assert delta_m_over_tasks(BASELINE, BASELINE, DIRECTIONS) == 0


@pytest.mark.parametrize("base", [0.0, math.nan, math.inf, None])
def test_metric_without_usable_baseline_is_left_out_and_named(base: float | None) -> None:
    baseline = {**BASELINE, "depth": {"error": base}}
    assert comparable_metrics(baseline, DIRECTIONS)[1] == [("depth", "error")]
    run = {"seg": {"miou": 44.0, "accuracy": 50.0}, "depth": {"error": 9.0}}
    assert delta_m_over_tasks(run, baseline, DIRECTIONS) == pytest.approx(5)


def test_improvement_on_a_negative_baseline_counts_as_improvement() -> None:
    directions = {"task": {"r2": True}}
    assert delta_m_over_tasks({"task": {"r2": -0.1}}, {"task": {"r2": -0.2}}, directions) == pytest.approx(50)


def test_delta_m_of_a_run_without_a_number_is_none() -> None:
    run = {"seg": {"miou": math.nan, "accuracy": 50.0}, "depth": {"error": 0.5}}
    assert delta_m_over_tasks(run, BASELINE, DIRECTIONS) is None
    assert delta_m_over_metrics(run, BASELINE, DIRECTIONS) is None
    assert delta_m_over_tasks(run, {}, DIRECTIONS) is None


def test_ranks_share_ties_and_put_the_diverged_last() -> None:
    assert ranks({"a": 0.9, "b": 0.9, "c": 0.5, "d": None}, True) == {"a": 1.5, "b": 1.5, "c": 3, "d": 4}
    assert ranks({"a": 0.9, "b": 0.5, "c": None, "d": math.nan}, False) == {"a": 2, "b": 1, "c": 3.5, "d": 3.5}


def test_mean_rank_is_the_mean_over_all_metrics() -> None:
    runs = {
        "a": {"seg": {"miou": 3.0, "accuracy": 1.0}, "depth": {"error": 1.0}},
        "b": {"seg": {"miou": 2.0, "accuracy": 2.0}, "depth": {"error": 2.0}},
        "c": None,
    }
    assert mean_ranks(runs, DIRECTIONS) == pytest.approx({"a": 4 / 3, "b": 5 / 3, "c": 3})


def test_paired_tests_are_scipys() -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(0.3, 1, 8), rng.normal(0, 1, 8)
    found = paired(dict(enumerate(ours)), dict(enumerate(theirs)))
    assert found.p_value == pytest.approx(stats.ttest_rel(ours, theirs).pvalue)
    assert found.wilcoxon_p == pytest.approx(stats.wilcoxon(ours, theirs).pvalue)
    difference = ours - theirs
    assert found.effect_size == pytest.approx(difference.mean() / difference.std(ddof=1))
    assert found.difference.mean == pytest.approx(difference.mean())


def test_pairs_are_common_seeds() -> None:
    found = paired({0: 1.0, 1: 2.0, 2: 5.0, 3: None}, {1: 1.0, 2: 3.0, 3: 1.0, 4: 1.0})
    assert found.difference.n == 2
    assert found.difference.mean == pytest.approx(1.5)
    assert found.wilcoxon_p is None


@pytest.mark.parametrize("seeds", [2, 7])
def test_identical_runs_are_no_evidence(seeds: int) -> None:
    values = {seed: 0.1 * seed for seed in range(seeds)}
    found = paired(values, values)
    assert (found.p_value, found.effect_size) == (1.0, 0.0)
    assert found.wilcoxon_p == (None if seeds < 6 else 1.0)
    shifted = paired({seed: value + 0.3 for seed, value in values.items()}, values)
    assert (shifted.p_value, shifted.effect_size) == (1.0, None)


def test_one_pair_is_no_test() -> None:
    found = paired({0: 1.0}, {0: 2.0})
    assert (found.p_value, found.wilcoxon_p, found.effect_size, found.difference.low) == (None, None, None, None)
    assert paired({}, {0: 1.0}).difference.mean is None


def test_holm_by_hand() -> None:
    assert holm({"a": 0.01, "b": 0.04, "none": None, "c": 0.03, "d": 0.005}) == pytest.approx(
        {"a": 0.03, "b": 0.06, "none": None, "c": 0.06, "d": 0.02}
    )
    assert holm({"a": 0.6, "b": 0.7}) == {"a": 1.0, "b": 1.0}
    assert holm({}) == {}


def of_folds(values, fold):
    """By seed, the mean of all values and the means without each fold."""
    whole = {seed: float(row.mean()) for seed, row in enumerate(values)}
    without = {seed: [float(row[fold != each].mean()) for each in range(20)] for seed, row in enumerate(values)}
    return whole, without


def test_a_comparison_over_seeds_and_examples_is_that_of_readers_and_cases() -> None:
    rng = np.random.default_rng(3)
    per_example = rng.normal(0, 1, 400) + rng.normal(0, 1, (5, 400)) + rng.normal(0.1, 0.01, (5, 1))
    fold = np.arange(400) % 20
    ours, zero = of_folds(per_example, fold), of_folds(np.zeros((5, 400)), fold)
    found = paired_over_examples(ours[0], zero[0], ours[1], zero[1])
    seeds = paired(ours[0], zero[0])
    # Covariances of the means from those of the means of folds, without a jackknife.
    of_means = np.cov(np.stack([per_example[:, fold == each].mean(1) for each in range(20)], 1)) / 20
    shared = float(of_means[~np.eye(5, dtype=bool)].mean())
    over_seeds = float(per_example.mean(1).var(ddof=1)) / 5
    error = math.sqrt(over_seeds + shared)
    freedom = 4 * (1 + shared / over_seeds) ** 2
    assert found.of_examples == pytest.approx(shared / error**2)
    assert found.p_value == pytest.approx(2 * stats.t.sf(per_example.mean() / error, freedom))
    half = stats.t.ppf(0.975, freedom) * error
    assert (found.difference.mean, found.difference.half_width) == pytest.approx((per_example.mean(), half))
    assert (found.effect_size, found.wilcoxon_p) == (seeds.effect_size, seeds.wilcoxon_p)


def test_methods_that_are_equally_good_are_found_apart_in_one_of_twenty_comparisons() -> None:
    rng = np.random.default_rng(0)
    fold, apart, by_seeds_alone = np.arange(240) % 20, 0, 0
    for _ in range(400):
        values = rng.normal(0, 1, 240) + rng.normal(0, 1, (5, 240)) + rng.normal(0, 0.05, (5, 1))
        ours, zero = of_folds(values, fold), of_folds(np.zeros((5, 240)), fold)
        apart += paired_over_examples(ours[0], zero[0], ours[1], zero[1]).p_value < 0.05
        by_seeds_alone += paired(ours[0], zero[0]).p_value < 0.05
    assert 0.03 < apart / 400 < 0.08 and by_seeds_alone / 400 > 0.15


def test_where_examples_are_not_known_a_comparison_is_over_seeds() -> None:
    values, reference = {0: 0.7, 1: 0.8, 2: 0.75}, {0: 0.6, 1: 0.65, 2: 0.7}
    alone = paired(values, reference)
    known = {seed: [0.5, 0.6] for seed in values}
    for without in ({}, {**known, 1: [0.5, None]}, {**known, 2: [math.nan, 0.5]}, {**known, 0: [0.5]}):
        assert paired_over_examples(values, reference, without, known) == alone and alone.of_examples is None
    other = paired_over_examples({**values, 3: None}, reference, known, known)
    assert other.of_examples == 0.0 and other.p_value == pytest.approx(alone.p_value)
    assert paired_over_examples({0: 0.7}, reference, known, known).p_value is None
    equal = paired_over_examples(values, values, known, known)
    assert equal.p_value == 1.0 and equal.of_examples == 0.0
