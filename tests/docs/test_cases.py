"""The case studies: their pages say what was measured, and their commands run."""

import importlib
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

from mtl.stats import paired

ROOT = Path(__file__).parents[2]
CASES = ROOT / "docs" / "cases"
NAMES = sorted(path.stem for path in CASES.glob("*.md") if path.stem != "README")


@pytest.fixture
def cases(monkeypatch):
    """The script that makes the pages."""
    monkeypatch.syspath_prepend(str(CASES))
    modules = ("make", "draw", "show")
    yield importlib.import_module("make")
    for name in modules:
        sys.modules.pop(name, None)


@pytest.mark.parametrize("name", NAMES)
def test_a_page_says_what_its_numbers_say(name, cases):
    assert cases.written(name, CASES) == (CASES / f"{name}.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", NAMES)
def test_a_page_has_a_question_data_commands_an_answer_and_what_would_change_it(name, cases):
    page = (CASES / f"{name}.md").read_text(encoding="utf-8")
    heads = ("question", "data", "commands", "answer")
    assert [f"**The {head}.**" in page for head in heads] == [True] * len(heads)
    assert "**What would change it.**" in page
    assert cases.commands(page) and "<!-- show: " in page
    assert f"({name}.md)" in (CASES / "README.md").read_text(encoding="utf-8")
    pictures = cases.pictures(name)
    assert pictures and all((CASES / file).stat().st_size < 60_000 for file in pictures)
    for link in re.findall(r"\]\(([^)#]+)\)", page):
        assert link.startswith("http") or (CASES / link).exists(), link


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_commands_of_a_page_run_small(name, cases, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    cases.make(name, tmp_path / "runs", tmp_path / "made", small=True)
    made = (tmp_path / "made" / f"{name}.md").read_text(encoding="utf-8")
    assert made != (CASES / f"{name}.md").read_text(encoding="utf-8")
    for file in cases.pictures(name):
        assert (tmp_path / "made" / file).read_text(encoding="utf-8").startswith("<?xml")


def of(page, run, metric):
    """The values of a metric by variant and seed."""
    kept = json.loads((CASES / f"{page}.json").read_text(encoding="utf-8"))
    task, name = metric.split("/")
    found = {}
    for record in kept["runs"][run]["runs"]:
        found.setdefault(record["strategy"], {})[record["seed"]] = record["metrics"][task][name]
    return found


def test_the_tuned_loss_that_validation_chose_beats_plain_cross_entropy_in_macro_f1():
    found = of("imbalance", "income-tuned", "income/macro_f1")
    plain, chosen = found["loss.income=CrossEntropyLoss"], found["loss.income=cross-entropy:class_weights=effective"]
    test = paired(chosen, plain)
    assert len(plain) == 5 and test.difference.low > 0 and test.p_value < 0.05


@pytest.mark.parametrize("other", ["mse", "mae"])
def test_the_tuned_huber_loss_beats_the_others_in_mae_on_clean_test_data(other):
    found = of("outliers", "friedman", "value/mae")
    test = paired(found["loss.value=huber"], found[f"loss.value={other}"])
    assert test.difference.n == 5 and test.difference.high < 0 and test.p_value < 0.05


def test_loops_and_names_of_the_shell_are_unrolled(cases):
    page = (
        "```sh\nLOSSES=mse,mae\nfor a in x y; do\n  for b in 1 2; do\n"
        "    mtl search d --method $a --seed $b --out runs/$a-${b}\n  done\ndone\n"
        "mtl compare d \\\n  --vary loss.v=$LOSSES --out runs/c\nmtl list losses\n```\n"
    )
    lines = [shlex.join(each) for each in cases.commands(page)]
    assert lines[:2] == ["search d --method x --seed 1 --out runs/x-1", "search d --method x --seed 2 --out runs/x-2"]
    assert lines[4] == "compare d --vary loss.v=mse,mae --out runs/c" and len(lines) == 5


def test_a_command_without_a_directory_is_refused(cases):
    with pytest.raises(ValueError, match="has no --out"):
        cases.commands("```sh\nmtl compare d --vary loss.v=mse,mae\n```\n")


@pytest.mark.usefixtures("cases")
def test_an_answer_is_that_of_validation_data_and_says_when_it_is_not_sure():
    from show import shown

    def record(strategy, seed, test, validation):
        metrics = {"v": {"mae": test}}
        return {
            "strategy": strategy, "seed": seed, "hyperparameters": {}, "status": "done",
            "metrics": metrics, "validation": {"v": {"mae": validation}},
        }  # fmt: skip

    about = {"primary": "mae", "metrics": {"mae": {"higher_is_better": False, "perfect": 0.0, "constant": 1.0}}}
    values = {"a": (0.5, 0.6, 0.55), "b": (0.4, 0.49, 0.46), "c": (0.1, 0.9, 0.5)}
    runs = [
        record(name, seed, v, {"a": 3, "b": 2, "c": 1}[name])
        for name, of in values.items()
        for seed, v in enumerate(of)
    ]
    results = {"runs": {"r": {"reference": "a", "searched": 0, "tasks": {"v": about}, "runs": runs}}}
    assert "choose `c`" in (said := shown(["answer", "r", "v/mae"], results)) and "not surely apart from** `a`" in said
    results["runs"]["r"]["runs"] = [each for each in runs if each["strategy"] != "c"]
    assert "choose `b`. On test data it is **better than** `a`" in shown(["answer", "r", "v/mae"], results)
    rows = shown(["table", "r", "v/mae"], results).splitlines()
    assert rows[2].startswith("| `b` | 0.450 ± 0.11") or rows[2].startswith("| `b` | 0.45 ± 0.11")
    assert rows[3].endswith("| reference |  |")


@pytest.mark.usefixtures("cases")
def test_validation_data_choose_by_their_own_selection_and_not_by_constants_of_test_data():
    from show import measured

    about = {"primary": "mae", "metrics": {"mae": {"higher_is_better": False, "perfect": 0.0, "constant": 2.0}}}
    record = {"strategy": "a", "seed": 0, "status": "done", "selection": 0.3}
    record |= {"metrics": {"v": {"mae": 1.0}}, "validation": {"v": {"mae": 1.0}}}
    run = {"tasks": {"v": about}, "runs": [record]}
    assert measured(run, "skill").values == {"a": {0: 0.5}}
    assert measured(run, "skill", "validation").values == {"a": {0: 0.3}}
