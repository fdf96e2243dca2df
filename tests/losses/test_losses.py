import math

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize
from torch import nn

from mtl.losses import IGNORE, LOSSES, constant_prediction, loss_of, make_loss
from mtl.losses.examples import example, with_missing
from mtl.losses.labels import known


def examples(name):
    """50 examples and more of the kind that the loss is made for."""
    pairs = [example(make_loss(name).kind, seed) for seed in range(5)]
    prediction, target = (torch.cat(each) for each in zip(*pairs, strict=True))
    return prediction, target


def ready(name):
    """The loss by its name, with what the labels decide."""
    prediction, target = examples(name)
    return make_loss(name).fitted(target, prediction.shape[-1])


ORACLES = {
    "cross-entropy:label_smoothing=0.1": lambda p, t: F.cross_entropy(p, t, label_smoothing=0.1),
    "cross-entropy": F.cross_entropy,
    "focal:gamma=0": F.cross_entropy,
    "mse": lambda p, t: F.mse_loss(p[:, 0], t),
    "mae": lambda p, t: F.l1_loss(p[:, 0], t),
    "huber:delta=0.5": lambda p, t: F.huber_loss(p[:, 0], t, delta=0.5),
    "quantile:q=0.5": lambda p, t: F.l1_loss(p[:, 0], t) / 2,
    "binary-cross-entropy": F.binary_cross_entropy_with_logits,
    "binary-cross-entropy:positive_weight=3": lambda p, t: F.binary_cross_entropy_with_logits(
        p, t, pos_weight=torch.tensor(3.0)
    ),
}


@pytest.mark.parametrize("spec", ORACLES)
def test_losses_equal_torchs_own(spec):
    prediction, target = examples(spec.partition(":")[0])
    torch.testing.assert_close(make_loss(spec)(prediction, target), ORACLES[spec](prediction, target))


@pytest.mark.parametrize("name", LOSSES)
def test_missing_labels_are_left_out_of_value_and_gradient(name):
    loss = ready(name)
    prediction, target = examples(name)
    target = with_missing(target, slice(10, None))
    prediction.requires_grad_()
    value = loss(prediction, target)
    torch.testing.assert_close(value, loss(prediction[:10], target[:10]))
    value.backward()
    assert prediction.grad.isfinite().all() and (prediction.grad[10:] == 0).all()
    assert loss(prediction, with_missing(target, slice(None))).isnan()


#: Of these the constant is near the best one: class shares, or an answer that is sure.
NEAR = {"focal": 0.05, "taylor": 0.05, "poly": 0.01, "asymmetric": 0.3, "dice": 0.1, "tversky": 0.1, "lovasz": 0.3}
#: Embeddings at one place are all that can be said without inputs; log-probabilities here need not add up to 1.
#: Pictures have too many pixels to search over: see test_pictures.py.
NO_BEST = ("triplet", "contrastive", "nll", "gradient", "ssim")


@pytest.mark.parametrize("name", [name for name in LOSSES if name not in NO_BEST])
def test_the_constant_prediction_is_the_best_one(name):
    loss = ready(name)
    prediction, target = examples(name)
    best = constant_prediction(loss, target, target, prediction.shape[-1]).double()
    shape = best.reshape(len(target), -1).shape[1:]
    found = minimize(
        lambda v: float(loss(torch.tensor(v).expand(len(target), *shape), target)),
        best.reshape(len(target), -1)[0].numpy() + 0.1,
        method="Nelder-Mead",
        options={"maxiter": 2000, "fatol": 1e-9, "xatol": 1e-7},
    )
    assert float(loss(best.reshape(prediction.shape), target)) <= found.fun + NEAR.get(name, 1e-4)


def test_unknown_losses_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match="unknown loss 'hubr': did you mean huber"):
        make_loss("hubr")


def incomplete_labels(whole_numbers=False):
    """200 examples of 12 labels, 30 % of them missing, with logits that know nothing."""
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(200, 12, generator=generator)
    labels = (torch.rand(200, 12, generator=generator) < 0.5).float()
    labels[torch.rand(200, 12, generator=generator) < 0.3] = torch.nan
    return logits, labels.nan_to_num(IGNORE).long() if whole_numbers else labels


@pytest.mark.parametrize("whole_numbers", [False, True])
@pytest.mark.parametrize("name", ["binary-cross-entropy", "focal", "mse", "mae", "huber", "quantile"])
def test_labels_missing_within_an_example_are_left_out_one_by_one(name, whole_numbers):
    logits, labels = incomplete_labels(whole_numbers)
    there = known(labels)
    assert 0.6 < there.float().mean() < 0.8
    loss = make_loss(name)
    torch.testing.assert_close(loss(logits, labels), loss(logits[there], labels[there].float()))
    best = loss.constant(labels, 12)
    assert best.shape == (12,) and best.isfinite().all()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.0])
