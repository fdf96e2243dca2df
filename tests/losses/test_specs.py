"""Losses by spec: of torch, of anyone's file or library, and sums of them."""

import copy
import dataclasses
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from mtl.benchmarks.losses import spec_of
from mtl.files.python_files import without_folders
from mtl.hyperparameters import domains
from mtl.losses import Huber, Loss, constant_prediction, loss_of, losses_of, make_loss, takes_classes
from mtl.losses.spec import in_full, said
from mtl.population.strategies import differing, structure, substituted

FILE = str(Path(__file__).with_name("user_losses.py"))
MODULE = "tests.losses.user_losses"
PREDICTION, TARGET = torch.linspace(-2, 2, 12)[:, None], torch.linspace(1, -1, 12)


@pytest.mark.parametrize("place", [FILE, MODULE])
@pytest.mark.parametrize(
    ("rest", "expected"),
    [
        ("logistic", lambda e: torch.log(torch.cosh(e)).mean()),
        ("logistic:width=2", lambda e: (2 * torch.log(torch.cosh(e / 2))).mean()),
        ("Charbonnier:epsilon=0.5", lambda e: (e**2 + 0.25).sqrt().mean()),
        ("Charbonnier:epsilon=0.5,power=1.5", lambda e: ((e**2 + 0.25) ** 0.75).mean()),
        ("Needs:factor=3", lambda e: 3 * e.abs().mean()),
        ("made", lambda e: nn.functional.huber_loss(e, 0 * e, delta=3.0)),
        ("Fourth:scale=2", lambda e: ((e / 2) ** 4).mean()),
    ],
)
def test_losses_of_a_file_or_a_library(place, rest, expected):
    loss = make_loss(f"{place}:{rest}")
    assert isinstance(loss, Loss)
    torch.testing.assert_close(loss_of(loss, PREDICTION, TARGET), expected(PREDICTION[:, 0] - TARGET))
    assert loss.complaint(PREDICTION, TARGET) is None and not takes_classes(loss, TARGET, 1)
    assert str(loss) == f"{place}:{rest}" and make_loss(str(loss)) == loss
    assert constant_prediction(loss, TARGET, TARGET, 1).shape == (12,)


def test_arguments_of_a_users_loss_are_hyperparameters():
    assert list(domains(make_loss(f"{FILE}:Charbonnier"))) == ["epsilon", "power", "weights", "other"]
    loss = make_loss(f"{FILE}:Charbonnier:weights=1/2/3,other=4")
    assert loss.function().weights.tolist() == [1, 2, 3] and loss.function().other == 4
    by_default = make_loss(f"{FILE}:Charbonnier")
    # Members with other numbers are computed apart: a user's code reads plain numbers.
    assert structure(by_default) != structure(make_loss(f"{FILE}:Charbonnier:epsilon=0.5"))
    assert structure(make_loss(f"{FILE}:Fourth:scale=2")) == structure(make_loss(f"{FILE}:Fourth"))


@pytest.mark.parametrize(
    "spec",
    [
        f"{FILE}:Charbonnier:epsilon=0.5",
        "SmoothL1Loss:beta=0.5",
        "mae+0.5*mse",
        "apart:mae+0.5*huber:delta=2+mae",
        "huber:delta=2",
    ],
)
def test_losses_are_copied_and_sent_elsewhere(spec):
    loss = make_loss(spec)
    assert pickle.loads(pickle.dumps(loss)) == loss and copy.deepcopy(loss) == loss


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ("nowhere.py:loss", "loss file '.*nowhere.py' does not exist"),
        ("nosuch.module:loss", "loss 'nosuch.module:loss': the module 'nosuch' is not installed"),
        (f"{FILE}:Charbonier", "has no 'Charbonier': did you mean Charbonnier"),
        (f"{FILE}:number", "number is an int, not a class or a function"),
        (f"{FILE}:Trains", "it has parameters of its own, which nothing would train"),
        (f"{FILE}:Needs", "factor is missing: it has no default"),
        (f"{FILE}:Charbonnier:eps=1", "has no hyperparameter 'eps': did you mean epsilon"),
        (f"{FILE}:logistic:width=wide", "width='wide' cannot be read as float"),
        ("huber:delta=0", "huber: delta=0.0 must be at least 1e-06"),
        ("focal:", "loss 'focal:': nothing stands behind its colon, where KEY=VALUE is wanted"),
        ("mae+SmoothL1Loss:", "loss 'SmoothL1Loss:': nothing stands behind its colon"),
        (f"{FILE}:logistic:", "nothing stands behind its colon"),
        (FILE, r"user_losses.py': it is a file, and FILE.py:NAME says which loss of it"),
        ("CrossEntropyLoss:label_smoothing=2", r"CrossEntropyLoss: label_smoothing=2\.0 must be in \[0, 1\]"),
        ("CrossEntropyLoss:label_smoothing=-0.1", r"label_smoothing=-0\.1 must be in \[0, 1\]"),
        ("HuberLoss:delta=0", r"HuberLoss: delta=0\.0 must be above 0"),
        ("SmoothL1Loss:beta=-1", r"SmoothL1Loss: beta=-1\.0 must be at least 0"),
        ("MultiMarginLoss:p=3", r"MultiMarginLoss: p=3 must be in \[1, 2\]"),
        ("TripletMarginLoss:margin=0", r"TripletMarginLoss: margin=0\.0 must be above 0"),
        ("huber:1.5", "loss 'huber:1.5': '1.5' is not KEY=VALUE"),
        ("mae+", "a part of the sum is empty"),
        ("mae+-0.5*mse", "the weight -0.5 must be at least 0"),
        ("huber:delta=1,delta=2", "loss 'huber:delta=1,delta=2': it gives delta twice"),
        ("1.2.3*mae", "the weight '1.2.3' is not a number"),
        ("mea+mse", "unknown loss 'mea': did you mean"),
        ("apart:mae", "loss 'apart:mae': it has one part, and nothing to weigh it against"),
        ("apart:mae+0*mse", "weight2=0 of mse must be above 0 to be weighed"),
        ("apart:", "a part of the sum is empty"),
    ],
)
def test_what_is_wrong_with_a_spec_is_said(spec, complaint):
    with pytest.raises(ValueError, match=complaint):
        make_loss(spec)


