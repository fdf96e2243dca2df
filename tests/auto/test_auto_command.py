"""`mtl auto` as it is typed."""

import ast
import json
import shlex
import signal
from pathlib import Path

import pytest

import mtl
from mtl.auto.state import read_state
from mtl.cli.main import main
from tests.processes import finish, start, wait
from tests.wandb_files import read_files
from tests.written import records_of, summary_of

TINY = "tests/tiny.py:Tiny"


def call(*arguments):
    return main(["auto", *map(str, arguments), "--wandb=disabled"])


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--time=0"], "--time 0: a number with s, m or h"),
        (["--time=0s"], "--time 0s: it must be above 0"),
        (["--time=ten"], "--time ten: a number with s, m or h behind it is wanted, such as 90s, 10m or 1.5h"),
        (["--only=x"], "--only x: unknown part 'x': known are losses, weights, regularization"),
        (["--objective=delta_m"], "--objective delta_m: it needs runs of each task alone"),
        (["--objective=sine/mae"], "--objective 'sine/mae'"),
        (["--seeds=0"], "--seeds 0"),
        (["--patience=3"], "--patience 3"),
        (["--evaluate-every=3"], "--evaluate-every 3: mtl auto evaluates"),
        (["--epochs=3", "--steps=4"], "--epochs 3 and --steps 4"),
        (["--loss=sign=focus"], "unknown loss 'focus'"),
    ],
)
def test_bad_input_is_one_line(arguments, said, tmp_path, capsys):
    assert call(TINY, *arguments, f"--out={tmp_path / 'run'}") == 2
    shown = capsys.readouterr().err
    assert said in shown and shown.count("\n") == 1 and not (tmp_path / "run").exists()


def test_nothing_to_decide_is_bad_input(tmp_path, capsys):
    assert call("tests/tiny.py:OwnModel", "--only=architecture", f"--out={tmp_path / 'run'}") == 2
    assert "--only architecture: there is nothing to decide for benchmark 'own-model'" in capsys.readouterr().err


@pytest.mark.slow
def test_twenty_seconds_decide_on_a_shipped_benchmark(tmp_path, capsys):
    out = tmp_path / "run"
    assert call("multidigits", "--time=20s", f"--out={out}") == 0
    shown = capsys.readouterr().out
    assert "Train it: mtl train multidigits --strategy" in shown and "take " in shown
    summary = summary_of(out)
    assert summary["time"]["elapsed"] < 30 and summary["race"]["runs"] >= 4
    assert {"default"} < {each["label"] for each in summary["finalists"]}
    assert mtl.load(out) is not None and (out / "best.yaml").exists()
    assert main(["report", str(out), "--out", str(tmp_path / "again")]) == 0
    assert (tmp_path / "again" / "report.html").read_text() == (out / "report.html").read_text()
    assert call("multidigits", "--time=20s", f"--out={out}") == 2, "it holds a run"


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_decision_goes_on_with_the_time_that_is_left(how, tmp_path):
    out = tmp_path / "run"
    arguments = ["auto", TINY, "--time=20s", "--wandb=disabled", f"--out={out}"]
    process = start(*arguments)
    wait(process, lambda: (out / "auto.json").exists() and json.loads((out / "auto.json").read_text())["leader"])
    process.send_signal(how)
    finish(process, -9 if how == signal.SIGKILL else 75)
    before = read_state(out)
    if how == signal.SIGINT:
        assert "Stopped before finalists were compared" in (out / "report.html").read_text()
        assert mtl.load(out) is not None
    finish(start(*arguments, "--resume"))
    after = read_state(out)
    plans = [(plan.length, plan.race_until, plan.path_until) for plan in (before.plan, after.plan)]
    assert plans[0] == plans[1], "only finals are planned again"
    assert "final" in after.ended and before.elapsed < after.elapsed < 45
    names = [record["run"] for record in records_of(out)]
    assert len(names) == len({*names})


@pytest.mark.slow
def test_the_race_and_the_figures_are_logged(tmp_path, capfd):
    pytest.importorskip("wandb")
    out = tmp_path / "run"
    assert main(["auto", TINY, "--time=8s", "--wandb=offline", f"--out={out}"]) == 0
    assert "W&B" not in capfd.readouterr().err
    files = read_files(out)
    (report,) = files["report-run"]
    assert report.media("figures/finalists").suffix == ".png" and report.exit == 0
    assert len(files) > 1 and all(file.exit == 0 for several in files.values() for file in several)


@pytest.mark.slow
def test_a_table_is_decided_on_and_trained_again_by_its_file(tmp_path, monkeypatch):
    rows = [f"{k % 37},{('Ulm', 'Bonn')[k % 2]},{k % 37 + 3 * (k % 2)}" for k in range(200)]
    (tmp_path / "homes.csv").write_text("\n".join(["size,town,price", *rows]) + "\n")
    monkeypatch.chdir(tmp_path)
    assert call("homes.csv", "--target=price", "--time=8s", "--out=run") == 0
    assert "homes.csv --target price --strategy " in summary_of(tmp_path / "run")["train"]["line"]
    train = ["train", "--config=run/best.yaml", "--steps=3", "--wandb=disabled", "--out=again"]
    assert main(train) == 0
    (record,) = records_of(tmp_path / "again")
    assert record["benchmark"] == "homes" and set(record["metrics"]) == {"price"}


@pytest.mark.slow
def test_one_task_and_an_objective_of_its_own(tmp_path, capsys):
    (tmp_path / "one.py").write_text(
        "from tests.tiny import Tiny\n\n\nclass One(Tiny):\n    name = 'one'\n    tasks = (Tiny.tasks[1],)\n"
    )
    out = tmp_path / "run"
    options = ["--time=8s", "--objective=product/mae", "--only=losses,optimizer", "--lr=0.02", f"--out={out}"]
    assert call(f"{tmp_path / 'one.py'}:One", *options) == 0
    summary = summary_of(out)
    assert summary["objective"] == {"product/mae": False} and "lr" not in summary["space"]
    assert "lr: 0.02" in summary["train"]["file"] and "--lr 0.02" in capsys.readouterr().out


@pytest.mark.slow
def test_a_loss_of_ones_own_is_kept_and_what_is_printed_trains_the_same_again(tmp_path, monkeypatch, capfd):
    (tmp_path / "mine.py").write_text(
        "def bent(prediction, target, at: float = 1.0):\n"
        "    error = (prediction - target).abs()\n"
        "    return error.mean() if error.mean() > at else error.square().mean()\n"
    )
    where, out = f"{Path('tests/tiny.py').resolve()}:Tiny", tmp_path / "run"
    monkeypatch.chdir(tmp_path)
    assert call(where, "--loss=product=mine.py:bent:at=0.5", "--time=10s", f"--out={out}") == 0
    said = capfd.readouterr()
    assert said.err.count("the loss of task 'product' cannot be vectorised") == 1
    assert f"product={tmp_path / 'mine.py'}:bent:at=0.5" in said.out and "loss.product" not in summary_of(out)["space"]
    train = summary_of(out)["train"]
    assert main(["train", f"--config={out / 'best.yaml'}", "--wandb=disabled", "--out=file"]) == 0
    assert main([*shlex.split(train["line"])[1:], "--wandb=disabled", "--out=line"]) == 0
    capfd.readouterr()
    exec(train["python"], {})
    found = ast.literal_eval(capfd.readouterr().out)
    assert [records_of(tmp_path / name)[0]["metrics"] for name in ("file", "line")] == [found, found]
