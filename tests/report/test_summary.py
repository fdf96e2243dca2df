from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from mtl.report.read import read_study
from mtl.report.summary import OVER_METRICS, OVER_TASKS, summarize
from mtl.report.tables import ranking
from mtl.report.words import method, notes, verdict
from tests.report.fake_study import TASKS, write_study


def rewrite(directory: Path, change) -> None:  # type: ignore[no-untyped-def]
    path = directory / "results.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(line) + "\n" for line in map(change, lines) if line is not None))


def test_summary_agrees_with_the_runs(tmp_path: Path) -> None:
    study = read_study([write_study(tmp_path, ("equal", "famo", "nash"), histories=False)])
    summary = summarize(study)
    values = [run.metrics["left"]["accuracy"] for run in study.of("final", "famo")]
    entry = summary["strategies"]["famo"]
    assert entry["metrics"]["left"]["accuracy"]["mean"] == pytest.approx(sum(values) / 3)
    assert entry["runs"] == 3
    assert entry["budget"] == {"steps": 2820, "forwards": 2820, "backwards": 2820}
    gains = [summary["strategies"][spec]["delta_m"][OVER_TASKS]["mean"] for spec in summary["ranking"]]
    assert gains == sorted(gains, reverse=True)
    assert set(entry["delta_m"]) == {OVER_TASKS, OVER_METRICS}
    assert summary["strategies"]["equal"]["p_value"] is None
    assert sum(e["mean_rank"]["mean"] for e in summary["strategies"].values()) == pytest.approx(6)


def test_summary_has_no_clock_in_it(tmp_path: Path) -> None:
    directory = write_study(tmp_path, ("equal", "famo"), histories=False)
    before = json.dumps(summarize(read_study([directory])))

    def slower(line):  # type: ignore[no-untyped-def]
        line["cost"].update(seconds=99.0, peak_memory_mb=1.0)
        return line

    rewrite(directory, slower)
    lines = (directory / "results.jsonl").read_text().splitlines(keepends=True)
    (directory / "results.jsonl").write_text("".join(reversed(lines)))
    assert json.dumps(summarize(read_study([directory]))) == before


def test_diverged_runs_rank_last_and_are_counted(tmp_path: Path) -> None:
    diverged = {"famo": (1,), "nash": (0, 1, 2)}
    summary = summarize(read_study([write_study(tmp_path, ("equal", "famo", "nash", "rlw"), diverged=diverged)]))
    assert summary["ranking"][-2:] == ["famo", "nash"]
    assert summary["strategies"]["famo"]["diverged"] == 1
    assert summary["strategies"]["famo"]["metrics"]["left"]["accuracy"]["n"] == 2
    assert summary["strategies"]["nash"]["delta_m"][OVER_TASKS]["mean"] is None
    assert summary["strategies"]["nash"]["mean_rank"]["mean"] > 3.3
    assert summary["strategies"]["nash"]["skipped"] == {"nonfinite_loss": 63}
    text = " ".join(notes(summary))
    assert "famo: of 3 runs 1 diverged" in text
    assert "nash: of 3 runs 3 diverged" in text


def test_one_seed_gives_no_intervals_and_says_so(tmp_path: Path) -> None:
    summary = summarize(read_study([write_study(tmp_path, ("equal", "famo"), (4,), histories=False)]))
    entry = summary["strategies"]["famo"]
    assert entry["delta_m"][OVER_TASKS]["low"] is None
    assert entry["p_value"] is None
    assert "one seed" in verdict(summary) or summary["ranking"][0] == "equal"
    assert "no intervals" in notes(summary)[0]


def test_without_single_task_runs_changes_are_against_the_reference(tmp_path: Path) -> None:
    summary = summarize(read_study([write_study(tmp_path, ("equal", "famo"), single=False, histories=False)]))
    assert summary["baseline"] == "reference"
    assert summary["single_task"] == {}
    assert summary["strategies"]["equal"]["delta_m"][OVER_TASKS]["mean"] == pytest.approx(0, abs=1e-9)


def test_zero_baseline_is_left_out_and_named(tmp_path: Path) -> None:
    directory = write_study(tmp_path, ("equal", "famo"), histories=False)

    def zero(line):  # type: ignore[no-untyped-def]
        if line["task"] == "sum":
            line["metrics"]["sum"]["r2"] = 0.0
        return line

    rewrite(directory, zero)
    summary = summarize(read_study([directory]))
    assert summary["left_out"] == ["sum/r2"]
    assert summary["strategies"]["famo"]["delta_m"][OVER_TASKS]["mean"] is not None
    assert "sum/r2" in " ".join(notes(summary))


