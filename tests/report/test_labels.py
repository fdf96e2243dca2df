"""How long names of variants are written in figures and heads."""

import json
import re

import pytest

from mtl.report import write_report
from mtl.report.figures.style import text_width
from mtl.report.labels import labels_in_words, reference_in_heads, short_labels, table_labels
from tests.report.fake_study import write_study

LONG = [
    f"gradnorm+uncertainty, loss.left={loss}, optimizer={optimizer}, weight_decay={decay}"
    for loss in ("cross-entropy", "focal:gamma=1")
    for optimizer in ("adam", "rmsprop")
    for decay in ("0", "0.0001")
]


def summary(ranking, compared="variants"):
    return {"ranking": ranking, "reference": ranking[0], "compared": compared}


def test_labels_of_long_variants_are_the_values_in_which_they_differ():
    labels = short_labels(summary(LONG))
    assert labels[LONG[0]] == "cross-entropy, adam, 0" and labels[LONG[-1]] == "focal:gamma=1, rmsprop, 0.0001"
    assert len({*labels.values()}) == len(LONG)
    assert labels_in_words(summary(LONG)) == "Labels are the values of loss.left, optimizer, weight_decay."
    assert reference_in_heads(summary(LONG)) == "the reference"


def test_names_of_settings_stay_while_there_is_room():
    short = [f"famo, lr={rate}" for rate in ("0.1", "0.2")]
    assert [*short_labels(summary(short)).values()] == ["lr=0.1", "lr=0.2"]
    assert labels_in_words(summary(short)) == "Labels leave out what all have in common."
    assert [*table_labels(summary(LONG)).values()] == [name.removeprefix("gradnorm+uncertainty, ") for name in LONG]


@pytest.mark.parametrize(
    "ranking", [["equal", "famo"], ["equal"], ["lr=0.1", "lr=0.2"], ["gradnorm:alpha=1,lr=2", "famo"]]
)
def test_short_names_are_left_alone(ranking):
    assert [*short_labels(summary(ranking, "strategies")).values()] == ranking
    assert labels_in_words(summary(ranking)) == "" and reference_in_heads(summary(ranking)) == ranking[0]


def test_a_parameter_that_not_all_have_does_not_hide_which_value_is_whose():
    losses = ("loss.left=focal, loss.left.gamma=1", "loss.left=poly")
    uneven = [f"{loss}, optimizer=rmsprop:centered=true,alpha=0.{n}" for loss in losses for n in (1, 2)]
    labels = short_labels(summary(uneven))
    assert len({*labels.values()}) == 4 and all("=" in label for label in labels.values())


def test_room_is_made_for_the_widest_of_many_texts_of_one_length():
    narrow = [f"i.l{n:02}" for n in range(20)]
    assert text_width([*narrow, "WWWWW"]) == text_width(["WWWWW"]) > text_width(narrow)


def test_every_figure_of_variants_shows_their_labels(tmp_path):
    study = write_study(tmp_path / "study", LONG, seeds=(0, 1), config={"options": {"vary": ["..."]}})
    write_report([study], tmp_path)
    for figure in ("ranking", "metrics", "cost"):
        drawn = (tmp_path / "figures" / f"{figure}.svg").read_text(encoding="utf-8")
        assert all(f">{label}<" in drawn for label in short_labels(summary(LONG)).values()), figure
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Labels are the values of loss.left" in page and ">variant<" in page and "minus the reference" in page


def test_a_single_evaluation_is_a_dot_as_a_line_needs_two(tmp_path):
    study = write_study(tmp_path / "study", ("equal", "famo"), seeds=(0, 1))
    for path in (study / "history").glob("*.json"):
        curves = json.loads(path.read_text())
        evaluated = {key: curves[key][:1] for key in ("eval_step", "validation_loss")}
        path.write_text(json.dumps({**curves, **evaluated}))
    write_report([study], tmp_path)
    drawn = (tmp_path / "figures" / "losses.svg").read_text(encoding="utf-8")
    assert len(re.findall(r"<g clip-path[^>]*>\s*<use", drawn)) == 3 * 2  # tasks and strategies
