"""The table of decisions: its arithmetic, and that what it compares is what it says."""

import json
import sys
from pathlib import Path

import pytest
import torch

from mtl.study.setup import StudySetup
from mtl.train import Settings
from tests.auto.ticking import Ticking
from tests.tiny import Tiny

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(DOCS))
    import auto_table

    yield auto_table
    sys.modules.pop("auto_table", None)


def scores(auto, random, *, chosen="found-1", finished=4):
    """A repetition with one seed: two tasks whose first metrics are 0.5, higher is better, and 2, lower is better."""

    def run(share):
        return {"7": {"a": {"auc": 0.5 * (1 + share), "f1": 0.1}, "b": {"mae": 2.0 * (1 - share)}}}

    return {
        "time": "90s", "chosen": chosen, "finished": finished, "directions": {"a": {"auc": True}, "b": {"mae": False}},
        "default": run(0.0), "auto": run(auto), "random": {"7": {}} if random is None else run(random),
    }  # fmt: skip


def test_a_gain_is_the_mean_over_tasks_against_the_default(script):
    assert script.gain(scores(0.1, -0.2), "auto") == pytest.approx(10)
    assert script.gain(scores(0.1, -0.2), "random") == pytest.approx(-20)
    assert script.gain(scores(0.0, 0.1), "auto") == 0
    assert script.gain(scores(0.1, None), "random") is None


def test_a_row_has_both_against_the_default_and_against_each_other(script):
    row = script.row("tiny", [scores(0.1, 0.05), scores(0.2, 0.15, finished=8), scores(0.0, -0.1, chosen="default")])
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:2] == ["`tiny`", "1:30 min"] and cells[5:] == ["+0.0, −10.0", "1 of 3", "4"]
    assert cells[2:4] == ["+10.0 ± 24.8", "+3.3 ± 31.3"] and cells[4].startswith("+6.7 ± 7.2 (p = 0.057)")
    lost = script.row("tiny", [scores(0.1, None), scores(0.2, 0.15), scores(0.0, -0.1)])
    assert "; 1 without a result" in lost


def test_the_table_stands_between_its_marks_and_can_be_written_again(script, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{script.BEGIN}\n{script.END}\n\nafter\n")
    for rows in (["| one |", "| two |"], ["| three |"]):
        script.write_table(page, rows)
    text = page.read_text()
    assert "| three |\n<!-- to here -->\n\nafter\n" in text and "one" not in text and text.startswith("before\n")
    assert script.BEGIN in (DOCS / "auto.md").read_text()


def test_a_random_search_takes_the_best_of_the_runs_that_it_finished_in_its_time(script):
    benchmark = Tiny()
    setting = StudySetup(benchmark, benchmark.load(), Settings.of(benchmark.recipe), torch.device("cpu"))
    few, more = (script.random_search(setting, limit, 0, now=Ticking(0.01)) for limit in (0.1, 2.0))
    assert few == {"values": None, "selection": None, "finished": 0}
    assert more["finished"] > 1 and more["values"]["strategy"] and json.loads(json.dumps(more)) is not None
    again = script.random_search(setting, 2.0, 0, now=Ticking(0.01))
    assert again == more
    point = script.Point(more["values"], 24)
    metrics = script.measured(setting, point, [3, 4])
    assert {*metrics} == {"3", "4"} and all(found["product"]["mae"] > 0 for found in metrics.values())
    assert metrics["3"] != metrics["4"]
    assert script.primary_directions(setting) == {"sign": {"accuracy": True}, "product": {"mae": False}}


@pytest.mark.slow
def test_a_repetition_is_done_once(script, tmp_path, capfd):
    folder = tmp_path / "tiny" / "0"
    assert script.repeated("tests/tiny.py:Tiny", folder, "6s", 0, 2)
    (found,) = script.read_scores(tmp_path / "tiny")
    assert found["finished"] > 0 and {*found["auto"]} == {*found["default"]} == {"50", "51"}
    assert script.gain(found, "auto") is not None and script.row("tiny", [found]).startswith("| `tiny` | 6 s |")
    capfd.readouterr()
    assert script.repeated("tests/tiny.py:Tiny", folder, "6s", 0, 2) and not capfd.readouterr().out
