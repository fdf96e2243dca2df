"""What `mtl auto` decides against the default and a random search of the same time: a table in auto.md.

    python docs/auto_table.py                                  # all, as far as it was not done yet
    python docs/auto_table.py yeast --time 60s --repetitions 2
    python docs/auto_table.py --table                          # the table alone, from what is there

Each repetition has a seed of its own, and on it `mtl auto` and a random search, one after the other. The random search
draws from the same conditional space and trains one run of the recipe's length after another, on the training data and
with the examples that select of `mtl auto`, until the time is over; it takes the finished run that does best on these.
A run by itself is trained without what vectorises several: of independent draws from this space hardly two have one
structure. Then what each has found and the default are trained on the whole training split, under the same fresh seeds,
and measured on the test split.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

from mtl.auto.clock import read_time, shown
from mtl.auto.finals import USUAL_LABEL
from mtl.auto.holdout import hold_out
from mtl.auto.parts import PARTS
from mtl.auto.space import USUAL, auto_space
from mtl.auto.summary import read_decision
from mtl.benchmarks import find_benchmark, load_checked
from mtl.benchmarks.losses import fitted
from mtl.files.lineage import tupled
from mtl.files.whole import write_whole
from mtl.search.cohort import SearchCohort
from mtl.search.methods import Problem
from mtl.search.methods.method import random_starts
from mtl.search.plan import cohort_maker, decided, default_interval, run_length
from mtl.search.space import Values, make_member
from mtl.stats import mean_interval, paired
from mtl.stats.delta_m import delta_m_over_tasks
from mtl.stats.intervals import Interval
from mtl.study.setup import StudySetup
from mtl.train import Result, Settings
from mtl.train.outcome import DONE

PAGE = Path(__file__).parent / "auto.md"
BEGIN, END = "<!-- from docs/auto_table.py -->", "<!-- to here -->"
BENCHMARKS = ("multidigits", "census", "yeast")
SCORES, DRAWN = "scores.json", "random.json"
_FINE = 0.15  # a half width below which two decimals are shown
_APART = 100  # between the seeds of two repetitions
_FRESH = 50  # from the seed of a repetition to the first of those under which it is measured


class Point(NamedTuple):
    """Something that was found.

    Attributes:
        values: by flat names, as of a search.
        steps: for how long it is trained.
    """

    values: Values
    steps: int


def main() -> int:
    """Decide, search, measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="BENCHMARK", help=f"default: {' '.join(BENCHMARKS)}")
    parser.add_argument("--time", default="150s", help="of a decision, and of a random search (default: 150s)")
    parser.add_argument("--repetitions", type=int, default=5, help="default: 5")
    parser.add_argument("--seeds", type=int, default=2, help="under which what was found is measured (default: 2)")
    parser.add_argument("--folder", type=Path, default=Path("runs/auto-table"), help="of all that is done")
    parser.add_argument("--table", action="store_true", help="only write the table again")
    options = parser.parse_args()
    failed = []
    for name in () if options.table else options.names or BENCHMARKS:
        for number in range(options.repetitions):
            folder = options.folder / name / str(number)
            if not repeated(name, folder, options.time, number * _APART, options.seeds):
                failed.append(str(folder))
    found = {each.parent.name: each.parent for each in sorted(options.folder.glob("*/0"))}
    order = [*(name for name in BENCHMARKS if name in found), *(name for name in found if name not in BENCHMARKS)]
    scores = {name: read_scores(found[name]) for name in order}
    write_table(PAGE, [row(name, each) for name, each in scores.items() if each])
    print(f"{PAGE}: {sum(map(bool, scores.values()))} rows" + (f"; not done: {', '.join(failed)}" if failed else ""))
    return 1 if failed else 0


# --- a repetition ----------------------------------------------------------------------------------------------------


