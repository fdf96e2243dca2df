"""Searches by Ray Tune whose driver is killed and stopped, and whose trials are lost; a fixed number is drawn."""

import contextlib
import json
import os
import random
import signal

import pytest
import torch

from tests.search.test_any_search import ALIKE, Killed, call
from tests.written import events_of, records_of, summary_of

pytest.importorskip("ray", reason="needs the extra ray")

from tests.ray.any_tune import draw_tune
from tests.ray.pretend_tune import RayOfTune, pretend_tune

TINY = ["search", "tests/tiny.py:Tiny", "--engine=tune", "--members=3", "--steps=12", "--interval=3", *ALIKE]
PBT = [*TINY, "--strategies", "equal", "gradnorm"]
DRAWS = (0, 1, 2)


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch):
    monkeypatch.setattr("mtl.report.search.figures.draw_search", lambda *_given: {})
    monkeypatch.setattr("mtl.report.figures.draw", lambda *_given: {})


def shown(out):
    """All that a search leaves but what depends on the clock."""
    records = [{**record, "cost": record["cost"]["steps"], "spent": None} for record in records_of(out)]
    curves = [json.loads((out / record["history"]).read_text()) for record in records]
    curves = [{**curve, "search_spent": None} for curve in curves]
    return records, curves, events_of(out), (out / "best.yaml").read_text()


def at(number, happens):
    """Let something happen at the call of that number."""

    def told(call_number):
        if call_number == number:
            happens()

    return told


def killed():
    raise Killed


def interrupted():
    os.kill(os.getpid(), signal.SIGINT)


@pytest.fixture
def tune(monkeypatch, tmp_path):
    """Carries out a command whose calls are disturbed as the arguments of `RayOfTune` say."""

    def run(command, seed=0, **disturbed):
        ray = pretend_tune(monkeypatch, tmp_path, RayOfTune(seed, **disturbed))
        code = None
        with contextlib.suppress(Killed):
            code = call(*command)
        return code, ray

    return run


@pytest.mark.parametrize("moment", [1, 15, 24])
def test_a_killed_driver_changes_nothing_of_a_synchronous_pbt(tune, tmp_path, moment):
    """Before the first report, while trials wait for a decision, and when some have gone on after it."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert tune([*PBT, f"--out={whole}"])[0] == 0
    assert tune([*PBT, f"--out={broken}"], 1, happens=at(moment, killed))[0] is None
    assert tune([*PBT, f"--out={broken}", "--resume"], 2)[0] == 0
    assert shown(broken) == shown(whole) and len(records_of(whole)) == 3
    assert any(event["source"] is not None for event in events_of(whole))


def test_a_search_whose_state_tune_cannot_read_starts_over_and_says_so(tune, tmp_path, capsys):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert tune([*PBT, f"--out={whole}"])[0] == 0
    assert tune([*PBT, f"--out={broken}"], happens=at(20, killed))[0] is None
    [state] = broken.glob("tune/experiment_state-*.json")
    state.write_text(state.read_text()[:-100])
    assert tune([*PBT, f"--out={broken}", "--resume"])[0] == 0
    told = " ".join(capsys.readouterr().err.split())
    assert f"Ray Tune cannot read what it left in {broken / 'tune'}: the search starts over" in told
    assert [*broken.glob("tune-1/trial-*/checkpoint_000000")]
    assert shown(broken) == shown(whole)


def test_optuna_goes_on_with_a_space_of_which_points_are_refused(tune, tmp_path):
    out = tmp_path / "run"
    command = [*TINY, "--scheduler=none", "--searcher=optuna", "--trials=4", "--search", "loss.sign=taylor"]
    assert tune([*command, f"--out={out}"], happens=at(15, killed))[0] is None
    assert tune([*command, f"--out={out}", "--resume"])[0] == 0
    records = records_of(out)
    assert [record["status"] for record in records] == ["done"] * 4 and len({r["seed"] for r in records}) == 4


@pytest.mark.slow
@pytest.mark.parametrize("seed", DRAWS)
@pytest.mark.usefixtures("float64")
def test_what_is_lost_of_a_random_search_is_made_again(tune, tmp_path, capsys, seed):
    whole, broken, again = tmp_path / "whole", tmp_path / "broken", tmp_path / "again"
    draw = random.Random(seed)
    benchmark, words = draw_tune(seed)
    command = ["search", benchmark, *ALIKE, *words]
    code, ray = tune([*command, f"--out={whole}"], seed)
    assert code == 0
    resumed = [*command, f"--out={broken}", "--resume"]
    for happens in (killed, interrupted):
        assert tune(resumed, draw.random(), happens=at(draw.randint(1, ray.calls), happens))[0] in (None, 0, 75)
    assert tune(resumed, draw.random(), lost=frozenset({draw.randint(1, 9)}))[0] == 0
    assert shown(broken) == shown(whole)
    assert call("replay", broken, "--quiet") == 0
    assert "bit for bit" in capsys.readouterr().out
    assert call("train", "--config", broken / "best.yaml", *ALIKE, f"--out={again}") == 0
    found, records, [trained] = summary_of(broken)["again"], records_of(broken), records_of(again)
    best = next(record for record in records if record["run"] == found["run"])
    made = next(record for record in records if record["trial"] == best["best_trial"])
    files = (broken / made["history"], again / trained["history"])
    one, other = (torch.tensor(json.loads(file.read_text())["train_loss"])[: best["best_step"]] for file in files)
    another = any("it becomes another model" in remark for remark in found["remarks"])
    assert torch.allclose(one, other, rtol=1e-8, atol=1e-8) != another
