"""The sentences and tables of a decision, for the terminal and the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mtl.auto.clock import shown
from mtl.auto.finals import USUAL_LABEL
from mtl.report.numbers import ABSENT, count, decimals, four_digits, interval, number, p_value, rounded
from mtl.report.table import Cell, Column, ReportTable
from mtl.stats.examples import FOLDS

Summary = Mapping[str, Any]
TEST = "test"
_PERCENT = 0.01
_FEW = 4  # tasks that the terminal shows one by one


def verdict(summary: Summary) -> str:
    """What won and how sure that is, in plain words."""
    if summary["winner"] is None:
        return _unfinished(summary)
    entries = {each["label"]: each for each in summary["finalists"]}
    winner = entries[summary["winner"]]
    where = f"on the {count(summary['holdout']['examples'])} examples that were held out"
    if summary["chosen"] != USUAL_LABEL:
        sure, doubt = "is", ""
        if not winner["better"]:
            sure, doubt = "is probably", f", a chance of {winner['doubt']:.0%} that it is worse"
        said = (
            f"{winner['label']} {sure} better than the default by {_difference(winner)} in {_counted(summary)} {where} "
            f"({_evidence(winner)}{doubt}): take {winner['label']}."
        )
        return said + _rivals(summary, entries) + _shortened(summary)
    others = [each for each in summary["finalists"] if each["label"] != USUAL_LABEL]
    if not others:
        return "The race found nothing to compare with the default: take the default."
    best = others[0]
    if winner["label"] == USUAL_LABEL:
        return (
            f"No finalist has a better mean than the default in {_counted(summary)} on the examples that select (the "
            f"nearest, {best['label']}, differs by {_difference(best, signed=True)} {where}): take the default."
            + _shortened(summary)
        )
    if not summary["telling"]:
        steps, recipe = count(summary["final_steps"]), count(summary["plan"]["recipe"])
        return (
            f"{best['label']} differs from the default by {_difference(best, signed=True)} in {_counted(summary)} "
            f"{where} ({_evidence(best)}), but in runs of {steps} of the recipe's {recipe} steps, which say too little "
            "about full ones: take the default, in full, or give --time more."
        )
    return (
        f"{best['label']} and the default cannot be told apart in {_counted(summary)} {where} "
        f"({_difference(best, signed=True)}, {_evidence(best)}): take the default." + _shortened(summary)
    )


def _shortened(summary: Summary) -> str:
    """That runs were shorter than the recipe's, and what follows."""
    plan = summary["plan"]
    race, finals, recipe = plan["length"], summary["final_steps"], plan["recipe"]
    said = ""
    if finals < recipe:
        said += (
            f" All finalists had {count(finals)} of the recipe's {count(recipe)} steps, and so had the model that is "
            "kept; the line and the file train in full."
        )
    if race < recipe / 5:
        said += (
            f" The race had time for runs of {count(race)} of the recipe's {count(recipe)} steps only: it found what "
            "learns fast, and --time should be longer."
        )
    return said


def _unfinished(summary: Summary) -> str:
    best = summary["race"]["best"]
    if summary["finals_over"]:
        return "No run of the default under fresh seeds has a result, so that nothing can be compared with it."
    if best is None:
        return "Stopped before any run of the race was evaluated: there is nothing to recommend yet."
    name, value = next(iter(best["objective"].items()))
    return (
        f"Stopped before finalists were compared. The best candidate so far is {best['run']}, with {name} "
        f"{four_digits(value)} under one seed, which says little; --resume goes on."
    )


def _counted(summary: Summary) -> str:
    """What counts, in words."""
    name = next(iter(summary["objective"]))
    return "mean skill" if name == "selection" else name


def _difference(entry: Summary, *, signed: bool = False) -> str:
    found = entry["against_default"]
    if found is None or found["mean"] is None:
        return "an unknown amount"
    digits = decimals([found])
    text = number(found["mean"], digits, signed)
    return text if found["low"] is None else f"{text} [{number(found['low'], digits)}, {number(found['high'], digits)}]"


def _evidence(entry: Summary) -> str:
    found = entry["against_default"]
    p = "no p-value with one seed" if found["p_value"] is None else f"p = {p_value(found['p_value'])}"
    return f"{found['n']} seed{'s' * (found['n'] != 1)}, {p.replace('= <', '<')}"


