"""`mtl check-loss`, and `--loss` of the commands that train."""

import re
from pathlib import Path

import pytest

from mtl.cli.main import main
from mtl.files.yaml_files import read_values
from mtl.train import Cohort
from tests.written import records_of, summary_of

FILE = str(Path(__file__).parents[1] / "losses" / "user_losses.py")
RAMPS = str(Path(__file__).parents[1] / "losses" / "test_pictures.py") + ":Ramps"
TINY = str(Path(__file__).parents[1] / "tiny.py") + ":Tiny"


def test_a_sound_loss_passes(capsys):
    assert main(["check-loss", "huber:delta=0.5"]) == 0
    out = capsys.readouterr().out
    for test in ("gradient", "sign", "training", "scale", "batch", "edges", "float16", "bfloat16", "vmap", "missing"):
        assert f"\n{test} " in out
    assert "huber:delta=0.5: can be used" in out and "FAIL" not in out


def test_a_users_loss_with_a_fault_fails(capsys):
    assert main(["check-loss", f"{FILE}:total", "--kind", "numbers"]) == 1
    out = capsys.readouterr().out
    assert f"{FILE}:total: failed: batch" in out and "a sum: it grows with the batch" in " ".join(out.split())


def test_specs_are_shown_as_they_are_written(capsys, tmp_path):
    spec = f"{FILE}:fire:width=2"
    assert main(["check-loss", spec]) == 0
    assert f"\n{spec}: can be used" in capsys.readouterr().out
    options = ["--strategies=equal", "--no-single-task", "--seeds=1", "--steps=1", "--wandb=disabled"]
    assert main(["compare", TINY, "--vary", f"loss.product={spec},mse", *options, f"--out={tmp_path}"]) == 0
    assert capsys.readouterr().out.count("user_losses.py:fire:width=2") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["check-loss", "hubber"], "unknown loss 'hubber': did you mean huber"),
        (["check-loss", "mse", "--kind", "sounds"], "--kind sounds: known are numbers, classes"),
        (["train", TINY, "--loss", "sgn=mse"], "loss of task 'sgn': there is no such task: did you mean sign?"),
        (["train", TINY, "--loss", "product=mse:delta=1"], "loss of task 'product': mse has no hyperparameter 'delta'"),
        (
            ["compare", TINY, "--loss", "product=cross-entropy"],
            "task 'product': cross-entropy takes classes of type int64",
        ),
        (
            ["compare", TINY, "--loss", "product=l1+0.1*gradient"],
            "task 'product': mae+gradient cannot take gradient: it takes pictures as labels, (N, H, W)",
        ),
        (["search", TINY, "--loss", "product"], "--loss 'product' is not TASK=SPEC"),
    ],
)
def test_what_is_wrong_is_said_before_work_starts(arguments, said, capsys, tmp_path):
    arguments += ["--out", str(tmp_path / "out")] if arguments[0] != "check-loss" else []
    assert main(arguments) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_a_loss_is_chosen_for_a_task_and_recorded_as_it_was_used(tmp_path):
    losses = ["product=huber:delta=0.5+0.1*mae", "sign=cross-entropy:class_weights=inverse"]
    options = ["--epochs=1", "--wandb=disabled", "--quiet", "--keep-models=none", f"--out={tmp_path}"]
    assert main(["train", TINY, "--loss", *losses, *options]) == 0
    config = read_values(tmp_path / "config.yaml")
    assert config["tasks"]["product"]["loss"] == "huber:delta=0.5+0.1*mae"
    assert config["tasks"]["sign"]["loss"].startswith("cross-entropy:class_weights=")
    assert "inverse" not in config["tasks"]["sign"]["loss"]
    # Another loss is another study.
    assert main(["train", TINY, *options, "--resume"]) == 2


def test_a_strategy_weighs_the_edges_of_pictures_and_how_alike_they_look(tmp_path):
    losses = ["depth=apart:l1+0.1*gradient", "again=mse+ssim:window=3"]
    options = ["--strategies", "equal", "gradnorm", "--steps=3", "--seeds=1", "--no-single-task", "--wandb=disabled"]
    assert main(["compare", RAMPS, "--loss", *losses, *options, "--quiet", f"--out={tmp_path}"]) == 0
    records, summary = records_of(tmp_path), summary_of(tmp_path)
    assert [record["status"] for record in records] == ["done", "done"]
    assert set(summary["losses"]) == {"depth.mae", "depth.gradient", "again"}
    config = read_values(tmp_path / "config.yaml")
    assert config["tasks"]["depth"]["loss"] == "apart:mae+0.1*gradient"
    # The range of the training labels, as a number.
    assert re.fullmatch(r"mse\+ssim:window=3,data_range=[0-9.]+", config["tasks"]["again"]["loss"])


@pytest.mark.parametrize("command", ["train", "search"])
def test_what_is_learned_before_training_is_shown_while_it_lasts(command, tmp_path, monkeypatch, capsys):
    begin = Cohort.begin
    monkeypatch.setattr(Cohort, "begin", lambda self: begin(self, seconds=0.0))
    for terminal in ("terminal", "search_terminal"):
        monkeypatch.setattr(f"mtl.cli.{terminal}._SECONDS", 0.0)
    extra = ["--members=2", "--method=random", "--search", "lr=1e-3:1e-2"] if command == "search" else []
    arguments = [command, "tests/tiny.py:Tiny", "--steps=4", "--wandb=disabled", f"--out={tmp_path}", *extra]
    assert main([*arguments, "--loss", "sign=learned:hidden=4,start=random,offline_steps=3"]) == 0
    out = capsys.readouterr().out
    said = {
        "train": "equal: learning its losses before training, 2 of 3 steps",
        "search": "before training, 2 of 6 steps",
    }
    assert said[command] in out
    # What is said can be trained on.
    (option,) = re.findall(r"^Loss of sign, as it was learned: --loss (sign=learned:rate=0,\S+)$", out, re.M)
    assert main(["train", "tests/tiny.py:Tiny", "--steps=1", "--loss", option, f"--out={tmp_path / 'on'}"]) == 0
    if command == "train":
        assert summary_of(tmp_path)["learned"] == {"sign": f"--loss {option}"}
