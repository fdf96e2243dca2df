"""The losses that runs have learned: files that `--loss` takes, drawn in the report; and what is refused."""

import json

import pytest

import mtl
from mtl.cli.main import main
from mtl.losses import make_loss
from tests.written import records_of, summary_of

TINY = "tests/tiny.py:Tiny"


def call(out, *arguments):
    return main([*arguments, "--wandb=disabled", "--quiet", "--out", str(out)])


def test_a_run_leaves_what_it_has_learned_and_another_begins_with_it(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert call(first, "train", TINY, "--loss", "sign=learned:hidden=4", "product=mae", "--steps=16") == 0
    (record,) = records_of(first)
    path = first / "losses" / f"{record['run']}-sign.json"
    assert [*path.parent.iterdir()] == [path]
    found = make_loss(f"learned:hidden=4,rate=0,start={path}")
    assert not found.weights.allclose(make_loss("learned:hidden=4").weights)
    assert "learned_losses" not in json.loads((first / record["history"]).read_text())
    page = (first / "report.html").read_text()
    assert f"--loss sign=learned:rate=0,hidden=4,start={path}" in page
    assert (first / "figures" / "learned.svg").exists()
    assert not [name for name in mtl.load(first).state_dict() if "learned" in name]
    assert call(second, "train", TINY, "--loss", f"sign={found}", "--steps=4") == 0
    assert not (second / "losses").exists()


def test_the_winner_of_a_search_says_where_its_loss_is(tmp_path):
    losses = "loss.sign=learned:hidden=4,learned:hidden=5"
    assert call(tmp_path, "search", TINY, "--search", losses, "--members=2", "--interval=4", "--steps=8") == 0
    summary = summary_of(tmp_path)
    spec = summary["losses"]["sign"]["spec"]
    path = tmp_path / "losses" / f"{summary['best']['run']}-sign.json"
    assert spec.endswith(f"start={path}") and not make_loss(spec).learns
    assert (tmp_path / "figures" / "losses.svg").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", TINY, "--loss=sign=learned", "--strategy=famo"], "famo reads losses again after the step"),
        (
            ["compare", TINY, "--loss=sign=learned", "--strategies", "equal", "auto-lambda"],
            "auto-lambda reads losses",
        ),
        (["compare", TINY, "--vary=loss.sign=learned,focal", "--strategies=famo"], "--vary, famo, loss.sign=learned: "),
        (["search", TINY, "--search=loss.sign=learned,focal", "--strategy=famo"], "task 'sign': its loss learned is"),
        (["train", TINY, "--loss=product=learned"], "learned learns from cross-entropy, which takes classes"),
        (["train", TINY, "--loss=sign=learned:start=nowhere"], "start=nowhere cannot be read"),
    ],
)
def test_what_cannot_be_learned_is_refused_in_a_line_before_anything_runs(arguments, said, tmp_path, capsys):
    assert call(tmp_path, *arguments) == 2
    printed = capsys.readouterr().err.strip()
    assert said in printed and "\n" not in printed
    assert not (tmp_path / "results.jsonl").exists()
