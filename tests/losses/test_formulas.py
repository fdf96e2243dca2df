"""Losses that torch does not have equal the formula of their paper, or an independent implementation."""

import math

import numpy as np
import pytest
import torch
from scipy import stats
from scipy.optimize import minimize_scalar
from sklearn.metrics import d2_tweedie_score, jaccard_score, mean_poisson_deviance, mean_tweedie_deviance
from sklearn.utils.class_weight import compute_class_weight

from mtl.losses import LOSSES, make_loss
from mtl.losses.class_weights import class_counts, effective
from mtl.losses.examples import example


def drawn(kind, seed=2):
    prediction, target = example(kind, seed)
    return prediction, target, prediction.numpy(), target.numpy()


def close(value, expected, rel=1e-9):
    assert float(value) == pytest.approx(float(expected), rel=rel)


def test_log_cosh():
    p, t, x, y = drawn("numbers")
    close(make_loss("log-cosh:width=0.5")(p, t), np.mean(0.25 * np.log(np.cosh((x[:, 0] - y) / 0.5))))


def test_quantile():
    p, t, x, y = drawn("numbers")
    from sklearn.metrics import mean_pinball_loss

    close(make_loss("quantile:q=0.8")(p, t), mean_pinball_loss(y, x[:, 0], alpha=0.8))


def test_the_negative_binomial_is_scipys():
    p, t, x, y = drawn("counts")
    size, mean = 1 / 0.7, np.exp(x[:, 0])
    expected = -stats.nbinom.logpmf(y, size, size / (size + mean)).mean()
    close(make_loss("negative-binomial:dispersion=0.7")(p, t), expected)


def test_the_negative_binomial_of_large_counts_is_scipys_in_float32():
    size, mean, y = 1 / 0.7, 3e6, np.array([2e6, 3e6, 1.6e7])
    found = make_loss("negative-binomial:dispersion=0.7")(torch.full((3, 1), math.log(mean)), torch.tensor(y).float())
    close(found, -stats.nbinom.logpmf(y, size, size / (size + mean)).mean(), rel=1e-5)


def test_poisson_is_scipys_less_that_of_right_means():
    p, t, x, y = drawn("counts")
    right = stats.poisson.logpmf(y, y).mean()
    close(make_loss("poisson")(p, t), right - stats.poisson.logpmf(y, np.exp(x[:, 0])).mean())


def test_poisson_is_half_the_deviance_and_never_below_zero():
    p, t, x, y = drawn("counts")
    close(make_loss("poisson")(p, t), mean_poisson_deviance(y, np.exp(x[:, 0])) / 2)
    counts = torch.tensor([0.0, 1.0, 7.0, 2.0**24])
    each = make_loss("poisson")(counts.clamp(min=1e-30).log()[:, None], counts, "none")[:, 0]
    assert each.tolist() == pytest.approx([0, 0, 0, 0], abs=20)  # of 16,777,216: about one unit in its last place
    assert each[:3].tolist() == pytest.approx([0, 0, 0], abs=1e-5) and bool((each[:3] >= -1e-5).all())


@pytest.mark.parametrize("spec", ["poisson", "tweedie", "negative-binomial", "exp:of=mse"])
def test_up_to_the_largest_whole_number_of_float32_the_output_is_the_logarithm_of_the_mean(spec):
    loss, counts = make_loss(spec), torch.tensor([1e5, 2.0**24]).double()
    for count in counts:
        best = minimize_scalar(
            lambda x, y=count: float(loss(torch.tensor([[x]]).double(), y[None])), (9, 15), tol=1e-12
        )
        assert best.x == pytest.approx(math.log(count), abs=1e-3)


def test_an_error_of_the_mean_is_that_of_the_loss_within():
    p, t, x, y = drawn("counts")
    close(make_loss("exp:of=mse")(p, t), np.square(np.exp(x[:, 0]) - y).mean())
    close(make_loss("exp:of=mae")(p, t), np.abs(np.exp(x[:, 0]) - y).mean())
    assert str(make_loss("exp:of=huber:delta=2")) == "exp:of=huber:delta=2"
    for spec in ("exp:of=poisson", "exp:of=dice", "exp:of=exp", "exp:of=mse-gradient"):
        with pytest.raises(ValueError, match=r"exp: of=|unknown loss"):
            make_loss(spec)


def test_tweedie_is_half_the_deviance_up_to_what_the_prediction_leaves_alone():
    p, t, x, y = drawn("counts")
    power = 1.4
    alone = np.mean(y ** (2 - power)) / ((1 - power) * (2 - power))
    deviance = mean_tweedie_deviance(y, np.exp(x[:, 0]), power=power)
    close(make_loss(f"tweedie:power={power}")(p, t), deviance / 2 - alone)
    assert d2_tweedie_score(y, np.exp(x[:, 0]), power=power) < 1  # the same predictions, so the oracle was read right