def repeated(name: str, folder: Path, limit: str, seed: int, count: int) -> bool:
    """Whether a repetition is there, after what was missing of it was done."""
    if (folder / SCORES).exists():
        return True
    folder.mkdir(parents=True, exist_ok=True)
    print(f"{folder}: mtl auto, random search and measuring", flush=True)
    command = [sys.executable, "-m", "mtl", "auto", name, "--time", limit, "--seed", str(seed), "--resume"]
    ran = subprocess.run(
        [*command, "--out", str(folder / "auto"), "--wandb", "disabled", "--keep-models", "none", "--quiet"],
        check=False,
    )
    study = read_decision(folder / "auto") if ran.returncode == 0 else None
    if study is None or study.chosen is None or study.verdict is None:
        return False
    if not (folder / DRAWN).exists():
        drawn = random_search(setting_of(name), read_time(limit), seed)
        write_whole(folder / DRAWN, json.dumps(drawn, indent=1) + "\n")
    drawn = json.loads((folder / DRAWN).read_text(encoding="utf-8"))
    setting = setting_of(name)
    length = run_length(setting)
    usual = Point(USUAL, length)
    auto = usual
    if study.chosen.label != USUAL_LABEL:
        auto = Point(dict(study.chosen.values), length)
    random = usual if drawn["values"] is None else Point(tupled(drawn["values"]), length)
    seeds = [seed + _FRESH + number for number in range(count)]
    default = measured(setting, usual, seeds)
    found = {
        who: default if point == usual else measured(setting, point, seeds)
        for who, point in (("auto", auto), ("random", random))
    }
    scores = {
        "time": limit,
        "chosen": study.chosen.label,
        "finished": drawn["finished"],
        "dropped": list(study.state.plan.dropped) if study.state.plan else [],
        "directions": primary_directions(setting),
        "default": default,
        **found,
    }
    write_whole(folder / SCORES, json.dumps(scores, indent=1) + "\n")
    return True


def setting_of(name: str) -> StudySetup:
    """A benchmark by its own recipe."""
    benchmark = find_benchmark(name)
    splits = load_checked(benchmark)
    return StudySetup(fitted(benchmark, splits), splits, Settings.of(benchmark.recipe), torch.device("cpu"))


def random_search(
    setting: StudySetup, seconds: float, seed: int, now: Callable[[], float] = time.monotonic
) -> dict[str, Any]:
    """Train points drawn from the space of `mtl auto` one after another, until the time is over.

    Returns:
        The `values` of the run with the best mean skill on the examples that select, None where no run was finished,
        its `selection`, and how many were `finished`.
    """
    until = now() + seconds
    held = hold_out(setting.benchmark.tasks, setting.splits, seed)
    racing = dataclasses.replace(setting, splits=held.of_the_race, one_at_a_time=True)
    space = decided(auto_space(setting.benchmark, racing.splits, setting.settings, PARTS, ()).space, racing)
    length, make_cohort = run_length(racing), cohort_maker(racing)
    best: dict[str, Any] = {"values": None, "selection": None, "finished": 0}
    while now() < until:
        (start,) = random_starts(Problem(space, length, length, seed), 1, best["finished"])
        cohort = make_cohort([make_member(start.values, seed)])
        (result,) = trained(cohort, length, lambda: now() >= until)
        if now() >= until or result is None:
            break
        best["finished"] += 1
        better = best["selection"] is None or result.selection > best["selection"]
        if result.status == DONE and math.isfinite(result.selection) and better:
            best |= {"values": start.values, "selection": result.selection}
    return best


def measured(setting: StudySetup, point: Point, seeds: Sequence[int]) -> dict[str, Any]:
    """The metrics on the test split of a point that is trained under some seeds; none of a run without a result."""
    settings = dataclasses.replace(setting.settings, steps=point.steps, patience=None)
    make_cohort = cohort_maker(dataclasses.replace(setting, settings=settings))
    cohort = make_cohort([make_member(point.values, seed) for seed in seeds])
    results = trained(cohort, point.steps)
    return {
        str(seed): result.metrics if result is not None and result.status == DONE else {}
        for seed, result in zip(seeds, results, strict=True)
    }


