"""`mtl search --methods`: several methods at equal steps, in one report."""

from pathlib import Path

import pytest

from mtl.cli.main import main
from mtl.files.yaml_files import read_values
from tests.written import records_of, summary_of

TINY = str(Path(__file__).parents[1] / "tiny.py") + ":Tiny"
RATE = ["--search", "lr=1e-4:1e-1:log", "weight_decay=0", "--steps=8", "--interval=4"]
QUIET = ("--wandb=disabled", "--quiet", "--keep-models=none")


def search(out, *arguments):
    return main(["search", TINY, *arguments, *QUIET, f"--out={out}"])


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    out = tmp_path_factory.mktemp("methods")
    assert search(out, "--methods", "grid", "random", "pbt", "asha", "--trials=4", *RATE) == 0
    return out


def test_methods_make_equal_steps_and_one_that_stops_runs_early_begins_more(finished):
    methods = summary_of(finished)["methods"]
    steps = {name: entry["budget"]["steps"] for name, entry in methods.items()}
    assert steps["grid"] == steps["random"] == steps["pbt"] == 4 * 8
    assert 0.7 * 32 <= steps["asha"] <= 1.3 * 32
    # Each of asha's makes 4 steps, and one in three 4 more: six take 32, as four whole ones do.
    assert {name: entry["runs"] for name, entry in methods.items()} == {"grid": 4, "random": 4, "pbt": 4, "asha": 6}
    assert summary_of(finished)["equal_steps"] == min(steps.values())


def test_the_value_at_equal_steps_is_the_best_of_all_evaluations_until_then(finished):
    summary = summary_of(finished)
    for name, entry in summary["methods"].items():
        values = []
        for record in records_of(finished / name):
            curves = read_values(finished / name / record["history"])
            pairs = zip(curves["search_spent"], curves["search_scores"], strict=True)
            values += [scores[0] for spent, scores in pairs if spent <= summary["equal_steps"]]
        assert entry["at_equal_steps"] == max(values)
    ranked = [summary["methods"][name]["at_equal_steps"] for name in summary["ranking"]]
    assert ranked == sorted(ranked, reverse=True)


def test_one_report_shows_all_and_how_the_winner_of_all_is_trained(finished, tmp_path):
    summary, page = summary_of(finished), (finished / "report.html").read_text()
    for name in summary["methods"]:
        assert f'href="{name}/report.html"' in page and (finished / name / "report.html").exists()
    assert "<svg" in page and "nan" not in (finished / "tables" / "methods.csv").read_text().lower()
    best = max(entry["best"]["objective"]["selection"] for entry in summary["methods"].values() if entry["best"])
    assert summary["methods"][summary["winner"]]["best"]["objective"]["selection"] == best
    assert main(["train", "--config", str(finished / "best.yaml"), *QUIET, f"--out={tmp_path}"]) == 0
    [record], won = records_of(tmp_path), summary["methods"][summary["winner"]]["best"]
    assert record["strategy"] == won["strategy"] and record["seed"] == won["seed"]


def test_a_finished_comparison_of_methods_is_resumed_and_takes_more_of_them(finished, capsys):
    before = {name: (finished / name / "results.jsonl").read_bytes() for name in ("grid", "random")}
    assert search(finished, "--methods", "grid", "random", "--trials=4", *RATE) == 2
    assert "already holds a run: --resume continues it" in capsys.readouterr().err
    assert search(finished, "--methods", "grid", "random", "evolution", "--trials=4", "--resume", *RATE) == 0
    assert {name: (finished / name / "results.jsonl").read_bytes() for name in before} == before
    assert [*summary_of(finished)["methods"]] == ["grid", "random", "evolution"]
    assert main(["report", str(finished)]) == 0  # finds all five
    assert len(summary_of(finished)["methods"]) == 5


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--methods", "tpe"], "--methods tpe: there is nothing to compare it with"),
        (["--methods", "tpe", "random", "tpe"], "--methods: tpe is given twice"),
        (["--methods", "tpe", "randm"], "unknown method 'randm': did you mean random"),
        (["--methods", "tpe", "random", "--method=pbt"], "--method pbt: --methods names those"),
        (["--methods", "tpe", "random", "--members=4"], "--members 4: each of --methods has its own"),
        (["--methods", "tpe", "random", "--eta=4"], "--eta 4.0: tpe, random have no use for it"),
        (["--methods", "grid", "random", "--strategy=gradnorm"], "grid: the space has 16 points with two values"),
        (["--methods", "cmaes", "random", "--trials=2"], "--trials 2: cmaes needs at least 4"),
        (["--methods", "pbt", "random", "--objective", "sign/accuracy", "product/mae"], "pbt pursues one objective"),
        (["--methods", "pbt", "random", "--engine=tune"], "--methods: --engine tune has no methods"),
    ],
)
def test_what_is_wrong_is_said_in_a_line_before_work_starts(arguments, said, capsys, tmp_path):
    trials = [] if any("trials" in each for each in arguments) else ["--trials=8"]
    assert search(tmp_path / "out", *arguments, *trials, "--steps=8") == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and not (tmp_path / "out").exists()


def test_searches_of_different_problems_are_not_merged(finished, tmp_path, capsys):
    assert search(tmp_path / "tpe", "--method=tpe", "--trials=4", "--search", "lr=1e-4:1e-1:log", "--steps=4") == 0
    assert main(["report", str(finished / "grid"), str(tmp_path / "tpe"), f"--out={tmp_path / 'both'}"]) == 2
    assert "was made with another training" in capsys.readouterr().err
