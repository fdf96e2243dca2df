"""What a page of docs/cases shows of its results: tables and sentences in Markdown, from the kept numbers alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mtl.stats import Paired, holm, mean_interval, paired, paired_over_examples

SKILL = "skill"  # the mean over tasks of the skill of their primary metrics


@dataclass(frozen=True)
class Measured:
    """One metric of all runs of a comparison.

    Attributes:
        name: as the head of a column.
        higher: whether higher is better.
        values: by variant and seed; None where a run came to no end.
        without: by variant and seed, the values without each fold of the test split in turn; empty where they were not
            measured.
    """

    name: str
    higher: bool
    values: Mapping[str, Mapping[int, float | None]]
    without: Mapping[str, Mapping[int, Sequence[float | None]]] = field(default_factory=dict)

    def best_first(self) -> list[str]:
        """The variants by their mean."""
        means = {variant: mean_interval(list(of.values())).mean for variant, of in self.values.items()}
        worst = -math.inf if self.higher else math.inf
        return sorted(means, key=lambda each: worst if (at := means[each]) is None else at, reverse=self.higher)


def measured(run: Mapping[str, Any], metric: str, split: str = "metrics") -> Measured:
    """A metric of a run's records.

    Args:
        run: as kept.
        metric: `TASK/METRIC`; `*/METRIC` for the mean over tasks; `skill`.
        split: `metrics` of test data, or `validation`.
    """
    values: dict[str, dict[int, float | None]] = {}
    without: dict[str, dict[int, list[float | None]]] = {}
    for record in run["runs"]:
        if record["status"] != "done":
            found = None
        elif (metric, split) == (SKILL, "validation"):
            found = record["selection"]  # by what constants reach there
        else:
            found = _value(record[split], run["tasks"], metric)
        values.setdefault(record["strategy"], {})[record["seed"]] = found
        each = [_value(metrics, run["tasks"], metric) for metrics in folds(record)] if split == "metrics" else []
        without.setdefault(record["strategy"], {})[record["seed"]] = each
    if metric == SKILL:
        return Measured(SKILL, True, values, without)
    task, name = metric.split("/")
    tasks = [task] if task != "*" else [each for each, about in run["tasks"].items() if name in about["metrics"]]
    head = f"{task} {name}" if len(run["tasks"]) > 1 and task != "*" else name
    return Measured(head, run["tasks"][tasks[0]]["metrics"][name]["higher_is_better"], values, without)


def folds(record: Mapping[str, Any]) -> list[dict[str, dict[str, float | None]]]:
    """The test metrics of a run without each fold of the examples in turn; none where they were not measured."""
    found = record.get("without") or {}
    count = min((len(each) for metrics in found.values() for each in metrics.values()), default=0)
    return [
        {task: {name: each[fold] for name, each in metrics.items()} for task, metrics in found.items()}
        for fold in range(count)
    ]


def _value(metrics: Mapping[str, Any], tasks: Mapping[str, Any], metric: str) -> float | None:
    if metric == SKILL:
        return _mean([_skill(metrics, name, about) for name, about in tasks.items()])
    task, name = metric.split("/")
    return _mean([metrics[each].get(name) for each in (tasks if task == "*" else [task]) if name in metrics[each]])


def _skill(metrics: Mapping[str, Any], task: str, about: Mapping[str, Any]) -> float | None:
    facts = about["metrics"][about["primary"]]
    value, constant, perfect = metrics[task].get(about["primary"]), facts["constant"], facts["perfect"]
    return None if value is None or constant is None else (value - constant) / (perfect - constant)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if known and len(known) == len(values) else None


def shown(words: Sequence[str], results: Mapping[str, Any]) -> str:
    """What stands in a block of a page, from the words in its mark.

    `table RUN METRIC ...`: all variants, and how far each is from the reference in the first metric.
    `answer RUN METRIC`: the variant that validation data chose, against the reference.
    `methods METRIC RUN ...`: winners of searches of runs METHOD-SEED, against the first method.
    `cost`: what all of it took.
    """
    what, *rest = words
    if what == "table":
        return table(results["runs"][rest[0]], rest[1:])
    if what == "answer":
        return answer(results["runs"][rest[0]], rest[1])
    if what == "methods":
        return table(together(results["runs"], rest[0], rest[1:]), ["skill"], tuned=False)
    if what == "cost":
        steps = sum(run["steps"] for run in results["runs"].values())
        minutes = max(1, round(results["seconds"] / 60))
        versions = " and ".join(f"{name} {version}" for name, version in results["versions"].items())
        return f"All commands of this page: {steps:,} steps, {minutes} min on one core, with {versions}."
    raise ValueError(f"show: {what!r} is none of table, answer, methods, cost")


def wider(found: Measured, reference: str) -> dict[str, Paired]:
    """Each variant but the reference against it, for other test examples too; empty where that is not known."""
    each = {
        variant: paired_over_examples(
            values, found.values[reference], found.without.get(variant, {}), found.without.get(reference, {})
        )
        for variant, values in found.values.items()
        if variant != reference
    }
    known = any(test.of_examples is not None for test in each.values())
    return each if known else {}


def tests(found: Measured, reference: str) -> tuple[dict[str, Paired], dict[str, float | None]]:
    """Each variant but the reference against it, and the p-values after Holm's correction."""
    each = {
        variant: paired(values, found.values[reference])
        for variant, values in found.values.items()
        if variant != reference
    }
    return each, holm({variant: test.p_value for variant, test in each.items()})