def test_nan_becomes_null(tmp_path: Path) -> None:
    directory = write_study(tmp_path, ("equal", "famo"), histories=False)

    def broken(line):  # type: ignore[no-untyped-def]
        if line["strategy"] == "famo" and line["seed"] == 0:
            line["metrics"]["left"]["accuracy"] = float("nan")
        return line

    rewrite(directory, broken)
    summary = summarize(read_study([directory]))
    json.dumps(summary, allow_nan=False)
    assert summary["strategies"]["famo"]["delta_m_by_seed"]["0"] is None
    assert summary["strategies"]["famo"]["delta_m"][OVER_TASKS]["n"] == 2


def test_runs_that_are_still_missing_are_named(tmp_path: Path) -> None:
    directory = write_study(tmp_path, ("equal", "famo", "nash"), histories=False)
    path = directory / "results.jsonl"
    path.write_text("".join(line for line in path.read_text().splitlines(keepends=True) if "final-nash" not in line))
    summary = summarize(read_study([directory]))
    assert summary["ranking"][-1] == "nash"
    assert summary["strategies"]["nash"]["missing"] == 3
    assert "nash (3)" in " ".join(notes(summary))


def test_a_gain_is_no_surer_than_the_baseline_that_it_is_measured_against(tmp_path: Path) -> None:
    directory = write_study(tmp_path, ("equal", "famo"), seeds=range(5), histories=False)
    before = summarize(read_study([directory]))["strategies"]["famo"]["delta_m"]

    def noisier(line):  # type: ignore[no-untyped-def]
        if line["phase"] == "single_task" and line["task"] == "left":
            line["metrics"]["left"]["accuracy"] *= 1 + 0.1 * (line["seed"] - 2)
        return line

    rewrite(directory, noisier)
    after = summarize(read_study([directory]))["strategies"]["famo"]["delta_m"]
    for name in (OVER_TASKS, OVER_METRICS):
        wide, narrow = (entry[name]["high"] - entry[name]["mean"] for entry in (after, before))
        assert wide > 3 * narrow


def sentences(tmp_path: Path, tested: list[float | None], wider: Sequence[float] = ()) -> str:
    """The verdict of a study whose reference is best, with these adjusted p-values of the others, and with those for
    other examples."""
    names = ["equal", *(f"other-{place}" for place in range(len(tested)))]
    summary = summarize(read_study([write_study(tmp_path / str(tested), names, histories=False)]))
    summary["ranking"] = names
    for name, p in zip(names[1:], tested, strict=True):
        summary["strategies"][name]["p_adjusted"] = p
    for name, p in zip(names[1:], wider, strict=False):
        summary["strategies"][name]["over_examples"] = {"p_adjusted": p, "of_examples": 0.5}
    return verdict(summary)


@pytest.mark.parametrize(
    ("tested", "text"),
    [
        ([0.5], "The other strategy does not differ from it significantly."),
        ([0.01], "The other strategy differs from it significantly."),
        ([0.5, 0.5], "None of the 2 others tested differ from it significantly."),
        ([0.01, 0.5], "1 of the 2 others tested differs from it significantly."),
        ([0.01, 0.01], "All of the 2 others tested differ from it significantly."),
        ([0.01, 0.01, 0.5], "2 of the 3 others tested differ from it significantly."),
        ([None], "Nothing could be tested."),
    ],
)
def test_sentences_are_right_for_none_one_and_several(tmp_path: Path, tested: list[float | None], text: str) -> None:
    assert sentences(tmp_path, tested).endswith(text)


@pytest.mark.parametrize(
    ("tested", "wider", "text"),
    [
        ([0.01], [0.02], "differs from it significantly, for other test examples too."),
        ([0.01], [0.2], "differs from it significantly, but could do otherwise on other test examples."),
        ([0.01, 0.01, 0.5], [0.02, 0.2, 0.5], "differ from it significantly, 1 of them for other test examples too."),
        ([0.01, 0.01, 0.5], [0.2, 0.2, 0.5], "differ from it significantly, none of them for other test examples too."),
        ([0.01, 0.01], [0.02, 0.03], "differ from it significantly, for other test examples too."),
        ([0.5, 0.5], [0.5, 0.5], "None of the 2 others tested differ from it significantly."),
    ],
)
def test_it_is_said_how_many_differences_hold_for_other_examples(tmp_path, tested, wider, text) -> None:  # type: ignore[no-untyped-def]
    assert sentences(tmp_path, tested, wider).endswith(text)


