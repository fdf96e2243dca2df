"""The numbers of a study: summary.json, without a clock or a date in it, so that equal runs give equal files."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mtl.report.again import again
from mtl.report.files import json_values
from mtl.report.gains import (
    baseline_of,
    baselines_without_each_seed,
    delta_m_by_seed,
    gains_without_folds,
    intervals_of,
    judged,
    plain_interval,
)
from mtl.report.read import RecordedRun, Study
from mtl.stats import (
    Directions,
    Interval,
    Metrics,
    Paired,
    comparable_metrics,
    delta_m_over_metrics,
    delta_m_over_tasks,
    finite,
    holm,
    interval_against,
    mean_interval,
    mean_ranks,
    paired,
    paired_over_examples,
)

OVER_TASKS = "gain_over_tasks"  # higher is better; what the ranking goes by
OVER_METRICS = "drop_over_metrics"  # lower is better
_BUDGET = ("steps", "forwards", "backwards")


def summarize(study: Study) -> dict[str, Any]:
    """Everything that summary.json holds.

    The ranking goes by delta m over tasks, or by mean rank where there is no delta m. A strategy of which a run
    diverged or failed ranks below all that finished every run, however well its other seeds did. With one task both go
    by its primary metric, for which its runs were selected; with several, by all metrics.
    """
    baseline, kind = baseline_of(study)
    others = baselines_without_each_seed(study) if kind == "single_task" else []
    gains = {spec: delta_m_by_seed(study.of("final", spec), baseline, study) for spec in study.strategies}
    ranks = _ranks_by_seed(study)
    reference_gains = gains.get(study.reference, {})
    tests = {
        spec: paired(gains[spec], reference_gains) if spec != study.reference else None for spec in study.strategies
    }
    adjusted = holm({spec: test.p_value if test else None for spec, test in tests.items()})
    folds = gains_without_folds(study)
    over_examples = {spec: _over_examples(spec, study.reference, gains, folds) for spec in study.strategies}
    examples_adjusted = holm({spec: test.p_value if test else None for spec, test in over_examples.items()})
    strategies = {}
    for spec in study.strategies:
        runs = study.of("final", spec)
        strategies[spec] = {
            **_counts(runs),
            "missing": len(set(study.seeds) - {run.seed for run in runs}),
            "metrics": intervals_of(runs, study),
            "delta_m": {
                OVER_TASKS: plain_interval(_over(delta_m_over_tasks, runs, baseline, others, study)),
                OVER_METRICS: plain_interval(_over(delta_m_over_metrics, runs, baseline, others, study)),
            },
            "delta_m_by_seed": {str(seed): gain for seed, gain in gains[spec].items()},
            "mean_rank": plain_interval(mean_interval(ranks[spec])),
            **_test(tests[spec]),
            "p_adjusted": adjusted[spec],
            "over_examples": _with_examples(over_examples[spec], examples_adjusted[spec]),
            "budget": _budget(runs),
            "search_budget": _search_budget(study.searched(strategy=spec)),
            "skipped": _skipped(runs),
        }
    best = _best(study, _ranking(strategies))
    summary = {
        "benchmark": study.benchmark,
        "reference": study.reference,
        "compared": "variants" if study.varied else "strategies",
        "seeds": study.seeds,
        "tasks": {
            task: {"primary": study.primary[task], "higher_is_better": dict(metrics)}
            for task, metrics in study.directions.items()
        },
        "losses": study.losses(),
        "baseline": kind,
        "judged_by": next(iter(study.primary.values())) if len(study.directions) == 1 else None,
        "left_out": [f"{task}/{metric}" for task, metric in comparable_metrics(baseline, judged(study))[1]],
        "ranking": _ranking(strategies),
        "strategies": strategies,
        "single_task": _single_task(study),
        "remarks": study.remarks,
        "again": again(study.config_of(best), best, study.runs),
    }
    return {key: json_values(value) for key, value in summary.items()}


def _over(
    delta_m: Callable[[Metrics, Metrics, Directions], float | None],
    runs: Sequence[RecordedRun],
    baseline: Metrics,
    others: Sequence[Metrics],
    study: Study,
) -> Interval:
    """Mean delta m with its interval; `others` are the baselines with one of their seeds left out."""
    done = [run.metrics for run in runs if run.done]

    def against(base: Metrics) -> list[float | None]:
        return [delta_m(metrics, base, judged(study)) for metrics in done]

    return interval_against(against(baseline), [mean_interval(against(base)).mean for base in others])


def _ranks_by_seed(study: Study) -> dict[str, list[float | None]]:
    collected: dict[str, list[float | None]] = {spec: [] for spec in study.strategies}
    for seed in study.seeds:
        entries = {run.strategy: run.metrics if run.done else None for run in study.of("final") if run.seed == seed}
        for spec, rank in mean_ranks(entries, judged(study)).items():
            collected[spec].append(rank)
    return collected


def _ranking(strategies: Mapping[str, Mapping[str, Any]]) -> list[str]:
    def place(spec: str) -> tuple[float, ...]:
        entry = strategies[spec]
        lost = entry["diverged"] + entry["failed"]
        tier = 3 if entry["runs"] == 0 else 2 if lost == entry["runs"] else 1 if lost else 0
        gain, rank = entry["delta_m"][OVER_TASKS]["mean"], entry["mean_rank"]["mean"]
        return tier, lost / max(entry["runs"], 1), math.inf if gain is None else -gain, rank or math.inf

    return sorted(strategies, key=place)  # stable: ties stay in the order in which they were asked for


def _best(study: Study, ranking: Sequence[str]) -> RecordedRun | None:
    """Of what ranks first, the run that was best on validation data."""
    runs = [run for spec in ranking[:1] for run in study.of("final", spec)]
    runs = [run for run in runs if run.done and finite(run.record.get("selection"))]
    return max(runs, key=lambda run: float(run.record["selection"]), default=None)


def _single_task(study: Study) -> dict[str, Any]:
    entries = {}
    for task in study.directions:
        runs = [run for run in study.of("single_task") if run.record.get("task") == task]
        if runs:
            metrics = intervals_of(runs, study)[task]
            entries[task] = {
                **_counts(runs),
                "metrics": metrics,
                "budget": _budget(runs),
                "search_budget": _search_budget(study.searched(task=task)),
                "skipped": _skipped(runs),
            }
    return entries


def _counts(runs: Sequence[RecordedRun]) -> dict[str, int]:
    diverged = sum(run.status == "diverged" for run in runs)
    return {"runs": len(runs), "diverged": diverged, "failed": len(runs) - diverged - sum(run.done for run in runs)}


def _budget(runs: Sequence[RecordedRun]) -> dict[str, int]:
    return {what: round(sum(run.cost(what) or 0 for run in runs)) for what in _BUDGET}


def _search_budget(runs: Sequence[RecordedRun]) -> dict[str, int]:
    return {"trials": len(runs), **_budget(runs)}


def _skipped(runs: Sequence[RecordedRun]) -> dict[str, int]:
    total: Counter[str] = Counter()
    for run in runs:
        total.update({key: int(value) for key, value in (run.record.get("skipped") or {}).items() if finite(value)})
    return {key: total[key] for key in sorted(total) if total[key]}


def _test(test: Paired | None) -> dict[str, Any]:
    if test is None:
        return {"difference": None, "effect_size": None, "wilcoxon_p": None, "p_value": None}
    return {
        "difference": plain_interval(test.difference),
        "effect_size": test.effect_size,
        "wilcoxon_p": test.wilcoxon_p,
        "p_value": test.p_value,
    }


def _over_examples(
    spec: str,
    reference: str,
    gains: Mapping[str, Mapping[int, float | None]],
    folds: Mapping[str, Mapping[int, list[float | None]]],
) -> Paired | None:
    """The test for other seeds and other examples; None of the reference, and where it cannot be made."""
    if spec == reference or not {spec, reference} <= folds.keys():
        return None
    found = paired_over_examples(gains[spec], gains[reference], folds[spec], folds[reference])
    return None if found.of_examples is None else found


def _with_examples(test: Paired | None, adjusted: float | None) -> dict[str, Any] | None:
    if test is None:
        return None
    return {
        "difference": plain_interval(test.difference),
        "p_value": test.p_value,
        "p_adjusted": adjusted,
        "of_examples": test.of_examples,
    }
