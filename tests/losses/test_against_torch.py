"""Values and gradients equal those of torch, to 1e-6, where torch has the same loss."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mtl.losses import LOSSES, loss_class, loss_of, make_loss
from mtl.losses.examples import example
from mtl.losses.torch_losses import torch_names
from tests.losses import user_losses

WEIGHTS = torch.tensor([0.5, 2.0, 1.0, 3.0], dtype=torch.float64)


def flat(function):
    return lambda p, t, **more: function(p[:, 0], t, **more)


OURS = {
    "mse": flat(F.mse_loss),
    "mae": flat(F.l1_loss),
    "huber:delta=0.7": lambda p, t, **m: F.huber_loss(p[:, 0], t, delta=0.7, **m),
    "smooth-l1:beta=0.7": lambda p, t, **m: F.smooth_l1_loss(p[:, 0], t, beta=0.7, **m),
    "poisson": lambda p, t, **m: _reduced(F.poisson_nll_loss(p[:, 0], t, reduction="none") + t.xlogy(t) - t, **m),
    "gaussian": lambda p, t, **m: F.gaussian_nll_loss(p[:, 0], t, p[:, 1].exp(), **m),
    "cross-entropy": F.cross_entropy,
    "cross-entropy:label_smoothing=0.2": lambda p, t, **m: F.cross_entropy(p, t, label_smoothing=0.2, **m),
    "cross-entropy:class_weights=0.5/2/1/3,label_smoothing=0.2": lambda p, t, **m: F.cross_entropy(
        p, t, WEIGHTS, label_smoothing=0.2, **m
    ),
    "nll": F.nll_loss,
    "nll:class_weights=0.5/2/1/3": lambda p, t, **m: F.nll_loss(p, t, WEIGHTS, **m),
    "focal:gamma=0": F.cross_entropy,
    "poly:epsilon=0": F.cross_entropy,
    "logit-adjusted:priors=0.1/0.2/0.3/0.4": lambda p, t, **m: F.cross_entropy(
        p + torch.tensor([0.1, 0.2, 0.3, 0.4]).double().log(), t, **m
    ),
    "hinge:margin=0.6": lambda p, t, **m: F.multi_margin_loss(p, t, margin=0.6, **m),
    "binary-cross-entropy:positive_weight=3": lambda p, t, **m: F.binary_cross_entropy_with_logits(
        p, t, pos_weight=torch.tensor(3.0), **m
    ),
    "multi-label:positive_weights=0.5/2/1/3": lambda p, t, **m: F.binary_cross_entropy_with_logits(
        p, t, pos_weight=WEIGHTS, **m
    ),
    "asymmetric:positive=0,negative=0,shift=0": F.binary_cross_entropy_with_logits,
    "cosine": lambda p, t, **m: (
        1 - F.cosine_similarity(p, t, dim=-1).mean()
        if m == {"reduction": "mean"}
        else _reduced(1 - F.cosine_similarity(p, t, dim=-1), **m)
    ),
    "kl:temperature=2": lambda p, t, **m: _reduced(
        4 * F.kl_div((p / 2).log_softmax(-1), (t / 2).log_softmax(-1), log_target=True, reduction="none").sum(-1), **m
    ),
}


def _reduced(each, reduction):
    return {"mean": each.mean(), "sum": each.sum(), "none": each}[reduction]


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("spec", OURS)
def test_ours_equal_torchs_in_value_and_gradient(spec, reduction):
    loss = make_loss(spec)
    prediction, target = example(loss.kind, seed=3)
    mine, theirs = (prediction.clone().requires_grad_() for _ in range(2))
    value, expected = loss(mine, target, reduction=reduction), OURS[spec](theirs, target, reduction=reduction)
    torch.testing.assert_close(value.reshape(expected.shape), expected, rtol=1e-6, atol=1e-6)
    value.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-6, atol=1e-6)


def theirs_of(name):
    """A prediction, a label and the arguments that torch's own class takes."""
    draw = torch.Generator().manual_seed(1)
    numbers = torch.randn(12, 4, generator=draw, dtype=torch.float64)
    signs = torch.randint(0, 2, (12, 4), generator=draw).double() * 2 - 1
    classes = torch.randint(0, 4, (12,), generator=draw)
    binary = (signs + 1) / 2
    return {
        "BCELoss": (numbers.sigmoid(), binary),
        "BCEWithLogitsLoss": (numbers, binary),
        "CosineEmbeddingLoss": (torch.stack([numbers, numbers.roll(1)], 1), signs[:, 0]),
        "CrossEntropyLoss": (numbers, classes),
        "GaussianNLLLoss": (torch.stack([numbers[:, 0], numbers[:, 1].exp()], 1), numbers[:, 2]),
        "HingeEmbeddingLoss": (numbers, signs),
        "KLDivLoss": (numbers.log_softmax(-1), numbers.roll(1).softmax(-1)),
        "MarginRankingLoss": (numbers[:, :2], signs[:, 0]),
        "MultiLabelMarginLoss": (numbers, torch.tensor([[1, 2, -1, 0]] * 12)),
        "MultiMarginLoss": (numbers, classes),
        "NLLLoss": (numbers.log_softmax(-1), classes),
        "PoissonNLLLoss": (numbers, torch.poisson(numbers.exp(), generator=draw)),
        "SoftMarginLoss": (numbers, signs),
        "TripletMarginLoss": (torch.stack([numbers, numbers.roll(1), numbers.roll(2)], 1), classes),
        "TripletMarginWithDistanceLoss": (torch.stack([numbers, numbers.roll(1), numbers.roll(2)], 1), classes),
    }.get(name, (numbers, binary))


