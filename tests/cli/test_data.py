"""`mtl data`: what it says of a benchmark's data, and what it refuses."""

import json

import pytest

from mtl.cli.main import main

TINY = "tests/tiny.py"


def test_data_is_described_as_it_is(capsys):
    assert main(["data", f"{TINY}:MissingLabels"]) == 0
    shown = capsys.readouterr().out
    assert "train" in shown and "missing labels: train" in shown and "best constant prediction, test split:" in shown
    assert main(["data", f"{TINY}:MissingLabels", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found["splits"]) == {"train", "validation", "test"}
    assert all(split["examples"] > 0 and split["digest"] for split in found["splits"].values())
    assert sum(task["missing"]["train"] for task in found["tasks"].values()) > 0
    assert f"train {found['splits']['train']['examples']:,}" in shown


@pytest.mark.parametrize(
    ("benchmark", "said"),
    [
        ("multidigts", "did you mean multidigits"),
        (f"{TINY}:WithNaN", "NaN or infinite features"),
        (f"{TINY}:NeedsPackage", "pip install no-such-package"),
    ],
)
def test_data_that_will_not_do_is_refused_in_one_line(benchmark, said, capsys):
    assert main(["data", benchmark]) == 2
    error = capsys.readouterr().err
    assert said in error and error.count("\n") == 1 and error.startswith("mtl: ")


def test_the_list_says_which_data_is_here(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("MTL_DATA", str(tmp_path))
    monkeypatch.setattr("mtl.benchmarks.overlaid._FASHION_OF_DEBIAN", tmp_path / "nowhere")
    assert main(["list", "benchmarks", "--json"]) == 0
    rows = {row["name"]: row["data"] for row in json.loads(capsys.readouterr().out)}
    assert rows["multidigits"] == "ready"
    assert rows["multi-fashion"] == "apt install dataset-fashion-mnist"
