"""Runs made on other data, or with another loss or metric, are not mixed."""

import functools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from mtl.benchmarks import Split, Splits
from mtl.benchmarks.digest import described, difference, of_splits
from mtl.cli.main import main
from mtl.losses import Huber
from mtl.metrics import mae
from tests.written import records_of

ROOT = Path(__file__).parents[2]

USERS = """
import functools
import torch
from mtl.benchmarks import Split, Splits, Task
from mtl.losses import CrossEntropy
from mtl.metrics import Metric, accuracy, mae
from tests.tiny import Tiny

def scaled(prediction, target, scale):
    return SCALE * scale * (prediction.reshape(-1) - target).square().mean()

class Weighted(torch.nn.Module):
    def __init__(self, weight):
        super().__init__()
        self.register_buffer("weight", torch.tensor([weight]))
    def forward(self, prediction, target):
        return (self.weight * (prediction.reshape(-1) - target).abs()).mean()

far = Metric("far", lambda guess, truth: float((abs(guess - truth) > LIMIT).mean()), False, 0.0)

class Mine(Tiny):
    name = "mine"
    tasks = (Task("sign", CrossEntropy(), (accuracy,), 2), Task("product", LOSS, (mae, far)))
    def load(self):
        splits = super().load()
        return Splits(splits.train, splits.validation, TEST)
"""
FILLED = {
    "SCALE": "1.0",
    "LIMIT": "0.5",
    "LOSS": "functools.partial(scaled, scale=2.0)",
    "TEST": "splits.test",
}
CHANGES = {
    "function": ({"SCALE": "3.0"}, "task 'product': its loss"),
    "partial": ({"LOSS": "functools.partial(scaled, scale=2.5)"}, "scale=2.0"),
    "module": ({"LOSS": "Weighted(2.0)"}, "Weighted(weight=tensor(1,)"),
    "metric": ({"LIMIT": "0.7"}, "its metric far"),
    "data": ({"TEST": "Split(splits.test.inputs + 1, splits.test.targets)"}, "the data of the test split"),
}


def write(path, **changes):
    text = USERS
    for name, value in {**FILLED, **changes}.items():
        text = text.replace(name, value)
    path.write_text(text)
    return f"{path}:Mine"


def compare(benchmark, out, *extra):
    options = ["--strategies", "equal", "--no-single-task", "--steps=4", "--wandb=disabled", "--quiet"]
    return main(["compare", benchmark, *options, "--out", str(out), *extra])