def called(name, prediction, target):
    made = getattr(nn, name)()
    if name in ("CosineEmbeddingLoss", "MarginRankingLoss"):
        return made(prediction[:, 0], prediction[:, 1], target)
    if name.startswith("TripletMargin"):
        return made(*prediction.unbind(1))
    return (
        made(prediction[..., 0], target, prediction[..., 1]) if name == "GaussianNLLLoss" else made(prediction, target)
    )


@pytest.mark.parametrize("name", torch_names())
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides:UserWarning")
def test_every_loss_of_torch_is_torchs_own(name):
    prediction, target = theirs_of(name)
    mine, theirs = (prediction.detach().clone().requires_grad_() for _ in range(2))
    loss = make_loss(name)
    assert loss.complaint(prediction, target) is None
    value, expected = loss(mine, target), called(name, theirs, target)
    torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-6)
    value.backward()
    expected.backward()
    torch.testing.assert_close(mine.grad, theirs.grad, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("spec", "module"),
    [
        ("SmoothL1Loss:beta=0.5", nn.SmoothL1Loss(beta=0.5)),
        ("CrossEntropyLoss:label_smoothing=0.1", nn.CrossEntropyLoss(label_smoothing=0.1)),
        ("CrossEntropyLoss:weight=0.5/2/1/3", nn.CrossEntropyLoss(weight=WEIGHTS)),
        ("BCEWithLogitsLoss:pos_weight=0.5/2/1/3", nn.BCEWithLogitsLoss(pos_weight=WEIGHTS)),
        ("MultiMarginLoss:p=2,margin=0.5", nn.MultiMarginLoss(p=2, margin=0.5)),
        ("PoissonNLLLoss:log_input=false,full=true", nn.PoissonNLLLoss(log_input=False, full=True)),
    ],
)
def test_arguments_of_torch_go_to_torch_and_come_back_in_the_spec(spec, module):
    prediction, target = theirs_of(spec.partition(":")[0])
    prediction = prediction.abs() if "log_input" in spec else prediction
    loss = make_loss(spec)
    torch.testing.assert_close(loss(prediction, target), module(prediction, target))
    assert str(loss) == spec or make_loss(str(loss)) == loss


def test_classes_of_a_dense_prediction_stand_last_for_torch_too():
    logits, labels = torch.randn(3, 5, 6, 4), torch.randint(0, 4, (3, 5, 6))
    expected = F.cross_entropy(logits.movedim(-1, 1), labels)
    for spec in ("CrossEntropyLoss", "cross-entropy"):
        torch.testing.assert_close(make_loss(spec)(logits, labels), expected)
        assert make_loss(spec).complaint(logits, labels) is None


@pytest.mark.parametrize("spec", ["crossed", "crossed_instance", "Overlap:mode=all"])
def test_losses_of_others_get_the_classes_of_pixels_where_torch_has_them(spec):
    logits, labels = torch.randn(3, 5, 6, 4), torch.randint(0, 4, (3, 5, 6))
    second = logits.movedim(-1, 1)
    theirs = user_losses.Overlap("all") if spec.startswith("Overlap") else F.cross_entropy
    loss = make_loss(f"tests.losses.user_losses:{spec}")
    assert loss.complaint(logits, labels) is None
    for model_has in (logits, second):
        torch.testing.assert_close(loss_of(loss, model_has, labels), theirs(second, labels))
        both = loss_of(make_loss(f"dice+2*{loss}"), model_has, labels)
        torch.testing.assert_close(both, make_loss("dice")(logits, labels) + 2 * theirs(second, labels))


@pytest.mark.parametrize(
    "name",
    [
        *("MSELoss", "BCEWithLogitsLoss", "SmoothL1Loss", "MultiMarginLoss", "CrossEntropyLoss", "GaussianNLLLoss"),
        *("CosineEmbeddingLoss", "MarginRankingLoss"),
    ],
)
def test_losses_of_torch_leave_out_missing_labels(name):
    prediction, target = theirs_of(name)
    without = target.clone()
    without[4:] = -100 if target.dtype == torch.int64 else torch.nan
    torch.testing.assert_close(make_loss(name)(prediction, without), make_loss(name)(prediction[:4], target[:4]))


def test_losses_of_torch_with_a_prediction_for_each_label_refuse_others():
    said = make_loss("L1Loss").complaint(torch.randn(4, 4), torch.randn(4))  # torch would take all 16 differences
    assert said == "takes one output for each label: here an example has outputs of shape (4,) and labels of shape ()"


def test_losses_of_torch_that_cannot_be_a_tasks_say_why():
    with pytest.raises(ValueError, match=r"'CTCLoss' of torch\.nn cannot be the loss of a task: it needs the lengths"):
        make_loss("CTCLoss")
    with pytest.raises(ValueError, match=r"unknown loss 'SmothL1Loss': did you mean SmoothL1Loss"):
        make_loss("SmothL1Loss")
    with pytest.raises(ValueError, match=r"SmoothL1Loss has no hyperparameter 'betta': did you mean beta"):
        make_loss("SmoothL1Loss:betta=1")
    with pytest.raises(
        ValueError, match="has no hyperparameter 'distance_function'"
    ):  # a function, which no spec can say
        make_loss("TripletMarginWithDistanceLoss:distance_function=1")
    assert not set(LOSSES) & set(torch_names()) and loss_class("L1Loss") is loss_class("L1Loss")
