"""`mtl train` that `torchrun` starts several times: one run, and what ends it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from mtl.cli.main import main
from tests.processes import ROOT, descendants

TINY = "tests/tiny.py:Tiny"
OPTIONS = ["--device=cpu", "--wandb=disabled"]


@pytest.fixture
def second(monkeypatch):
    """As in the leading of two processes of `torchrun`, before it has met the other."""
    for name, value in {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("second")
@pytest.mark.parametrize("command", ["compare", "search"])
def test_other_commands_are_refused(command, capsys):
    assert main([command, TINY]) == 2
    assert f"mtl {command}: torchrun started 2 processes, and only mtl train divides" in capsys.readouterr().err


@pytest.mark.usefixtures("second")
@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--batch-size=1"], "a batch of 1 examples cannot be divided among 2 processes"),
        (["--accumulate=20"], "a batch of 32 examples, in 20 micro-batches, cannot be divided among 2 processes"),
        (["--strategy=auxilearn"], "torchrun started 2 processes: auxilearn needs the Hessian of a whole batch in one"),
    ],
)
def test_what_cannot_be_divided_is_said_before_anything_is_written(arguments, line, capsys, tmp_path):
    assert main(["train", TINY, *arguments, *OPTIONS, f"--out={tmp_path / 'run'}"]) == 2
    assert line in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.usefixtures("second")
def test_the_others_say_nothing(monkeypatch, capsys):
    monkeypatch.setenv("RANK", "1")
    assert main(["compare", TINY]) == 2
    assert capsys.readouterr() == ("", "")


def start(out, *arguments, launcher="mtl.cli.launch", benchmark=TINY):
    command = [sys.executable, "-m", launcher, "--standalone", "--nproc-per-node=2", "-m", "mtl", "train", benchmark]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    return subprocess.Popen(
        [*command, *OPTIONS, f"--out={out}", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process, code=0):
    said, errors = process.communicate(timeout=180)
    assert process.returncode == code, errors
    return said, errors


def recorded(out):
    (line,) = (out / "results.jsonl").read_text().splitlines()
    return json.loads(line)


@pytest.mark.slow
def test_it_is_the_run_of_one_process_and_one_process_speaks(tmp_path):
    said, errors = finish(start(tmp_path / "two", "--strategy=mgda", launcher="torch.distributed.run"))
    assert said.count("Report:") == 1 and "Traceback" not in errors
    assert main(["train", TINY, "--strategy=mgda", *OPTIONS, f"--out={tmp_path / 'one'}"]) == 0
    one, two = recorded(tmp_path / "one"), recorded(tmp_path / "two")
    for task, values in one["metrics"].items():
        assert two["metrics"][task] == pytest.approx(values, abs=1e-5)
    assert two["cost"]["steps"] == one["cost"]["steps"] and two["status"] == "done"


def begun(process, out):
    """The process that follows, once there is a checkpoint."""
    end = time.monotonic() + 120
    while not list(out.glob("checkpoints/*.pt")):
        assert time.monotonic() < end and process.poll() is None, process.communicate()
        time.sleep(0.05)
    ranks = {}
    for pid in descendants(process.pid):
        with open(f"/proc/{pid}/environ", "rb") as file:
            found = dict(pair.split(b"=", 1) for pair in file.read().split(b"\0") if b"=" in pair)
        if b"RANK" in found:
            ranks[int(found[b"RANK"])] = pid
    return ranks[1]


@pytest.mark.slow
def test_a_signal_stops_all_with_75_and_resume_goes_on_to_the_same_numbers(tmp_path):
    options = ["--strategy=famo", "--epochs=60"]
    process = start(tmp_path / "cut", *options)
    begun(process, tmp_path / "cut")
    process.send_signal(signal.SIGUSR1)
    _, errors = finish(process, 75)
    assert errors.count("stopped; the same command with --resume") == 1
    assert not (tmp_path / "cut" / "results.jsonl").exists()
    finish(start(tmp_path / "cut", *options, "--resume"))
    finish(start(tmp_path / "whole", *options))
    assert recorded(tmp_path / "cut")["metrics"] == recorded(tmp_path / "whole")["metrics"]
    cut, whole = (torch.load(tmp_path / name / "checkpoints" / "best.pt") for name in ("cut", "whole"))
    assert str(cut) == str(whole)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others_with_a_line(tmp_path):
    process = start(tmp_path / "run", "--epochs=2000")
    os.kill(begun(process, tmp_path / "run"), signal.SIGKILL)
    _, errors = process.communicate(timeout=180)
    # torchrun looks ten times a second: where both have ended in between, it tells the code of either.
    assert process.returncode in (137, 1), errors
    assert "process 0 of 2: the connection to the others is lost" in errors
    assert not (tmp_path / "run" / "results.jsonl").exists()


BROKEN = """
import os
from torch.utils.data import Dataset
from mtl.benchmarks import Splits
from tests.tiny import Tiny

class Pairs(Dataset):
    def __init__(self, split, broken=()):
        self.split, self.broken, self.read = split, broken, 0
    def __len__(self):
        return len(self.split)
    def __getitem__(self, number):
        self.read += 1
        if os.environ.get("RANK") in self.broken and self.read > 200:
            raise OSError("the disk is gone")
        return self.split.inputs[number], {task: target[number] for task, target in self.split.targets.items()}
    def target(self, number):
        return {task: target[number] for task, target in self.split.targets.items()}

class Broken(Tiny):
    rank = "RANKS"
    def load(self):
        train, validation, test = (split for _, split in super().load().items())
        return Splits(Pairs(train, self.rank), Pairs(validation), Pairs(test))
"""


@pytest.mark.slow
@pytest.mark.parametrize("rank", ["0", "1"])
def test_data_that_one_process_cannot_read_ends_all_and_is_said(tmp_path, rank):
    (tmp_path / "broken.py").write_text(BROKEN.replace("RANKS", rank), encoding="utf-8")
    _, errors = finish(start(tmp_path / "run", "--epochs=50", benchmark=f"{tmp_path / 'broken.py'}:Broken"), 1)
    assert (
        "cannot be read: OSError: the disk is gone" in errors
        and "Traceback (most recent call last):\n  File" not in errors
    )
    assert (tmp_path / "run" / "results.jsonl").exists() == (rank == "0")