def test_equal_results_are_not_ranked(tmp_path: Path) -> None:
    one = {"left": TASKS["left"]}
    directory = write_study(tmp_path, ("equal", "famo", "nash"), tasks=one, single=False, histories=False)
    values = {run.seed: run.metrics for run in read_study([directory]).of("final", "equal")}
    rewrite(directory, lambda line: {**line, "metrics": values[line["seed"]]})
    text = verdict(summarize(read_study([directory])))
    assert text == "All 3 strategies give the same results over 3 seeds: with one task there is nothing to weigh."
    rewrite(
        directory, lambda line: line if line["strategy"] != "nash" else {**line, "metrics": {"left": {"accuracy": 0.1}}}
    )
    assert "equal ranks first, level with famo, of 3 strategies" in verdict(summarize(read_study([directory])))


def test_verdict_when_the_reference_is_best_or_nothing_finished(tmp_path: Path) -> None:
    directory = write_study(tmp_path / "a", ("equal", "famo"), diverged={"famo": (0, 1, 2)}, tasks=TASKS)
    assert "only strategy with finished runs" in verdict(summarize(read_study([directory])))
    lost = {"equal": (0, 1, 2), "famo": (0, 1, 2)}
    directory = write_study(tmp_path / "b", ("equal", "famo"), diverged=lost)
    assert "nothing to rank" in verdict(summarize(read_study([directory])))
    directory = write_study(tmp_path / "c", ("equal", "famo"), diverged={"famo": (0,)})
    assert "no strategy does better" in verdict(summarize(read_study([directory])))


def test_one_task_is_judged_by_the_metric_that_its_runs_were_selected_by(tmp_path: Path) -> None:
    tasks = {
        "sum": {"metrics": {"r2": {"higher_is_better": True}, "mae": {"higher_is_better": False}}, "primary": "mae"}
    }
    directory = write_study(tmp_path, ("equal", "famo", "nash"), tasks=tasks, single=False, histories=False)

    def opposed(line):  # type: ignore[no-untyped-def]
        """The other metric says the contrary, and louder."""
        line["metrics"]["sum"]["r2"] = line["metrics"]["sum"]["mae"] ** 9
        return line

    rewrite(directory, opposed)
    study = read_study([directory])
    summary = summarize(study)
    errors = {
        spec: sum(run.metrics["sum"]["mae"] or 0 for run in study.of("final", spec)) / 3 for spec in study.strategies
    }
    assert summary["judged_by"] == "mae" and summary["ranking"] == sorted(errors, key=lambda spec: errors[spec])
    for spec, entry in summary["strategies"].items():
        gain = 100 * (errors["equal"] - errors[spec]) / errors["equal"]
        assert entry["delta_m"][OVER_TASKS]["mean"] == pytest.approx(gain)
        assert entry["delta_m"][OVER_METRICS]["mean"] == pytest.approx(-gain)
    assert "r2" in summary["strategies"]["famo"]["metrics"]["sum"]
    first, _ = ranking(summary).columns[2:4]
    assert first.title.startswith("gain in mae on equal")
    assert any("that of mae alone" in about for _, about in method(summary))


def test_several_tasks_are_judged_by_all_their_metrics(tmp_path: Path) -> None:
    summary = summarize(read_study([write_study(tmp_path, ("equal", "famo"), histories=False)]))
    assert summary["judged_by"] is None and ranking(summary).columns[2].title.startswith("Δm over tasks")


def with_folds(line, swing):  # type: ignore[no-untyped-def]
    """A run whose metrics move by some share without each of 20 folds; of `famo` in another direction."""
    shares = [swing * (fold - 9.5) / 9.5 * (-1 if line["strategy"] == "famo" else 1) for fold in range(20)]
    line["metrics_without"] = {
        task: {name: value and [value * (1 + share) for share in shares] for name, value in each.items()}
        for task, each in line["metrics"].items()
    }
    return line


