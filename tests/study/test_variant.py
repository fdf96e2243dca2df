"""Variants: every combination of what is varied, and what the others are compared with."""

import pytest

from mtl.search.space.build import build_space
from mtl.search.space.grammar import read_options
from mtl.search.tune import tuned_space
from mtl.strategies import make
from mtl.study.variant import make_variants, usual_variant
from mtl.train import Settings
from tests.tiny import Tiny

EQUAL, FAMO = make("equal"), make("famo")


def test_every_combination_is_a_variant_and_equal_weights_alone_are_not_named():
    varied = {"clip": ("none", "1"), "loss.product": ("mae", "huber:delta=0.5")}
    alone = make_variants(varied, [EQUAL], Tiny(), ())
    assert [variant.label for variant in alone] == [
        "clip=none, loss.product=mae",
        "clip=none, loss.product=huber:delta=0.5",
        "clip=1, loss.product=mae",
        "clip=1, loss.product=huber:delta=0.5",
    ]
    assert alone[3].settings == {"clip": 1.0} and alone[3].losses == {"product": "huber:delta=0.5"}
    several = make_variants(varied, [EQUAL, FAMO], Tiny(), ())
    assert [variant.label for variant in several][3:5] == [f"equal, {alone[3]}", f"famo, {alone[0]}"]
    # Another study in the same directory must not take the runs of one strategy for those of another.
    assert make_variants(varied, [FAMO], Tiny(), ())[0].label == f"famo, {alone[0]}"
    assert several[4].hyperparameters == {"strategy": "famo", "clip": None, "loss.product": "mae"}


def test_a_variant_changes_the_settings_that_it_varies_alone():
    settings = Settings(steps=100, lr=0.1)
    two, _ = make_variants({"weight_decay": ("1e-4", "0")}, [EQUAL], Tiny(), ())
    assert two.over(settings) == Settings(steps=100, lr=0.1, weight_decay=1e-4)
    longer, _ = make_variants({"epochs": ("3", "2")}, [EQUAL], Tiny(), ())
    assert longer.over(settings).length(10) == 30  # not the steps of the recipe


@pytest.mark.parametrize(
    ("varied", "reference"),
    [
        ({"optimizer": ("sgd", "adam")}, "equal, optimizer=adam"),
        ({"optimizer": ("sgd", "rmsprop")}, "equal, optimizer=sgd"),
        ({"loss.product": ("mae", "mse")}, "equal, loss.product=mse"),
        ({"loss.product": ("mae", "mse"), "dropout": ("0.5", "none")}, "equal, loss.product=mse, dropout=none"),
        ({"loss.product": ("mae", "mse"), "dropout": ("0.5", "0.1")}, "equal, loss.product=mae, dropout=0.5"),
    ],
)
def test_the_reference_is_what_the_benchmark_has_or_the_first(varied, reference):
    variants = make_variants(varied, [FAMO, EQUAL], Tiny(), ())
    assert usual_variant(variants, EQUAL, Tiny(), Settings()).label == reference


def test_what_a_loss_sets_is_not_tuned_though_it_is_the_default():
    varied = {"loss.sign": ("cross-entropy", "cross-entropy:label_smoothing=0", "focal:gamma=2")}
    free, fixed, focal = make_variants(varied, [EQUAL], Tiny(), (), tuned=True)
    assert fixed.label == "loss.sign=cross-entropy:label_smoothing=0"
    assert "loss.sign.label_smoothing" in tuned_space(Tiny(), free).dimensions
    assert "loss.sign.label_smoothing" not in tuned_space(Tiny(), fixed).dimensions
    assert "loss.sign.gamma" not in tuned_space(Tiny(), focal).dimensions
    assert fixed.losses == free.losses == {"sign": "cross-entropy"}
    with pytest.raises(ValueError, match=r"it has cross-entropy:label_smoothing=0 twice|it has cross-entropy twice"):
        make_variants(varied, [EQUAL], Tiny(), ())  # which are trained alike where nothing is tuned
    space = build_space(Tiny(), ["equal"], read_options(["loss.sign=cross-entropy:label_smoothing=0"]))
    assert "loss.sign.label_smoothing" not in space.dimensions


LOSS = "def mine(prediction, target):\n    return (prediction - target).abs().mean()\n"


def test_a_loss_of_a_file_is_labelled_by_the_files_name(tmp_path):
    paths = [tmp_path / folder / "losses.py" for folder in ("one", "two")]
    for path in paths:
        path.parent.mkdir()
        path.write_text(LOSS)
    mine, _ = make_variants({"loss.product": (f"{paths[0]}:mine", "mse")}, [EQUAL], Tiny(), ())
    assert mine.label == "loss.product=losses.py:mine"
    assert mine.hyperparameters["loss.product"] == mine.texts["loss.product"] == f"{paths[0]}:mine"
    both = make_variants({"loss.product": tuple(f"{path}:mine" for path in paths)}, [EQUAL], Tiny(), ())
    assert [each.label for each in both] == [f"loss.product={path}:mine" for path in paths]


def test_what_a_strategys_spec_sets_is_not_tuned_though_it_is_the_default():
    name, written = "strategy.gradnorm.alpha", ["famo", "gradnorm:alpha=1.5"]  # which it has anyway
    gradnorm = make("gradnorm")
    assert name in build_space(Tiny(), ["gradnorm"], {}).dimensions
    assert name not in build_space(Tiny(), written, {}).dimensions
    assert name in build_space(Tiny(), written, read_options([f"{name}=1:2"])).dimensions
    assert name in tuned_space(Tiny(), gradnorm, ["gradnorm"]).dimensions
    assert name not in tuned_space(Tiny(), gradnorm, written).dimensions
    (variant, _) = make_variants({"lr": ("0.1", "0.2")}, [gradnorm], Tiny(), ())
    assert name not in tuned_space(Tiny(), variant, written).dimensions
    assert name in tuned_space(Tiny(), variant).dimensions
