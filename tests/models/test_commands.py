"""Architectures and trunks by `mtl train`, `compare` and `search`."""

import json

import pytest

from mtl.benchmarks import BENCHMARKS, MissingData
from mtl.cli.main import main
from mtl.models import ARCHITECTURES

TINY = "tests/tiny.py:Tiny"
SHORT = ["--steps", "2", "--quiet", "--wandb", "disabled"]


def records(directory):
    return [json.loads(line) for line in (directory / "results.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module", params=["multidigits", "rf1"])
def benchmark_name(request):
    try:
        BENCHMARKS[request.param]().load()
    except MissingData as lacking:
        pytest.skip(str(lacking))
    return request.param


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_every_architecture_is_trained(benchmark_name, architecture, tmp_path):
    out = tmp_path / "run"
    arguments = ["train", benchmark_name, "--architecture", architecture, "--model", "mlp:width=8", "--out", str(out)]
    assert main([*arguments, *SHORT]) == 0
    assert [record["status"] for record in records(out)] == ["done"]


def test_strategies_are_compared_on_an_architecture(tmp_path):
    out = tmp_path / "run"
    arguments = ["compare", TINY, "--strategies", "equal", "mgda", "--seeds", "2", "--architecture", "mmoe:experts=2"]
    assert main([*arguments, "--out", str(out), *SHORT]) == 0
    found = records(out)
    assert {record["status"] for record in found} == {"done"}
    assert {record["phase"] for record in found} == {"final", "single_task"}
    assert "architecture: mmoe:experts=2" in (out / "config.yaml").read_text()


def test_a_search_chooses_among_architectures(tmp_path):
    out = tmp_path / "run"
    chosen = "architecture=hard-sharing,mmoe:experts=2"
    arguments = ["search", TINY, "--method", "grid", "--grid-points", "1", "--search", chosen, "lr=0.01"]
    assert main([*arguments, "weight_decay=0", "--members", "2", "--out", str(out), *SHORT]) == 0
    used = {record["hyperparameters"]["architecture"] for record in records(out) if record["phase"] == "search"}
    assert used == {"hard-sharing", "mmoe:experts=2"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["search", TINY, "--search", "architecture=cgc,mmoe"], "pbt: it copies parameters from run to run"),
        (["train", "tests/tiny.py:OwnModel", "--architecture", "mmoe"], "does not look at `architecture`"),
        (["train", TINY, "--architecture", "ple:levels=2"], "ple: levels=2, and the model mlp:width=16,depth=1 has 1"),
    ],
)
def test_what_would_not_work_is_said_in_one_line(arguments, message, tmp_path, capsys):
    assert main([*arguments, "--out", str(tmp_path / "run"), *SHORT]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