def test_a_difference_is_tested_for_other_test_examples_too(tmp_path: Path) -> None:
    seeds = range(6)
    directory = write_study(tmp_path, ("equal", "famo", "nash"), seeds, histories=False, tasks={"left": TASKS["left"]})
    found = {}
    for swing in (0.0, 0.001, 0.2):
        rewrite(directory, lambda line, swing=swing: with_folds(line, swing))
        summary = summarize(read_study([directory]))
        found[swing] = summary["strategies"]["famo"]
        wider = found[swing]["over_examples"]
        # By hand: all differences move alike over folds, so that their covariance is the variance of one of them.
        gains = {spec: summary["strategies"][spec]["delta_m_by_seed"] for spec in ("famo", "equal")}
        differences = np.array([gains["famo"][str(seed)] - gains["equal"][str(seed)] for seed in seeds])
        over_seeds = differences.var(ddof=1) / 6
        assert wider["difference"]["mean"] == pytest.approx(differences.mean())
        error = math.sqrt(over_seeds / (1 - wider["of_examples"]))
        freedom = 5 / (1 - wider["of_examples"]) ** 2
        by_hand = 2 * stats.t.sf(abs(differences.mean()) / error, freedom)
        assert wider["p_value"] == pytest.approx(max(by_hand, found[swing]["p_value"]))
        assert summary["strategies"]["equal"]["over_examples"] is None
    assert found[0.0]["over_examples"]["of_examples"] == 0.0
    assert found[0.0]["over_examples"]["p_value"] == pytest.approx(found[0.0]["p_value"])
    assert found[0.2]["over_examples"]["of_examples"] > 0.9 > found[0.001]["over_examples"]["of_examples"]
    assert found[0.2]["p_value"] == found[0.0]["p_value"], "the test over seeds is as before"
    titles = [column.title for column in ranking(summary).columns]
    assert titles.index("p, other examples") == titles.index("p\u00a0(Holm)") + 1
    assert any(term == "p, other examples" for term, _ in method(summary))


def test_a_variant_that_equals_the_reference_counts_among_the_tested_for_other_examples_too(tmp_path: Path) -> None:
    specs = ("equal", "famo", "nash", "mgda")
    directory = write_study(tmp_path, specs, range(4), histories=False, tasks={"left": TASKS["left"]})

    def same(line):  # type: ignore[no-untyped-def]
        rise = {"famo": 0.01, "nash": 0.02}.get(line["strategy"], 0.0)
        line["metrics"]["left"]["accuracy"] = 0.8 + 0.001 * line["seed"] + rise * (1 + 0.1 * (line["seed"] % 2))
        return with_folds(line, 0.001)

    rewrite(directory, same)
    found = summarize(read_study([directory]))["strategies"]
    assert (found["mgda"]["p_value"], found["mgda"]["over_examples"]["p_value"]) == (1.0, 1.0)
    for seeds, other in ((found[spec], found[spec]["over_examples"]) for spec in ("famo", "nash", "mgda")):
        assert other["p_value"] >= seeds["p_value"] and other["p_adjusted"] >= seeds["p_adjusted"]
    first = min(found[spec]["over_examples"]["p_value"] for spec in ("famo", "nash"))
    assert min(found[spec]["over_examples"]["p_adjusted"] for spec in ("famo", "nash")) == pytest.approx(3 * first)


def test_without_folds_of_every_run_there_is_no_test_for_other_examples(tmp_path: Path) -> None:
    directory = write_study(tmp_path, ("equal", "famo"), histories=False)
    rewrite(directory, lambda line: line if line["seed"] == 1 else with_folds(line, 0.1))
    summary = summarize(read_study([directory]))
    assert summary["strategies"]["famo"]["over_examples"] is None
    assert "p, other examples" not in [column.title for column in ranking(summary).columns]


def test_the_first_sentence_says_whether_a_difference_holds_for_other_examples(tmp_path: Path) -> None:
    directory = write_study(tmp_path, ("equal", "famo"), range(6), histories=False, tasks={"left": TASKS["left"]})

    def better(line):  # type: ignore[no-untyped-def]
        sure = 0.9 if line["strategy"] == "famo" else 0.8
        line["metrics"]["left"]["accuracy"] = sure + 0.001 * line["seed"] ** (2 if sure > 0.8 else 1)
        return line

    rewrite(directory, better)
    assert verdict(summarize(read_study([directory]))).endswith("what other test examples would show is not known.")
    rewrite(directory, lambda line: with_folds(line, 0.0001))
    assert ", for other test examples too (p" in verdict(summarize(read_study([directory])))
    rewrite(directory, lambda line: with_folds(line, 0.2))
    said = verdict(summarize(read_study([directory])))
    assert "significantly ahead" in said and "other examples could turn it (p\u00a0=\u00a0" in said