def test_gaussian_is_scipys_up_to_a_constant():
    p, t, x, y = drawn("mean and variance")
    expected = -stats.norm.logpdf(y, x[:, 0], np.exp(x[:, 1] / 2)).mean() - math.log(2 * math.pi) / 2
    close(make_loss("gaussian")(p, t), expected)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def test_focal_with_alpha():
    p, t, x, y = drawn("yes or no")
    q = 1 / (1 + np.exp(-x))
    expected = -np.where(y == 1, 0.25 * (1 - q) ** 1.5 * np.log(q), 0.75 * q**1.5 * np.log(1 - q)).mean()
    close(make_loss("focal:gamma=1.5,alpha=0.25")(p, t), expected)


def test_poly_adds_a_power_of_the_probability():
    p, t, x, y = drawn("classes")
    q = softmax(x)[np.arange(len(y)), y]
    close(make_loss("poly:epsilon=2")(p, t), np.mean(-np.log(q) + 2 * (1 - q)))


def test_asymmetric():
    p, t, x, y = drawn("yes or no")
    q = 1 / (1 + np.exp(-x))
    r = np.maximum(q - 0.1, 0)
    expected = -np.where(y == 1, (1 - q) * np.log(q), r**3 * np.log(1 - r)).mean()
    close(make_loss("asymmetric:positive=1,negative=3,shift=0.1")(p, t), expected)


def test_dice_and_tversky():
    p, t, x, y = drawn("classes")
    q, truth = softmax(x), np.eye(4)[y]
    hits = (q * truth).sum(0)
    dice = 1 - (2 * hits + 0.5) / (q.sum(0) + truth.sum(0) + 0.5)
    close(make_loss("dice:smooth=0.5")(p, t), dice.mean())
    alarms, misses = (q * (1 - truth)).sum(0), ((1 - q) * truth).sum(0)
    tversky = 1 - (hits + 0.5) / (hits + 0.2 * alarms + 0.9 * misses + 0.5)
    close(make_loss("tversky:false_positives=0.2,false_negatives=0.9,smooth=0.5")(p, t), tversky.mean())
    even = make_loss("tversky:false_positives=0.5,false_negatives=0.5,smooth=0.5")
    close(even(p, t), make_loss("dice:smooth=1")(p, t))


def test_a_class_without_labels_takes_no_part_in_overlap():
    p, t, _, _ = drawn("classes")
    rest = t != 3
    for name in ("dice", "tversky", "lovasz"):
        terms = make_loss(name)(p[rest], t[rest], reduction="none")
        assert terms.shape == (4,) and terms[3].isnan() and terms[:3].isfinite().all()
        close(make_loss(name)(p[rest], t[rest]), terms[:3].mean())


def test_overlap_of_each_example_by_itself():
    logits, labels = torch.randn(5, 6, 3, dtype=torch.float64), torch.randint(0, 3, (5, 6))
    for name in ("dice", "tversky", "lovasz"):
        each = make_loss(f"{name}:over=example")(logits, labels, reduction="none")
        alone = [float(make_loss(name)(logits[[i]], labels[[i]])) for i in range(5)]
        assert each.tolist() == pytest.approx(alone)


@pytest.mark.parametrize("classes", [True, False])
def test_lovasz_is_the_jaccard_loss_where_the_prediction_is_sure(classes):
    """At corners the extension is the set function itself: of probabilities 0 and 1, or margins of 1."""
    truth = torch.tensor([0, 1, 1, 0, 1, 0, 0, 1, 1, 1])
    guess = torch.tensor([0, 1, 0, 1, 1, 0, 0, 0, 1, 1])
    if classes:
        value = make_loss("lovasz")(torch.nn.functional.one_hot(guess, 2) * 100.0, truth)
        expected = np.mean(1 - jaccard_score(truth, guess, average=None))
        close(value, expected, 1e-6)
    else:
        # A wrong sign at 0 is an error of exactly 1, a right one at 1 an error of 0.
        signs = 2.0 * truth - 1
        logits = torch.where(guess == truth, signs, 0.0)[:, None]
        close(make_loss("lovasz")(logits, truth.float()), 1 - jaccard_score(truth, guess), 1e-6)


def test_lovasz_of_one_class_is_the_sum_over_sorted_errors():
    p, t, x, y = drawn("yes or no")
    x, y = x.reshape(-1), y.reshape(-1)
    errors = 1 - x * (2 * y - 1)
    order = np.argsort(-errors)
    total, before = 0.0, 0.0
    for i in range(len(order)):
        wrong = set(order[: i + 1].tolist())
        positives = {int(k) for k in np.flatnonzero(y)}
        jaccard = 1 - len(positives - wrong) / len(positives | wrong)
        total += max(errors[order[i]], 0) * (jaccard - before)
        before = jaccard
    close(make_loss("lovasz")(p, t), total)