def _rivals(summary: Summary, entries: Mapping[str, Summary]) -> str:
    rivals = [label for label in summary["rivals"] if label != USUAL_LABEL]
    if not rivals:
        return ""
    said = f" {' and '.join(rivals)} cannot be told apart from it"
    cheapest = min(rivals, key=lambda label: float(entries[label]["seconds"]))
    ours, theirs = float(entries[summary["winner"]]["seconds"]), float(entries[cheapest]["seconds"])
    if theirs < 0.8 * ours:
        return f"{said}; {cheapest} takes {1 - theirs / ours:.0%} less time."
    return f"{said}."


def finalists_table(summary: Summary) -> ReportTable:
    """The finalists, best first: what they reached on the holdout, against the default, and on test data."""
    entries = summary["finalists"]
    columns = [
        Column("", ("label",), numeric=False),
        Column("holdout", ("holdout_mean", "holdout_low", "holdout_high"), True),
        Column("against default", ("difference", "difference_low", "difference_high")),
        Column("p", ("p_value",)),
        Column("seconds", ("seconds",)),
    ]
    tests: list[tuple[str, str]] = []
    for task, metrics in entries[0]["test"].items() if entries else ():
        metric = next(iter(metrics))
        tests.append((task, metric))
        higher = metrics[metric]["higher_is_better"]
        columns.append(Column(f"{task} {metric}", (f"{task}_{metric}", "low", "high"), higher, TEST))
    digits = decimals([each["holdout"] for each in entries])
    apart = decimals([each["against_default"] for each in entries if each["against_default"]])
    of_tests = [decimals([each["test"][task][metric] for each in entries]) for task, metric in tests]
    rows = [
        [
            Cell(each["label"], (each["label"],)),
            Cell(interval(each["holdout"], digits), _three(each["holdout"])),
            Cell(interval(each["against_default"], apart, signed=True), _three(each["against_default"])),
            Cell(p_value((each["against_default"] or {}).get("p_value")), (_p(each),)),
            Cell(f"{each['seconds']:.3g}", (each["seconds"],)),
            *(
                Cell(interval(each["test"][task][metric], places), _three(each["test"][task][metric]))
                for (task, metric), places in zip(tests, of_tests, strict=True)
            ),
        ]
        for each in entries
    ]
    return ReportTable(columns, rows)


def _p(entry: Summary) -> float | None:
    found = (entry["against_default"] or {}).get("p_value")
    return None if found is None else float(found)


def _three(found: Summary | None) -> tuple[Any, ...]:
    return (None, None, None) if found is None else (found["mean"], found["low"], found["high"])


def described(train: Summary) -> str:
    """How something is trained, in a line: strategy, losses and settings."""
    said = [
        (name, text) for name, text in train["words"] if not name.startswith("strategy.")
    ]  # those at their defaults
    shown = [(name.removeprefix("loss."), name == "strategy", text) for name, text in said]
    return ", ".join(rounded(text) if plain else f"{name} {rounded(text)}" for name, plain, text in shown)


def tested(entry: Summary) -> str:
    """The first metric of each task on test data, as means over seeds; of many tasks the mean over them, by metric."""
    firsts = [(task, *next(iter(metrics.items()))) for task, metrics in entry["test"].items()]
    if len(firsts) <= _FEW:
        return ", ".join(f"{task} {metric} {_four(about['mean'])}" for task, metric, about in firsts)
    names = dict.fromkeys(metric for _, metric, _ in firsts)
    return ", ".join(
        _over_tasks(name, [about["mean"] for _, metric, about in firsts if metric == name]) for name in names
    )