def table(run: Mapping[str, Any], metrics: Sequence[str], *, tuned: bool = True) -> str:
    """All variants, best first, as a Markdown table."""
    columns = [measured(run, metric) for metric in metrics]
    first, reference = columns[0], run["reference"]
    differences, adjusted = tests(first, reference)
    settings = {variant: text for variant in first.values if (text := _tuned(run, variant))} if tuned else {}
    heads = ["variant", *(f"{each.name} {'↑' if each.higher else '↓'}" for each in columns)]
    examples = holm({variant: test.p_value for variant, test in wider(first, reference).items()})
    heads += [f"{first.name} − reference", "p (Holm)", *(["p, other examples"] if examples else [])]
    heads += ["tuned"] if settings else []
    rows = [heads, ["---"] * len(heads)]
    for variant in first.best_first():
        cells = [f"`{short(variant, first.values)}`", *(_interval(each.values[variant]) for each in columns)]
        if variant == reference:
            cells += ["reference", "", *([""] if examples else [])]
        else:
            cells += [_difference(differences[variant]), _p(adjusted[variant])]
            cells += [_p(examples[variant])] if examples else []
        rows.append([*cells, *([settings.get(variant, "")] if settings else [])])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in rows)


def answer(run: Mapping[str, Any], metric: str) -> str:
    """Which variant validation data chose, and how it does against the reference on test data."""
    found, reference = measured(run, metric), run["reference"]
    chosen = measured(run, metric, "validation").best_first()[0]
    if chosen == reference:
        return f"Validation data choose the reference, `{short(reference, found.values)}`, itself."
    difference = tests(found, reference)[0][chosen]
    mean = difference.difference.mean
    better = mean is not None and (mean > 0) == found.higher
    sure = difference.p_value is not None and difference.p_value < 0.05
    verdict = ("better than" if better else "worse than") if sure else "not surely apart from"
    return (
        f"Validation data choose `{short(chosen, found.values)}`. On test data it is **{verdict}** "
        f"`{short(reference, found.values)}`: {found.name} {_interval(found.values[chosen])} against "
        f"{_interval(found.values[reference])}, difference {_difference(difference)}, "
        f"p {_equals(difference.p_value)} (paired t-test over {difference.difference.n} seeds)."
        + _other_examples(wider(found, reference).get(chosen), sure=sure)
    )


def _other_examples(test: Paired | None, *, sure: bool) -> str:
    """Whether a sure difference holds for other test examples."""
    if test is None or test.p_value is None or not sure:
        return ""
    if test.p_value < 0.05:
        return f" That holds for other test examples too (p {_equals(test.p_value)})."
    return f" Other test examples could turn it (p {_equals(test.p_value)} with their choice counted)."


def together(runs: Mapping[str, Any], prefix: str, methods: Sequence[str]) -> dict[str, Any]:
    """Runs PREFIX-METHOD-SEED of searches as one comparison of methods, against the first of them."""
    found = []
    for name, run in runs.items():
        method, _, seed = name.removeprefix(f"{prefix}-").rpartition("-")
        if name.startswith(f"{prefix}-") and method in methods:
            found += [{**record, "strategy": method, "seed": int(seed)} for record in run["runs"]]
    some = next(run for name, run in runs.items() if name.startswith(f"{prefix}-"))
    return {**some, "runs": found, "reference": methods[0]}


def short(variant: str, variants: Mapping[str, Any]) -> str:
    """A label without the name of the loss that all of them vary."""
    head, equals, _ = variant.partition("=")
    common = equals and head.startswith("loss.") and all(each.startswith(f"{head}=") for each in variants)
    return variant.removeprefix(f"{head}=") if common else variant


def _tuned(run: Mapping[str, Any], variant: str) -> str:
    """The numbers that a search found for a variant."""
    values = next(record["hyperparameters"] for record in run["runs"] if record["strategy"] == variant)
    numbers = {name.rpartition(".")[2]: value for name, value in values.items() if isinstance(value, float)}
    return ", ".join(f"{name} {value:.2g}" for name, value in numbers.items()) if run["searched"] else ""


def _digits(half: float | None) -> int:
    """Decimals by which the second digit of an interval's half width is shown."""
    return 3 if not half else min(6, max(0, 1 - math.floor(math.log10(half))))


def _interval(values: Mapping[int, float | None]) -> str:
    found = mean_interval(list(values.values()))
    if found.mean is None:
        return "–"
    lost = f" ({found.n} of {len(values)})" if found.n < len(values) else ""
    if found.half_width is None:
        return f"{found.mean:.3f}{lost}"
    digits = _digits(found.half_width)
    return f"{found.mean:.{digits}f} ± {found.half_width:.{digits}f}{lost}"


def _difference(test: Paired) -> str:
    found = test.difference
    if found.mean is None:
        return "–"
    if found.low is None or found.high is None:
        return f"{found.mean:+.3f}"
    digits = _digits(found.half_width)
    return f"{found.mean:+.{digits}f} [{found.low:+.{digits}f}, {found.high:+.{digits}f}]"


def _equals(p_value: float | None) -> str:
    return _p(p_value) if _p(p_value).startswith("<") else f"= {_p(p_value)}"


def _p(p_value: float | None) -> str:
    return "–" if p_value is None else "< 0.001" if p_value < 0.001 else f"{p_value:.3f}"
