import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import minimize

from mtl.losses import IGNORE, LOSSES, make_loss
from mtl.metrics import accuracy, auc, mae, r2


def examples(name):
    if name in ("cross-entropy", "focal"):
        return torch.randn(50, 4, dtype=torch.float64), torch.randint(0, 4, (50,))
    if name == "binary-cross-entropy":
        return torch.randn(50, 3, dtype=torch.float64), torch.randint(0, 2, (50, 3)).double()
    return torch.randn(50, 1, dtype=torch.float64), torch.randn(50, dtype=torch.float64)


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
    loss = make_loss(name)
    prediction, target = examples(name)
    target[10:] = IGNORE if target.dtype == torch.int64 else torch.nan
    prediction.requires_grad_()
    value = loss(prediction, target)
    torch.testing.assert_close(value, loss(prediction[:10], target[:10]))
    value.backward()
    assert prediction.grad.isfinite().all() and (prediction.grad[10:] == 0).all()
    target[:] = IGNORE if target.dtype == torch.int64 else torch.nan
    assert loss(prediction, target).isnan()


@pytest.mark.parametrize("name", LOSSES)
def test_the_constant_prediction_is_the_best_one(name):
    loss = make_loss(name)
    _, target = examples(name)
    best = loss.constant(target).double()
    at_best = float(loss(best.expand(50, -1), target))
    found = minimize(
        lambda v: float(loss(torch.tensor(v).expand(50, -1), target)),
        best.numpy() + 0.1,
        method="Nelder-Mead",
        options={"maxiter": 2000, "fatol": 1e-9, "xatol": 1e-7},
    )
    tolerance = 0.05 if name in ("focal", "huber") else 1e-4  # those two use the mean or the class frequencies
    assert at_best <= found.fun + tolerance


def test_unknown_losses_are_refused_with_the_nearest():
    with pytest.raises(ValueError, match="unknown loss 'hubr': did you mean huber"):
        make_loss("hubr")


def test_metrics_skip_missing_labels_and_are_nan_for_broken_predictions():
    logits, classes = torch.tensor([[2.0, 1], [0, 1], [3, 0]]), torch.tensor([0, 0, IGNORE])
    assert accuracy(logits, classes) == 0.5
    assert mae(torch.tensor([[1.0], [5.0]]), torch.tensor([2.0, torch.nan])) == 1
    assert auc(torch.tensor([[0.1], [0.9]]), torch.tensor([0.0, 1.0])) == 1
    nan = r2(torch.tensor([[torch.nan], [1.0]]), torch.tensor([1.0, 2.0]))
    assert nan != nan
    none = accuracy(logits, torch.full((3,), IGNORE))
    assert none != none


def test_skill_is_relative_to_a_reference():
    assert accuracy.skill(0.55, 0.1) == pytest.approx(0.5)
    assert mae.skill(0.5, 2.0) == pytest.approx(0.75)


def test_plain_means_equal_scikit_learns():
    from sklearn import metrics as sk

    guess, truth = torch.randn(50, 4), torch.randint(4, (50,))
    assert accuracy(guess, truth) == sk.accuracy_score(truth.numpy(), guess.argmax(1).numpy())
    several, wanted = torch.randn(50, 3), torch.randn(50, 3)
    assert mae(several, wanted) == pytest.approx(sk.mean_absolute_error(wanted.numpy(), several.numpy()), rel=1e-6)
