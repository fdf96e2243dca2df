"""Random searches, a fixed number of draws: killed, stopped and resumed, replayed, or trained again by best.yaml."""

import contextlib
import json
import os
import random
import signal
from types import SimpleNamespace

import pytest
import torch

from mtl.cli.main import main
from tests.population.problem import close
from tests.search.any_search import draw_search
from tests.written import records_of, summary_of

ALIKE = ["--wandb=disabled", "--quiet", "--keep-models=none"]
DRAWS = (30, 31, 33)  # epbt whose best evaluation was taken over, random, epbt with a schedule

pytestmark = pytest.mark.usefixtures("float64")


class Killed(BaseException):
    """Nothing more happens, as in a process that was killed."""


class Disk:
    """Counts what is written to the disk for good, and lets something happen at one of these moments."""

    def __init__(self, sync, at=0, happens=lambda: None):
        self.sync, self.at, self.happens, self.count = sync, at, happens, 0

    def __call__(self, file):
        self.count += 1
        if self.count == self.at:
            self.happens()
        self.sync(file)


def killed():
    raise Killed


def interrupted():
    os.kill(os.getpid(), signal.SIGINT)


def call(*arguments):
    return main([str(argument) for argument in arguments])


@pytest.fixture(scope="module", params=DRAWS)
def searched(request, tmp_path_factory):
    """A search that nothing disturbed, without the pictures of its report, which take longer than the search."""
    benchmark, options = draw_search(request.param)
    out = tmp_path_factory.mktemp("any") / "whole"
    before = torch.get_default_dtype()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("mtl.report.search.figures.draw_search", lambda *_given: {})
        disk = Disk(os.fsync)
        patched.setattr(os, "fsync", disk)
        torch.set_default_dtype(torch.float64)
        command = ["search", benchmark, *ALIKE, *options]
        assert call(*command, f"--out={out}") == 0
        torch.set_default_dtype(before)
        patched.setattr(os, "fsync", disk.sync)
        yield SimpleNamespace(out=out, command=command, writes=disk.count, seed=request.param)


def shown(out):
    """All that a search leaves but what depends on the clock."""
    records = [{**record, "cost": record["cost"]["steps"]} for record in records_of(out)]
    curves = [json.loads((out / record["history"]).read_text()) for record in records]
    return records, curves, summary_of(out), (out / "schedule.jsonl").read_text(), (out / "best.yaml").read_text()


def test_killed_and_stopped_searches_go_on_bit_for_bit(searched, tmp_path, monkeypatch):
    draw, sync = random.Random(searched.seed), os.fsync
    for happens in (killed, interrupted):
        monkeypatch.setattr(os, "fsync", Disk(sync, draw.randint(4, searched.writes // 2), happens))
        with contextlib.suppress(Killed):
            assert call(*searched.command, "--resume", f"--out={tmp_path}") in (0, 75)
    monkeypatch.setattr(os, "fsync", sync)
    assert call(*searched.command, "--resume", f"--out={tmp_path}") == 0
    assert shown(tmp_path) == shown(searched.out)


def test_a_replay_is_exact(searched, capsys):
    assert call("replay", searched.out, "--quiet") == 0
    assert "bit for bit" in capsys.readouterr().out


def test_best_yaml_trains_the_winner(searched, tmp_path, monkeypatch):
    """Where it does not, because the winner came from several runs or its values changed, it says so."""
    monkeypatch.setattr("mtl.report.figures.draw", lambda *_given: {})
    again = summary_of(searched.out)["again"]
    assert call("train", "--config", searched.out / "best.yaml", *ALIKE, f"--out={tmp_path}") == 0
    records, [trained] = records_of(searched.out), records_of(tmp_path)
    best = next(record for record in records if record["run"] == again["run"])
    made = next(record for record in records if record["trial"] == best["best_trial"])
    files = (searched.out / made["history"], tmp_path / trained["history"])
    one, other = (torch.tensor(json.loads(file.read_text())["train_loss"])[: best["best_step"]] for file in files)
    another = any("it becomes another model" in remark for remark in again["remarks"])
    assert torch.allclose(one, other, rtol=1e-8, atol=1e-8) != another
    if not another and trained["best_step"] == best["best_step"]:
        for task, metrics in best["metrics"].items():
            close([*trained["metrics"][task].values()], [*metrics.values()], 1e-8)
