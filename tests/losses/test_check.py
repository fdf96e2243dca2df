"""Every loss of ours passes `check_loss`, and losses with a fault do not."""

import warnings
from pathlib import Path

import pytest
import torch
from torch import nn

from mtl.losses import LOSSES, loss_of, make_loss
from mtl.losses.check import check_loss
from mtl.losses.examples import KINDS
from tests.losses.user_losses import Edges

FILE = str(Path(__file__).with_name("user_losses.py"))

#: What is no fault: likelihoods of densities go below zero, and some losses are not of each example by itself.
NOTED = {
    "gaussian": {"range"},
    "dice": {"batch"},
    "tversky": {"batch"},
    "contrastive": {"batch"},
}
#: The kind of examples of each loss of torch, and what fails: that is so in torch itself.
OVERFLOW = ("edges", "float16", "bfloat16")
OF_TORCH = {
    "BCELoss": ("probabilities", "NaN"),
    "BCEWithLogitsLoss": ("yes or no",),
    "CosineEmbeddingLoss": ("pairs",),
    "CrossEntropyLoss": ("classes",),
    "GaussianNLLLoss": ("mean and plain variance",),
    "HingeEmbeddingLoss": ("distances",),
    "HuberLoss": ("numbers",),
    "KLDivLoss": ("distributions",),
    "L1Loss": ("numbers",),
    "MSELoss": ("numbers",),
    "MarginRankingLoss": ("rankings",),
    "MultiLabelMarginLoss": ("lists of classes", "NaN"),
    "MultiLabelSoftMarginLoss": ("yes or no",),
    "MultiMarginLoss": ("classes", "NaN"),
    "NLLLoss": ("log probabilities",),
    "PoissonNLLLoss": ("counts", *OVERFLOW),
    "SmoothL1Loss": ("numbers",),
    "SoftMarginLoss": ("signs", *OVERFLOW),
    "TripletMarginLoss": ("triplets",),
    "TripletMarginWithDistanceLoss": ("triplets",),
}
OTHERS = {
    "binary-cross-entropy": ["yes or no"],
    "focal:alpha=0.3": ["yes or no"],
    **{spec: ["yes or no"] for spec in ("focal:gamma=0.5", "poly", "hinge", "dice", "tversky", "lovasz", "taylor")},
    "cross-entropy:label_smoothing=0.1,class_weights=1/2/3/4": ["classes"],
    "asymmetric:shift=0,negative=0.5,positive=0.5": ["yes or no"],
    "triplet:mining=all": ["embeddings"],
    "dice:over=example": ["yes or no"],
    "kl:temperature=5": ["teacher"],
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_passes(name):
    checked = check_loss(make_loss(name))
    assert checked.kind == LOSSES[name].kind and checked.passed, checked.findings
    assert {finding.name for finding in checked.findings if finding.status == "note"} == NOTED.get(name, set())


@pytest.mark.parametrize("spec", OTHERS)
def test_it_passes_in_its_other_forms_too(spec):
    for kind in OTHERS[spec]:
        checked = check_loss(make_loss(spec), kind)
        assert checked.passed, [finding for finding in checked.findings if finding.status == "FAIL"]


@pytest.mark.parametrize(
    "spec",
    [
        "cross-entropy:class_weights=1/2/4",
        "cross-entropy:class_weights=" + "/".join(map(str, range(1, 27))),
        "logit-adjusted:priors=0.7/0.3",
        "multi-label:positive_weights=1/2/3/4/5",
        "focal+0.5*CrossEntropyLoss:weight=1/2/3",
        "BCEWithLogitsLoss:pos_weight=1/2/3",
    ],
)
def test_weights_of_any_number_of_classes_are_tested_on_as_many(spec):
    checked = check_loss(make_loss(spec))
    assert checked.passed, [finding for finding in checked.findings if finding.status == "FAIL"]


def test_a_loss_that_labels_have_decided_is_tested_on_as_many_classes():
    labels = torch.tensor([0] * 90 + [1] * 25 + [2] * 5)
    assert check_loss(make_loss("cross-entropy:class_weights=effective").fitted(labels, outputs=3)).passed


@pytest.mark.parametrize("name", [name for name in dir(nn) if "Loss" in name and isinstance(getattr(nn, name), type)])
def test_every_loss_of_torch_is_tested_on_labels_that_it_takes_or_refused_in_a_line(name):
    if name not in OF_TORCH:
        with pytest.raises(ValueError, match=rf"loss '{name}' of torch\.nn cannot be the loss of a task: \w+"):
            make_loss(name)
        return
    kind, *failed = OF_TORCH[name]
    checked = check_loss(make_loss(name))
    assert (checked.kind, checked.findings[0].status) == (kind, "ok")
    found = {finding.name: finding for finding in checked.findings if finding.status != "ok"}
    assert [name for name, finding in found.items() if finding.status == "FAIL"] == failed, checked.findings
    assert "batching rule" not in str(found)


@pytest.mark.parametrize("spec", ["MSELoss", "CrossEntropyLoss", "SmoothL1Loss:beta=0.5", f"{FILE}:Charbonnier"])
def test_sound_losses_of_others_pass(spec):
    checked = check_loss(make_loss(spec))
    assert checked.passed, [finding for finding in checked.findings if finding.status == "FAIL"]


def test_buffers_of_a_module_have_the_precision_and_the_device_of_the_predictions():
    spec = f"{FILE}:Edges:strength=0.25"
    assert check_loss(make_loss(spec), "numbers").passed  # of float64
    labels = torch.rand(4, 6)
    assert make_loss(spec)(torch.rand(4, 6).double(), labels).dtype == torch.float64
    for loss in (make_loss(spec), Edges()):
        assert loss_of(loss, torch.rand(4, 6, device="meta"), labels.to("meta")).device.type == "meta"


def test_a_module_that_changes_its_buffers_is_refused():
    checked = check_loss(make_loss(f"{FILE}:Moving"))
    assert not checked.passed and checked.findings[0].text.startswith("changes its buffer 'scale' when it computes")


IMPURE = {
    "Counting": "changes its attribute 'calls' when it computes; a loss is a function of predictions and labels",
    "counting": "changes its attribute 'calls' when it computes",
    "remembers": "gives another number when it is called again: it counts its calls, keeps what it saw",
    "Projected": "draws 'directions' at random when it is made, which is anew for each batch",
}


@pytest.mark.parametrize("name", IMPURE)
def test_a_loss_that_keeps_something_from_call_to_call_is_refused(name):
    checked = check_loss(make_loss(f"{FILE}:{name}"))
    assert (not checked.passed, checked.findings[0].text.find(IMPURE[name])) == (True, 0), checked.findings[0]
    (finding,) = check_loss(make_loss(f"mse+0.1*{FILE}:{name}")).findings
    assert IMPURE[name] in finding.text


def test_parameters_of_a_module_are_refused_unless_they_are_frozen():
    for name in ("Learning", "learning"):
        with pytest.raises(ValueError, match=rf":{name}: it has parameters of its own, which nothing would train$"):
            make_loss(f"{FILE}:{name}")
    assert check_loss(make_loss(f"{FILE}:Perceptual")).passed


def test_a_loss_that_is_another_reduction_unless_asked_is_asked_for_the_mean():
    prediction, target = torch.randn(6, 1), torch.randn(6)
    expected = nn.functional.mse_loss(prediction[:, 0], target)
    for name in ("Unreduced", "summed"):
        torch.testing.assert_close(make_loss(f"{FILE}:{name}")(prediction, target), expected)
        assert check_loss(make_loss(f"{FILE}:{name}")).passed


def test_metrics_of_torchmetrics_pass_though_they_add_up_in_float32():
    pytest.importorskip("torchmetrics")
    checked = check_loss(make_loss("torchmetrics:MeanSquaredError"))
    assert checked.passed, [finding for finding in checked.findings if finding.status == "FAIL"]


@pytest.mark.parametrize(
    ("name", "check", "text"),
    [
        ("total", "batch", "a sum: it grows with the batch"),
        ("backwards", "sign", "it has to be lower for right"),
        ("slopeless", "gradient", "differs from what small steps of the prediction show: 0 where they show "),
        ("noisy", "gradient", "draws at random"),
        ("logistic", "edges", "is inf for predictions of 10000"),
        ("root", "edges", "is nan for predictions of 10000"),
        ("distance", "edges", "has a gradient that is not finite for predictions of what the labels say"),
        ("picky", "edges", "fails: ValueError: too far"),
        ("picky", "NaN", "ends a run with an error at a prediction that is NaN"),
    ],
)
def test_faults_are_found(name, check, text):
    checked = check_loss(make_loss(f"{FILE}:{name}"), "numbers")
    failed = {finding.name: finding.text for finding in checked.findings if finding.status == "FAIL"}
    assert not checked.passed and text in failed[check], failed


def test_what_torch_warns_of_in_the_attempt_is_not_shown():
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        assert check_loss(make_loss("torch.nn.functional:huber_loss")).passed
    assert not heard


def test_arguments_that_a_loss_refuses_without_a_word_are_said():
    with pytest.raises(ValueError, match=r":Fussy: Fussy\(mode='several'\) failed: AssertionError$"):
        make_loss(f"{FILE}:Fussy:mode=several")


def test_weights_of_classes_that_are_all_zero_are_refused():
    for spec in ("cross-entropy:class_weights=0/0/0", "nll:class_weights=0/0", "CrossEntropyLoss:weight=0/0/0"):
        with pytest.raises(ValueError, match=r"eights?=\(0\.0, .*\) must not be all zero$"):
            make_loss(spec)
    assert check_loss(make_loss("cross-entropy:class_weights=0/1/2")).findings


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("spoils_predictions", "changes its predictions in place"),
        ("spoils_labels", "changes its labels in place"),
        ("unreduced", "returns shape (12,); one number is wanted, the mean"),
    ],
)
def test_what_cannot_be_a_loss_is_a_row_of_the_table(name, text):
    checked = check_loss(make_loss(f"{FILE}:{name}"))
    assert not checked.passed and text in checked.findings[0].text, checked.findings


def test_missing_labels_are_a_note_on_losses_of_others():
    found = {finding.name: finding for finding in check_loss(make_loss(f"{FILE}:Charbonnier")).findings}
    assert found["missing"].status == "note" and "does not leave out labels that are missing" in found["missing"].text
    assert found["vmap"].status == "ok"


def test_a_loss_of_classes_that_takes_numbers_too_is_said():
    assert "--kind classes" in check_loss(make_loss(f"{FILE}:crossed")).findings[0].text
    assert "--kind" not in check_loss(make_loss(f"{FILE}:crossed"), "classes").findings[0].text
    assert "--kind" not in check_loss(make_loss(f"{FILE}:logistic")).findings[0].text
    assert check_loss(make_loss("torch.nn.functional:binary_cross_entropy")).kind == "probabilities"


def test_what_takes_no_kind_is_said():
    with pytest.raises(ValueError, match="known are numbers, classes"):
        check_loss(make_loss("mse"), "sounds")
    checked = check_loss(make_loss("cross-entropy"), "numbers")
    assert not checked.passed and "takes classes of type int64" in checked.findings[0].text
    assert set(KINDS) >= {cls.kind for cls in LOSSES.values()}