def test_focal_has_a_finite_gradient_for_an_example_that_is_certain(gamma):
    logits = torch.tensor([[40.0, -40.0], [300.0, -300.0], [-1.0, 1.0]], requires_grad=True)
    make_loss(f"focal:gamma={gamma}")(logits, torch.tensor([0, 0, 0])).backward()
    assert logits.grad.isfinite().all() and logits.grad[2].abs().sum() > 0


def test_focal_takes_one_logit_and_equals_two_class_logits():
    loss, logits, labels = make_loss("focal:gamma=1.5"), torch.randn(40, 1), torch.randint(0, 2, (40,))
    two = loss(torch.cat([torch.zeros(40, 1), logits], 1), labels)
    torch.testing.assert_close(loss(logits, labels.float()), two)
    torch.testing.assert_close(loss(logits, labels), two)
    rate = labels.float().mean()
    torch.testing.assert_close(loss.constant(labels, 1), torch.logit(rate)[None])


@pytest.mark.parametrize(
    "function",
    [
        lambda p, t: (p - t).abs().mean(),
        lambda p, t: (p[..., None] - t[..., None]).abs().mean(),
        nn.L1Loss(),
    ],
)
@pytest.mark.parametrize("labels", [torch.randn(30), torch.randint(0, 9, (30,))])
def test_functions_get_predictions_and_labels_in_one_shape(function, labels):
    prediction = torch.randn(30, 1)
    torch.testing.assert_close(loss_of(function, prediction, labels), (prediction[:, 0] - labels).abs().mean())


def test_functions_of_classes_get_what_there_is():
    logits, labels = torch.randn(30, 4), torch.randint(0, 4, (30,))
    labels[3] = IGNORE
    torch.testing.assert_close(
        loss_of(nn.CrossEntropyLoss(), logits, labels), make_loss("cross-entropy")(logits, labels)
    )


@pytest.mark.parametrize(
    ("spec", "outputs", "labels", "complaint"),
    [
        ("cross-entropy", (1,), torch.tensor([0, 1]), "takes a logit for each class"),
        ("cross-entropy", (3,), torch.tensor([0.0, 1.0]), "classes of type int64 as labels: here they are of float32"),
        ("cross-entropy", (3,), torch.tensor([0, IGNORE, 3]), "classes from 0 to 2: here is 3"),
        ("focal", (3,), torch.tensor([-1, 0]), "classes from 0 to 2: here is -1"),
        ("focal", (1,), torch.tensor([0.0, 2.0]), "labels from 0 to 1: here is 2"),
        ("binary-cross-entropy", (1,), torch.tensor([0, IGNORE, 7]), "labels from 0 to 1: here is 7"),
        ("mse", (2,), torch.tensor([0.0, 1.0]), "one output for each label: here an example has outputs of shape (2,)"),
        ("mse", (1,), torch.tensor([4, 0]), None),
        ("binary-cross-entropy", (4,), torch.ones(9, 4), None),
        ("cross-entropy", (5, 3), torch.ones(9, 5).long(), None),
    ],
)
def test_a_loss_says_what_it_cannot_take(spec, outputs, labels, complaint):
    said = make_loss(spec).complaint(torch.zeros(2, *outputs), labels)
    assert said is None if complaint is None else complaint in said


@pytest.mark.parametrize("function", [nn.MSELoss(), nn.BCEWithLogitsLoss()])
def test_the_constant_prediction_of_a_function_is_a_number_or_a_logit(function):
    labels = (torch.arange(40) < 10).long()
    best = constant_prediction(function, labels, labels[:5], 1)
    expected = 0.25 if isinstance(function, nn.MSELoss) else math.log(0.25 / 0.75)
    torch.testing.assert_close(best, torch.full((5,), expected))


def test_places_without_a_label_get_the_mean_of_all():
    labels = torch.tensor([[1.0, torch.nan], [2.0, torch.nan]])
    assert constant_prediction(make_loss("mse"), labels, labels, 2).tolist() == [[1.5, 1.5]] * 2


@pytest.mark.parametrize("spec", ["huber:delta=0.3", "smooth-l1:beta=0.2", "log-cosh:width=0.4"])
def test_the_best_constant_of_a_pixel_is_that_of_its_own_labels(spec):
    labels = torch.randn(6, 200, 100, generator=torch.Generator().manual_seed(0)) ** 3
    labels[1, 7, 7], labels[:, 199, 99] = torch.nan, torch.nan
    found = make_loss(spec).constant(labels).reshape(200, 100)
    for row, column in [(0, 0), (7, 7), (100, 50), (199, 98)]:
        assert found[row, column] == pytest.approx(float(make_loss(spec).constant(labels[:, row, column])), abs=1e-6)
    assert found[199, 99] == pytest.approx(float(labels.nanmean()), abs=1e-5)