@pytest.mark.parametrize(
    "change", [pytest.param(name, marks=() if name in ("function", "data") else pytest.mark.slow) for name in CHANGES]
)
def test_resuming_and_merging_refuse_what_was_made_on_something_else(change, tmp_path, capsys):
    changes, message = CHANGES[change]
    file = tmp_path / "mine.py"
    assert compare(write(file), tmp_path / "first", "--seeds=1") == 0
    benchmark = write(file, **changes)
    capsys.readouterr()
    assert compare(benchmark, tmp_path / "first", "--seeds=2", "--resume") == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert compare(benchmark, tmp_path / "second", "--seeds=1", "--seed=1") == 0
    capsys.readouterr()
    assert main(["report", str(tmp_path / "first"), str(tmp_path / "second")]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.slow
@pytest.mark.parametrize("loss", [FILLED["LOSS"], "Weighted(2.0)", "lambda p, t: (p.reshape(-1) - t).abs().mean()"])
def test_jobs_of_one_seed_each_with_a_loss_of_the_users_merge(loss, tmp_path):
    benchmark = write(tmp_path / "mine.py", LOSS=loss)
    assert compare(benchmark, tmp_path / "a" / "0", "--seeds=1") == 0
    command = ["compare", benchmark, "--strategies", "equal", "--no-single-task", "--steps=4", "--wandb=disabled"]
    other = [*command, "--seeds=1", "--seed=1", f"--out={tmp_path / 'a' / '1'}"]
    subprocess.run([sys.executable, "-m", "mtl", *other], cwd=ROOT, check=True, capture_output=True)
    assert main(["report", str(tmp_path / "a")]) == 0
    assert json.loads((tmp_path / "a" / "summary.json").read_text())["seeds"] == [0, 1]


def test_data_that_is_drawn_anew_at_each_load_is_refused(tmp_path, capsys):
    drawn = "Split(torch.randn(64, 10), splits.test.targets)"
    assert compare(write(tmp_path / "mine.py", TEST=drawn), tmp_path / "run", "--seeds=1") == 2
    assert "load() gives another test split each time it is called" in capsys.readouterr().err


def test_every_record_carries_digests_and_a_run_of_another_study_is_named(tmp_path, capsys):
    out = tmp_path / "run"
    benchmark = write(tmp_path / "mine.py")
    assert compare(benchmark, out, "--seeds=1") == 0
    (record,) = records_of(out)
    assert list(record["digests"]) == ["train", "validation", "test", "task sign", "task product"]
    moved = {**record, "run": "final-equal-7", "seed": 7, "digests": {**record["digests"], "test": "0" * 16}}
    with (out / "results.jsonl").open("a") as file:
        file.write(json.dumps(moved) + "\n")
    assert main(["report", str(out)]) == 2
    assert "run final-equal-7" in (error := capsys.readouterr().err) and "the data of the test split" in error


def test_studies_without_digests_are_still_read_and_gone_on_with(tmp_path):
    out, benchmark = tmp_path / "run", write(tmp_path / "mine.py")
    assert compare(benchmark, out, "--seeds=1") == 0
    config = yaml.safe_load((out / "config.yaml").read_text())
    del config["digests"]
    for task in config["tasks"].values():
        task["loss"] = "<function scaled at 0x7f0011223344>"
        del task["outputs"]
        for metric in task["metrics"].values():
            del metric["computed"]
    (out / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    assert main(["report", str(out)]) == 0
    assert compare(benchmark, out, "--seeds=2", "--resume") == 0


def test_a_setting_that_differs_is_named_where_it_would_drop_a_run(tmp_path, capsys):
    benchmark = write(tmp_path / "mine.py")
    for name, rate in (("a", "0.1"), ("b", "0.01")):
        assert compare(benchmark, tmp_path / name, "--seeds=1", f"--lr={rate}") == 0
    capsys.readouterr()
    assert main(["report", str(tmp_path / "a"), str(tmp_path / "b")]) == 2
    assert "differ in training.lr (0.1; 0.01)" in (error := capsys.readouterr().err) and "final-equal-0" in error


def test_a_split_is_known_by_shapes_types_and_bytes():
    def digest(inputs, target):
        split = Split(inputs, {"a": target})
        return of_splits(Splits(split, split, split))["train"]

    x, y = torch.arange(12.0).reshape(4, 3), torch.tensor([0.0, torch.nan, 1.0, 2.0])
    same = digest(x, y)
    assert same == digest(x.t().contiguous().t(), y.clone())
    others = [digest(x.reshape(4, 3, 1), y), digest(x.double(), y), digest(x, y + 1), digest(x.bfloat16(), y)]
    assert len({same, *others}) == 5


def test_a_split_is_known_by_each_tensor_of_its_inputs():
    def digest(inputs):
        split = Split(inputs, {"a": torch.ones(4)})
        return of_splits(Splits(split, split, split))["train"]

    tokens, mask = torch.arange(8).reshape(4, 2), torch.ones(4, 2, dtype=torch.bool)
    other = mask.clone()
    other[3, 1] = False
    same = digest({"tokens": tokens, "deep": (mask, [mask])})
    assert same == digest({"tokens": tokens.clone(), "deep": (mask.clone(), [mask])})
    changed = [{"tokens": tokens, "deep": (mask, [other])}, {"tokens": tokens + 1, "deep": (mask, [mask])}]
    named = [{"tokens": tokens, "deeper": (mask, [mask])}, {"tokens": tokens, "deep": (mask, (mask,))}]
    assert len({same, *map(digest, changed + named)}) == 5


def test_what_a_loss_is_made_of_has_no_address_in_it():
    def made(scale):
        return lambda p, t: scale * (p - t).sum()

    holds_itself = {}
    holds_itself["me"] = holds_itself
    things = [
        Huber(0.3), torch.nn.functional.mse_loss, torch.nn.BCEWithLogitsLoss(pos_weight=torch.ones(2)), made(2.0),
        functools.partial(torch.nn.functional.huber_loss, delta=0.5), made(np.ones(3)), max, "text".count, holds_itself,
    ]  # fmt: skip
    texts = [described(thing) for thing in things]
    assert len(set(texts)) == len(texts) and not any(" at 0x" in text for text in texts)
    assert texts[:2] == ["huber:delta=0.3", "torch.nn.functional.mse_loss"]
    assert described(made(2.0)) == described(made(2.0)) != described(made(3.0))
    assert described(mae.function) == "mtl.metrics._mae"  # wherever it stands in its room
    assert described(torch.nn.MSELoss()) != described(torch.nn.MSELoss(reduction="sum"))


def test_nothing_recorded_is_no_difference():
    tasks = {"a": {"loss": "mse", "metrics": {"mae": {"higher_is_better": False}}}}
    assert difference({"tasks": tasks}, {"tasks": tasks, "digests": {"train": "1"}}) is None