def _over_tasks(metric: str, values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    lacking = len(values) - len(known)
    mean = _four(sum(known) / len(known) if known else None)
    said = f"{metric} {mean} in the mean of {len(known)} task{'s' * (len(known) != 1)}"
    return said + (f", {lacking} without a value" if lacking else "")


def _four(value: float | None) -> str:
    return ABSENT if value is None else four_digits(value)


def notes(summary: Summary, remarks: Sequence[str]) -> list[str]:
    """What a careful reader asks."""
    holdout, race = summary["holdout"], summary["race"]
    found = [
        f"The race selected on other examples than the {count(holdout['examples'])} that were held out of the "
        f"{holdout['from']} split; finalists were compared on these, under fresh seeds, by paired tests. The "
        "winner was picked by what it reached on the others under these seeds, so that its test is a single one; the p "
        "of other finalists is not adjusted. The test split decided nothing.",
        _covered(summary),
    ]
    if summary["winner"] is not None and len(summary["seeds"]) < 3:
        found.append(
            "With fewer than three seeds hardly anything can be told apart: more --time or --seeds would help."
        )
    plan = summary["plan"]
    if plan and plan["length"] < plan["recipe"]:
        found.append(
            f"Runs of the race had {count(plan['length'])} steps in place of the recipe's {count(plan['recipe'])}: "
            "what is best there need not be best at full length."
        )
    finals = [each for each in summary["finalists"] if each["steps"] and plan and each["steps"] < plan["final_length"]]
    if finals:
        found.append(f"Time ended the finals after {count(finals[0]['steps'])} steps, the same for all finalists.")
    lost = [each for each in summary["finalists"] if each["without_result"]]
    found += [f"{each['label']}: {each['without_result']} of {each['runs']} runs have no result." for each in lost]
    if "path" in summary["time"]["ended"] and summary["winner"] not in (None, USUAL_LABEL) and not summary["path"]:
        found.append(
            "The way from the default to the winner is not shown: there is one part only, or no time was left."
        )
    if race["diverged"] or race["failed"]:
        found.append(f"Of the race {race['diverged']} runs diverged, and {race['failed']} failed.")
    return [*found, *remarks]


def _covered(summary: Summary) -> str:
    """What intervals and p-values hold for."""
    against = [each["against_default"] for each in summary["finalists"] if each["against_default"]]
    shares = [each.get("of_examples") for each in against if each["n"] > 1]
    if not shares or None in shares:
        few = summary["holdout"]["examples"] < 2 * FOLDS
        why = f"of fewer than {2 * FOLDS} examples" if few else "on which a metric is undefined without some of them"
        return (
            "Intervals and p cover the spread over seeds (initialisation, batches) alone, on one holdout"
            + (f" {why}" if shares else "")
            + ": other examples could tell otherwise."
        )
    return (
        "Differences and p hold for other seeds (initialisation, batches) and for other examples than those held out: "
        "the covariance over examples is added to the spread over seeds, as for readers and cases (Obuchowski and "
        f"Rockette 1995, Hillis 2007). The choice of examples has {min(shares):.0%}"
        + (f" to {max(shares):.0%}" if max(shares) - min(shares) >= _PERCENT else "")
        + " of the variance. Intervals of single finalists cover seeds alone."
    )


def path_table(summary: Summary) -> ReportTable:
    """What each part brings on the way from the default to the winner."""
    points = summary["path"]
    columns = [
        Column("point", ("label",), numeric=False),
        Column("holdout", ("holdout_mean", "holdout_low", "holdout_high"), True),
        Column("gain", ("gain", "gain_low", "gain_high")),
        Column("p", ("p_value",)),
    ]
    digits = decimals([each["holdout"] for each in points])
    apart = decimals([each["gain"] for each in points if each["gain"]])
    rows = [
        [
            Cell(_point(each), (each["label"],)),
            Cell(interval(each["holdout"], digits), _three(each["holdout"])),
            Cell(interval(each["gain"], apart, signed=True), _three(each["gain"])),
            Cell(p_value((each["gain"] or {}).get("p_value")), ((each["gain"] or {}).get("p_value"),)),
        ]
        for each in points
    ]
    return ReportTable(columns, rows)


def _point(point: Summary) -> str:
    if not point["part"]:
        return str(point["label"])
    return f"+ {point['part']}" + ("" if point["label"].startswith("+ ") else f" = {point['label']}")


def importance(summary: Summary) -> str:
    """How far the importance can be trusted."""
    found = summary["importance"]
    if not found:
        return "Too few runs of the race were compared to say which choices mattered."
    trust = "" if found["explained"] >= 0.3 else " So it says little."
    return (
        f"By functional ANOVA of a forest on {count(found['runs'])} runs at step {count(found['step'])}, which "
        f"explains {max(0.0, found['explained']):.0%} of the variance between runs that it has not seen.{trust} "
        "Blue are main effects, grey are interactions of two parts."
    )


def overview(summary: Summary) -> list[tuple[str, str]]:
    """The few facts that stand under the title."""
    time = summary["time"]
    return [
        ("time", f"{shown(time['elapsed'])} of {shown(time['limit'])}"),
        ("candidates", count(summary["race"]["runs"])),
        ("finalists", str(len(summary["finalists"]) or ABSENT)),
        ("seeds", str(len(summary["seeds"]) or ABSENT)),
        ("objective", ", ".join(summary["objective"])),
    ]