def trained(cohort: SearchCohort, steps: int, over: Callable[[], bool] = lambda: False) -> Sequence[Result | None]:
    """The results of a cohort after so many steps, evaluated now and then, each at its best on what selects."""
    best: dict[int, float] = {}
    interval = default_interval(steps)
    for made in range(0, steps, interval):
        if over():
            break
        cohort.advance(min(interval, steps - made), over)
        reached = {number: evaluation.selection for number, evaluation in enumerate(cohort.evaluate())}
        better = {number: value for number, value in reached.items() if value > best.get(number, -math.inf)}
        best |= better
        cohort.remember([*better])
    return cohort.results()


def primary_directions(setting: StudySetup) -> dict[str, dict[str, bool]]:
    """The first metric of each task, and whether higher is better."""
    return {task.name: {task.metrics[0].name: task.metrics[0].higher_is_better} for task in setting.benchmark.tasks}


# --- the table -------------------------------------------------------------------------------------------------------


def read_scores(folder: Path) -> list[Mapping[str, Any]]:
    """What was measured in the repetitions of a benchmark."""
    files = sorted(folder.glob(f"*/{SCORES}"), key=lambda file: int(file.parent.name))
    return [json.loads(file.read_text(encoding="utf-8")) for file in files]


def gain(scores: Mapping[str, Any], who: str) -> float | None:
    """Δm in percent of a repetition against the default under the same seeds, in the mean over these; None without."""
    each = [
        delta_m_over_tasks(scores[who][seed], usual, scores["directions"]) for seed, usual in scores["default"].items()
    ]
    known = [value for value in each if value is not None]
    return statistics.fmean(known) if known and len(known) == len(each) else None


def row(name: str, repetitions: Sequence[Mapping[str, Any]]) -> str:
    """The row of a benchmark."""
    auto, random = ({str(k): gain(each, who) for k, each in enumerate(repetitions)} for who in ("auto", "random"))
    between = paired(auto, random)
    p = "" if between.p_value is None else f" (p = {between.p_value:.2g})"
    times = "; ".join(dict.fromkeys(shown(read_time(each["time"])) for each in repetitions))
    kept = sum(each["chosen"] == USUAL_LABEL for each in repetitions)
    lost = sum(value is None for value in [*auto.values(), *random.values()])
    cells = [
        f"`{name}`",
        times,
        in_percent(mean_interval([*auto.values()])),
        in_percent(mean_interval([*random.values()])),
        in_percent(between.difference) + p + (f"; {lost} without a result" if lost else ""),
        f"{lowest(auto.values())}, {lowest(random.values())}",
        f"{kept} of {len(repetitions)}",
        f"{statistics.median(each['finished'] for each in repetitions):g}",
    ]
    return f"| {' | '.join(cells)} |"


def in_percent(found: Interval) -> str:
    """A mean with its interval."""
    if found.mean is None:
        return "–"
    digits = 1 if found.half_width is None or found.half_width >= _FINE else 2
    half = "" if found.half_width is None else f" ± {found.half_width:.{digits}f}"
    return f"{found.mean:+.{digits}f}{half}".replace("-", "−")


def lowest(gains: Iterable[float | None]) -> str:
    """The gain of the worst repetition."""
    known = [gain for gain in gains if gain is not None]
    if not known:
        return "–"
    digits = 2 if 0 < abs(min(known)) < 1 else 1
    return f"{min(known):+.{digits}f}".replace("-", "−")


def write_table(page: Path, rows: Sequence[str]) -> None:
    """Write the table between its marks."""
    head = [
        "| benchmark | time of each | Δm of auto, % | Δm of random search, % | auto − random, paired | "
        "worst repetition of each | default taken | runs of random search |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    text = page.read_text(encoding="utf-8")
    before, after = text.partition(BEGIN)[0], text.partition(END)[2]
    write_whole(page, "\n".join([before + BEGIN, *head, *rows, END]) + after)


if __name__ == "__main__":
    sys.exit(main())