def test_arguments_called_as_what_every_loss_has_keep_their_meaning():
    labels = torch.tensor([1.0, 3.0])
    loss = make_loss(f"{FILE}:Named:kind_=absolute,terms_=2")
    assert loss.name == f"{FILE}:Named" and str(make_loss(str(loss))) == str(loss)
    assert float(loss(torch.zeros(2, 1), labels)) == 4.0 and float(make_loss(f"{FILE}:Named")(labels * 0, labels)) == 5
    with pytest.raises(ValueError, match="did you mean kind_"):
        make_loss(f"{FILE}:Named:kind=absolute")


def test_names_of_papers_are_names_of_ours_too():
    assert make_loss("bce:positive_weight=2") == make_loss("binary-cross-entropy:positive_weight=2")
    assert str(make_loss("apart:bce+0.5*focal")) == "apart:binary-cross-entropy+0.5*focal"


def test_an_edited_file_is_read_again(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("def loss(p, t):\n    return (p - t).abs().mean()\n")
    before = make_loss(f"{path}:loss")(PREDICTION, TARGET)
    path.write_text("def loss(p, t, factor=2.0):\n    return factor * (p - t).abs().mean()\n")
    torch.testing.assert_close(make_loss(f"{path}:loss")(PREDICTION, TARGET), 2 * before)


def test_a_users_loss_that_does_not_fit_says_why():
    assert "fails on outputs (12, 3)" in make_loss(f"{FILE}:logistic").complaint(torch.zeros(12, 3), TARGET)
    assert "takes one output for each label" in make_loss("SmoothL1Loss").complaint(torch.zeros(12, 5), TARGET)


def test_a_sum_weighs_its_parts():
    loss = make_loss("mae+0.1*huber:delta=0.5+1e-2*mse")
    error = PREDICTION[:, 0] - TARGET
    huber = nn.functional.huber_loss(error, 0 * error, delta=0.5)
    torch.testing.assert_close(loss(PREDICTION, TARGET), error.abs().mean() + 0.1 * huber + 0.01 * (error**2).mean())
    torch.testing.assert_close(loss(PREDICTION, TARGET, "none").mean(), loss(PREDICTION, TARGET))
    assert str(loss) == "mae+0.1*huber:delta=0.5+0.01*mse" and make_loss(str(loss)) == loss
    assert list(domains(loss)) == ["weight1", "weight2", "huber_delta", "weight3"]
    assert [domains(loss)[f"weight{k}"].search for k in (1, 2, 3)] == [None, (0.01, 10.0), (0.01, 10.0)]


def test_a_sum_makes_its_parts_once(monkeypatch):
    made, whole = [], Huber.__post_init__
    monkeypatch.setattr(Huber, "__post_init__", lambda self: (made.append(self), whole(self)))
    loss = make_loss("mae+0.1*huber:delta=2")
    made.clear()
    for _ in range(3):
        loss(torch.zeros(4), torch.ones(4))
    assert len(made) <= 1
    assert copy.deepcopy(loss) == loss and dataclasses.replace(loss, huber_delta=3.0).weighed[1][1].delta == 3.0


def test_the_weights_of_a_sum_have_a_member_axis():
    first, second = make_loss("mae+0.1*huber"), make_loss("mae+0.1*huber")
    assert type(first) is type(second) and structure(first) == structure(second)
    import dataclasses

    second = dataclasses.replace(second, weight2=0.7, huber_delta=0.2)
    values = differing([first, second], TARGET)
    assert sorted(values) == ["huber_delta", "weight2"]
    both = torch.func.vmap(lambda given: substituted(first, given)(PREDICTION, TARGET))(values)
    torch.testing.assert_close(both, torch.stack([first(PREDICTION, TARGET), second(PREDICTION, TARGET)]))
    assert str(second) == "mae+0.7*huber:delta=0.2"


def test_a_sum_of_classes_fits_complains_and_guesses_as_its_parts():
    labels = torch.tensor([0, 1, 1, 1, 2, -100])
    loss = make_loss("cross-entropy:class_weights=inverse+0.5*dice").fitted(labels, 3)
    weights = "class_weights=1.66667/0.555556/1.66667"
    assert str(loss) == f"cross-entropy:{weights}+0.5*dice"
    logits = torch.randn(6, 3)
    expected = make_loss(f"cross-entropy:{weights}")(logits, labels) + 0.5 * make_loss("dice")(logits, labels)
    torch.testing.assert_close(loss(logits, labels), expected)
    assert takes_classes(loss, labels, 3) and constant_prediction(loss, labels, labels, 3).shape == (6, 3)
    said = loss.complaint(logits, labels.float())
    assert said.startswith("cannot take cross-entropy: it takes classes of type int64")
    for reduction in ("mean", "none"):
        with pytest.raises(ValueError, match="class_weights=inverse is decided by the training labels"):
            make_loss("mae+cross-entropy:class_weights=inverse")(logits, labels, reduction)
    with pytest.raises(ValueError, match="its parts have no terms in common"):
        loss(logits, labels, "none")


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("pinball", "quantile"),
        ("dssim", "ssim"),
        ("iou", "tversky, lovasz"),
        ("ce", "cross-entropy"),
        ("silog", "scale-invariant"),
    ],
)
def test_words_of_other_libraries_lead_to_our_names(word, name):
    with pytest.raises(ValueError, match=f"unknown loss '{word}': did you mean {name}"):
        make_loss(word)


