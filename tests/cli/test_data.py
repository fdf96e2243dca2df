"""`mtl data`: what it says of a benchmark's data, and what it refuses."""

import json

import pytest

from mtl.cli.main import main
from mtl.files.yaml_files import read_values

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


@pytest.fixture
def table(tmp_path):
    path = tmp_path / "homes.csv"
    rows = [f"{k % 37},{('Ulm', 'Bonn')[k % 2]},{k % 37 + 3 * (k % 2)},{k % 2}" for k in range(120)]
    path.write_text("\n".join(["size,town,price,sold", *rows]) + "\n", encoding="utf-8")
    return path


def test_a_table_shows_what_its_columns_were_taken_for(table, capsys):
    assert main(["data", str(table), "--target", "price", "sold"]) == 0
    out = capsys.readouterr().out
    assert "price: regression" in out and "sold: binary, is it '1'" in out and "inputs that are words: town" in out


def test_classes_that_a_split_lacks_and_metrics_without_a_value_are_said(tmp_path, capsys):
    path = tmp_path / "rare.csv"
    rows = "".join(f"{k / 7},{('train', 'val', 'test')[k % 3]},{int(k % 21 < 2)},{k % 2}\n" for k in range(120))
    path.write_text("a,split,rare,b\n" + rows, encoding="utf-8")
    assert main(["data", str(path), "--target", "rare", "b"]) == 0
    out = capsys.readouterr().out
    assert "task 'rare': its test split has no example of class '1'" in out
    assert "no value of metrics 'auc', 'average_precision' will be given" in out
    assert main(["data", str(path), "--target", "b", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["remarks"] == []


def test_a_table_is_trained_on_and_resumed_under_its_full_name(table, capsys, monkeypatch):
    monkeypatch.chdir(table.parent)
    command = ["train", "homes.csv", "--target", "price", "--steps", "5", "--wandb", "disabled", "--out", "run"]
    assert main(command) == 0
    assert main([*command, "--resume"]) == 0
    config = read_values(table.parent / "run" / "config.yaml")
    assert config["benchmark"] == f"{table.resolve()}:price"
    assert "price: regression" in capsys.readouterr().err


def test_target_is_for_tables_alone(capsys):
    assert main(["data", "multidigits", "--target", "x"]) == 2
    assert "'multidigits' is no table; .csv or .tsv is wanted" in capsys.readouterr().err
