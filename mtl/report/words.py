"""The sentences of a report, made from the summary alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mtl.report.labels import noun
from mtl.report.numbers import interval, number, p_value
from mtl.report.summary import OVER_TASKS
from mtl.report.tables import SIGNIFICANT, finished


def verdict(summary: Mapping[str, Any], mark: Callable[[str], str] = str) -> str:
    """Who ranks first, whether that means anything, and over how many seeds; `mark` sets off names of strategies."""
    specs = [spec for spec in summary["ranking"] if finished(summary["strategies"][spec])]
    if not specs:
        return f"No run of any {noun(summary)} finished, so there is nothing to rank."
    best, reference, seeds = specs[0], mark(summary["reference"]), len(summary["seeds"])
    compared = summary.get("compared", "strategies")
    one = noun(summary)
    entry = summary["strategies"][best]
    over = f"over {_plural(seeds, 'seed')}{_how(summary, entry)}"
    if len(specs) == 1:
        return f"{mark(best)} is the only {one} with finished runs, {over}."
    level = [spec for spec in specs[1:] if summary["strategies"][spec]["metrics"] == entry["metrics"]]
    if len(level) == len(specs) - 1:
        alone = len(summary["losses"]) == 1 and compared == "strategies"
        why = ": with one task there is nothing to weigh" if alone else ", to the last digit"
        return f"All {len(specs)} {compared} give the same results over {_plural(seeds, 'seed')}{why}."
    shared = f", level with {', '.join(map(mark, level))}," if level else ""
    first = f"{mark(best)} ranks first{shared} of {len(summary['ranking'])} {compared} {over}"
    if best == summary["reference"]:
        return f"{first}: no {one} does better than this reference. {_others(summary, specs[1:], one)}"
    p = entry["p_adjusted"]
    if p is None:
        why = "one seed gives no intervals and no tests" if seeds == 1 else "there are too few pairs of runs to test"
        return f"{first}, but {why}: whether it differs from {reference} stays open."
    if p >= SIGNIFICANT:
        return f"{first}, but does not differ significantly from the reference {reference} ({_p(p)})."
    side = "ahead of" if entry["difference"]["mean"] > 0 else "behind"
    unit = " points of Δm" if summary["baseline"] == "single_task" else " %"
    unit += f" in {summary['judged_by']}" if summary["judged_by"] else ""
    difference = number(abs(entry["difference"]["mean"]), 2) + unit
    found = f"{first}, significantly {side} the reference {reference} by {difference} ({_p(p)})"
    return found + _with_examples(entry["over_examples"])


def _with_examples(wider: Mapping[str, Any] | None) -> str:
    """Whether a difference that seeds show holds for other test examples too."""
    if wider is None:
        return ". That holds for other seeds; what other test examples would show is not known."
    if wider["p_adjusted"] < SIGNIFICANT:
        return f", for other test examples too ({_p(wider['p_adjusted'])})."
    return (
        f". That holds for other seeds on these test examples; other examples could turn it "
        f"({_p(wider['p_adjusted'])}): {wider['of_examples']:.0%} of the variance comes from their choice."
    )


def notes(summary: Mapping[str, Any]) -> list[str]:
    """What a careful reader asks: what went wrong, how numbers were made."""
    strategies, seeds = summary["strategies"], summary["seeds"]
    found = [f"Seeds: {', '.join(map(str, seeds))}."]
    if any(entry["search_budget"]["trials"] for entry in strategies.values()):
        trials = ", ".join(f"{spec} {entry['search_budget']['trials']}" for spec, entry in strategies.items())
        found.append(
            f"Each {noun(summary)} was tuned on other seeds than these, by trials of the same length: {trials}."
            + _tuned_baselines(summary["single_task"])
        )
    if len(seeds) == 1:
        found[0] += " With one seed there are no intervals and no tests; the order may be chance."
    found += [_lost(spec, entry) for spec, entry in strategies.items() if entry["diverged"] + entry["failed"]]
    found += [
        f"Single-task baseline {task}: {_what_was_lost(entry)}."
        for task, entry in summary["single_task"].items()
        if entry["diverged"] + entry["failed"]
    ]
    waiting = {spec: entry["missing"] for spec, entry in strategies.items() if entry["missing"]}
    if waiting:
        listed = ", ".join(f"{spec} ({count})" for spec, count in waiting.items())
        found.append(f"Not finished yet, and absent from the numbers: {listed}.")
    skipped = {spec: entry["skipped"] for spec, entry in strategies.items() if entry["skipped"]}
    if skipped:
        listed = "; ".join(
            f"{spec}: " + ", ".join(f"{count} {reason.replace('_', ' ')}" for reason, count in reasons.items())
            for spec, reasons in skipped.items()
        )
        found.append(f"Steps skipped or masked, all seeds together: {listed}.")
    else:
        found.append("No step was skipped.")
    if summary["left_out"] and summary["baseline"]:
        found.append(
            "Left out of Δm, because the baseline is missing, zero or not finite: "
            + ", ".join(summary["left_out"])
            + "."
        )
    return found + list(summary["remarks"])


def method(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    """How each number is computed, as (term, explanation)."""
    if summary["baseline"] == "single_task":
        against = "the mean of the single-task baselines over their seeds, trained with the same budget"
    else:
        against = (
            f"the mean of the reference {summary['reference']} over its seeds, because no single-task baselines were "
            "trained; this is not the Δm of the literature, and its ± leaves out the spread of the reference, which "
            "differences and p have"
        )
    judged = summary["judged_by"]
    return [
        ("Baseline B", f"{against[0].upper()}{against[1:]}. Where B is negative, changes are divided by |B|."),
        (
            "Δm over tasks, higher is better",
            "100 · mean over tasks of the mean over the task's metrics of ±(M − B)/B, + where higher is better "
            "(Maninis et al., CVPR 2019; Lin et al., TMLR 2022; LibMTL). The ranking goes by it."
            + (f" With one task it is that of {judged} alone, by which runs were selected." if judged else ""),
        ),
        (
            "Δm over metrics, lower is better",
            "100 · mean over all metrics of ±(M − B)/B, − where higher is better (CAGrad, NeurIPS 2021; Nash-MTL, "
            "ICML 2022). A task with more metrics weighs more.",
        ),
        (
            "Mean rank, lower is better",
            f"Rank among all {summary.get('compared', 'strategies')} under the same seed, averaged over all metrics, "
            "then over seeds; ties share their ranks, and runs that diverged or failed come last.",
        ),
        (
            "± and bars",
            "95 % Student t-interval over seeds: initialisation, batches and noise, not the choice of test examples. "
            "That of Δm on single-task baselines also counts their own spread over seeds (a jackknife), with Welch and "
            "Satterthwaite's degrees of freedom.",
        ),
        (
            "Difference, p, d",
            f"Δm over tasks minus that of {summary['reference']} under the same seed: two-sided paired t-test, with p "
            "adjusted by Holm's method for the number of them; d is the mean of the differences over their "
            "standard deviation. From six seeds on, Wilcoxon's p is in the CSV table and in summary.json.",
        ),
        *_other_examples(summary),
        (
            "Selection",
            "Each run is tested once, with the parameters that did best on validation data. Bold is the best mean of a "
            "column, whether or not the difference is significant.",
        ),
    ]


def _other_examples(summary: Mapping[str, Any]) -> list[tuple[str, str]]:
    if not any(entry["over_examples"] for entry in summary["strategies"].values()):
        return []
    return [
        (
            "p, other examples",
            "The same difference, tested for other seeds and other test examples: to the spread over seeds comes the "
            "mean covariance over examples of the differences under two seeds, by a jackknife over 20 folds of the "
            "test split, as for readers and cases (Obuchowski & Rockette, 1995; degrees of freedom of Hillis, 2007). "
            "Adjusted by Holm's method.",
        )
    ]


def _tuned_baselines(single_task: Mapping[str, Any]) -> str:
    """Whether strategies and single-task baselines were tuned alike, which decides what a gain means."""
    if not single_task:
        return ""
    trials = {task: (entry.get("search_budget") or {}).get("trials", 0) for task, entry in single_task.items()}
    if not any(trials.values()):
        return " Single-task baselines were not tuned: gains on them are in part what tuning brought."
    listed = ", ".join(f"{task} {count}" for task, count in trials.items())
    return f" So was each single-task baseline: {listed}."


def _lost(spec: str, entry: Mapping[str, Any]) -> str:
    kept = finished(entry)
    rest = "no seed is left, so it has no values"
    if kept:
        rest = (
            "its values are those of the other one" if kept == 1 else f"its values are means of the other {kept} only"
        )
    return f"{spec}: {_what_was_lost(entry)}; {rest}, and it ranks below all that finished every run."


def _what_was_lost(entry: Mapping[str, Any]) -> str:
    lost = [f"{entry[key]} {key}" for key in ("diverged", "failed") if entry[key]]
    return f"of {_plural(entry['runs'], 'run')} {' and '.join(lost)}"


def _how(summary: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    gain = entry["delta_m"][OVER_TASKS]
    if gain["mean"] is None:
        return " by mean rank"
    return f" (Δm {interval(gain, 2, signed=True)} %)" if summary["baseline"] == "single_task" else ""


def _others(summary: Mapping[str, Any], specs: Sequence[str], one: str) -> str:
    tested = [p for spec in specs if (p := summary["strategies"][spec]["p_adjusted"]) is not None]
    if not tested:
        return "Nothing could be tested."
    different = sum(p < SIGNIFICANT for p in tested)
    lasting = _lasting([summary["strategies"][spec] for spec in specs])
    if len(tested) == 1:
        return f"The other {one} {'differs' if different else 'does not differ'} from it significantly{lasting}."
    those = {0: "None", len(tested): "All"}.get(different, str(different))
    return f"{those} of the {len(tested)} others tested {_differ(different)} significantly{lasting}."


def _lasting(entries: Sequence[Mapping[str, Any]]) -> str:
    """How many of those that differ significantly would do so on other test examples, as far as that is known."""
    different = [entry for entry in entries if (p := entry["p_adjusted"]) is not None and p < SIGNIFICANT]
    wider = [entry["over_examples"] for entry in different if entry["over_examples"]]
    if not wider:
        return ""
    lasting = sum(each["p_adjusted"] < SIGNIFICANT for each in wider)
    if lasting == len(different):
        return ", for other test examples too"
    if len(different) == 1:
        return ", but could do otherwise on other test examples"
    return f", {lasting or 'none'} of them for other test examples too"


def _differ(count: int) -> str:
    return "differs from it" if count == 1 else "differ from it"


def _p(value: float) -> str:
    text = p_value(value)
    return f"{'p' if text.startswith('<') else 'p ='} {text}".replace(" ", "\u00a0") + " after Holm's correction"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("" if count == 1 else "s")