def test_parts_that_are_weighed_apart_add_up_to_the_sum():
    apart, whole = (
        make_loss(f"apart:2*mae+0.1*mse+mae+{FILE}:logistic"),
        make_loss(f"2*mae+0.1*mse+mae+{FILE}:logistic"),
    )
    assert apart.apart == ("mae1", "mse", "mae3", "logistic") and whole.apart == ()
    error = PREDICTION[:, 0] - TARGET
    each = losses_of(apart, PREDICTION, TARGET)
    expected = [
        2 * error.abs().mean(),
        0.1 * error.square().mean(),
        error.abs().mean(),
        torch.log(torch.cosh(error)).mean(),
    ]
    torch.testing.assert_close(torch.stack(each), torch.stack(expected))
    assert apart(PREDICTION, TARGET) == whole(PREDICTION, TARGET) == sum(each[1:], each[0])
    assert [float(loss) for loss in losses_of(whole, PREDICTION, TARGET)] == [float(whole(PREDICTION, TARGET))]
    assert structure(apart) != structure(whole)


@pytest.mark.parametrize(
    ("spec", "full", "keys"),
    [
        ("cross-entropy", "cross-entropy", set()),
        ("cross-entropy:label_smoothing=0", "cross-entropy:label_smoothing=0", {"label_smoothing"}),
        (
            "cross-entropy:label_smoothing=0.0,class_weights=effective",
            "cross-entropy:class_weights=effective,label_smoothing=0",
            {"label_smoothing", "class_weights"},
        ),
        ("focal:gamma=1", "focal:gamma=1", {"gamma"}),
        ("SmoothL1Loss:beta=1.0", "SmoothL1Loss:beta=1", {"beta"}),
        (f"{MODULE}:logistic:width=1", f"{MODULE}:logistic:width=1", {"width"}),
        ("mae + 1*huber:delta=1", "mae+1*huber:delta=1", {"weight2", "huber_delta"}),
        ("huber+0.1*huber:delta=2", "huber+0.1*huber:delta=2", {"weight2", "huber2_delta"}),
        (" apart:mae+1*huber:delta=1", "apart:mae+1*huber:delta=1", {"weight2", "huber_delta"}),
    ],
)
def test_what_a_spec_sets_is_known_at_a_default_too(spec, full, keys):
    assert in_full(spec) == full and said(spec) == said(full) == keys
    assert make_loss(full) == make_loss(spec) and in_full(full) == full


def test_a_spec_for_people_has_no_folders():
    assert without_folders(f"{FILE}:logistic:width=2") == "user_losses.py:logistic:width=2"
    assert without_folders(f"mae+0.1*{FILE}:made") == "mae+0.1*user_losses.py:made"
    assert without_folders(f"lr=0.1, loss.a={FILE}:made") == "lr=0.1, loss.a=user_losses.py:made"
    assert without_folders(f"{MODULE}:made") == f"{MODULE}:made"


def test_an_argument_that_does_not_say_its_type_is_the_same_from_a_spec_and_from_a_search():
    written = make_loss(f"{FILE}:Needs:factor=2.5")
    searched = dataclasses.replace(make_loss(f"{FILE}:Needs:factor=1"), factor=2.5)
    assert written == searched and spec_of("task", searched) == f"{FILE}:Needs:factor=2.5"
    assert pickle.loads(pickle.dumps(searched)) == searched