def test_scale_invariant_log_depth():
    p, t, x, y = drawn("depth")
    d = x - np.log(y)
    close(make_loss("scale-invariant:share=0.7")(p, t), np.mean((d**2).mean(1) - 0.7 * d.mean(1) ** 2))
    moved = make_loss("scale-invariant:share=1")
    close(moved(p, t), moved(p + 3, t))  # a common factor of each depth costs nothing


def distances(x):
    return np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1))


@pytest.mark.parametrize("mining", ["hard", "all"])
def test_triplet(mining):
    p, t, x, y = drawn("embeddings")
    d, each = distances(x), []
    for a in range(len(y)):
        same = [d[a, i] for i in range(len(y)) if i != a and y[i] == y[a]]
        other = [d[a, i] for i in range(len(y)) if y[i] != y[a]]
        if same and other:
            costs = [max(0, s - o + 0.5) for s in same for o in other]
            each.append(max(0, max(same) - min(other) + 0.5) if mining == "hard" else np.mean(costs))
    assert float(make_loss(f"triplet:margin=0.5,mining={mining}")(p, t)) == pytest.approx(np.mean(each), rel=1e-6)


def test_contrastive():
    p, t, x, y = drawn("embeddings")
    d, same = distances(x), y[:, None] == y[None]
    cost = np.where(same, d**2, np.maximum(0, 2 - d) ** 2) / 2
    expected = cost[~np.eye(len(y), dtype=bool)].mean()
    assert float(make_loss("contrastive:margin=2")(p, t)) == pytest.approx(expected, rel=1e-6)


def test_a_batch_of_one_class_has_nothing_to_compare_and_no_loss():
    assert make_loss("triplet")(torch.randn(4, 3), torch.zeros(4, dtype=torch.int64)).isnan()


def test_kl_of_probabilities_is_that_of_logits():
    p, t, _, _ = drawn("teacher")
    loss = make_loss("kl:temperature=3")
    close(make_loss("kl:temperature=3,labels=probabilities")(p, t.softmax(-1)), loss(p, t))
    assert float(loss(t, t)) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("name", ["hinge", "focal", "poly", "dice", "tversky"])
def test_one_logit_for_each_label_equals_two_classes(name):
    logits, labels = torch.randn(30, 1, dtype=torch.float64), torch.randint(0, 2, (30,))
    loss = make_loss(name)
    if name == "hinge":
        expected = (1 - (2 * labels - 1) * logits[:, 0]).clamp(min=0).mean()
    elif name in ("dice", "tversky"):  # of the positive class alone
        expected = loss(torch.cat([torch.zeros_like(logits), logits], 1), labels, reduction="none")[1]
    else:
        expected = loss(torch.cat([torch.zeros_like(logits), logits], 1), labels)
    close(loss(logits, labels.double()), expected)


def test_class_weights_of_the_training_labels():
    labels = torch.tensor([0] * 60 + [1] * 30 + [2] * 10 + [-100] * 5)
    loss = make_loss("cross-entropy:class_weights=inverse").fitted(labels, 3)
    expected = compute_class_weight("balanced", classes=np.arange(3), y=labels[:100].numpy())
    assert loss.class_weights == pytest.approx(expected.tolist(), rel=1e-5)
    assert str(loss) == "cross-entropy:class_weights=" + "/".join(f"{each:.6g}" for each in expected)
    counts = class_counts(labels, 3)
    raw = (1 - 0.9) / (1 - 0.9**counts)
    assert torch.allclose(effective(counts, 0.9), raw / (raw * counts).sum() * counts.sum())
    with pytest.raises(ValueError, match=r"class_weights=inverse is decided by the training labels: take loss.fitted"):
        make_loss("cross-entropy:class_weights=inverse")(torch.randn(4, 3), labels[:4])
    with pytest.raises(ValueError, match="class_weights=effective: class 3 has no training example"):
        make_loss("cross-entropy:class_weights=effective").fitted(labels, 4)
    with pytest.raises(
        ValueError, match="class_weights='balanced' must be a number, or one of none, inverse, effective"
    ):
        LOSSES["cross-entropy"](class_weights="balanced")


def test_positive_weights_and_priors_of_the_training_labels():
    labels = torch.tensor([[1.0, 0], [0, 0], [0, 1], [0, math.nan]])
    assert make_loss("multi-label:positive_weights=inverse").fitted(labels, 2).positive_weights == (3.0, 2.0)
    one = make_loss("binary-cross-entropy:positive_weight=inverse").fitted(labels, 2)
    assert one.positive_weight == pytest.approx(2.5)
    assert make_loss("logit-adjusted").fitted(torch.tensor([0, 0, 0, 1]), 2).priors == (0.75, 0.25)
    with pytest.raises(ValueError, match="label 1 has 0 positive and 3 negative training examples"):
        make_loss("multi-label:positive_weights=inverse").fitted(torch.tensor([[1.0, 0], [0, 0], [0, 0]]), 2)
