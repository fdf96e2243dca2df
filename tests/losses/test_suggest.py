"""What is suggested follows from the figures, and can be taken as it is."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats

from mtl.losses import check_loss, make_loss, suggest
from mtl.losses.facts import of_numbers


def draw(sampler, *arguments, **options):
    return torch.from_numpy(np.asarray(sampler(*arguments, random_state=0, **options)))


def first(target, **more):
    found = suggest(target, **more)
    return found.kind, found.losses[0].spec.partition("=")[0], found.losses[0].reason


NORMAL = draw(stats.norm.rvs, size=2000) * 3 + 100


def test_numbers():
    kind, spec, reason = first(NORMAL)
    assert (kind, spec) == ("numbers", "mse") and "0.0% of the labels are outliers" in reason
    spoilt = NORMAL.clone()
    spoilt[:60] += 100
    kind, spec, reason = first(spoilt)
    assert (kind, spec) == ("numbers", "huber:delta") and "3.0% of the labels are outliers" in reason
    assert suggest(spoilt).losses[1].spec == "mae"
    # The turning point is 1.345 standard deviations of the labels that are no outliers.
    assert make_loss(suggest(spoilt).losses[0].spec).delta == pytest.approx(1.345 * 3, rel=0.1)
    assert first(draw(stats.t.rvs, 3, size=2000))[1] == "huber:delta"


def test_the_figures_are_those_of_scipy():
    labels = draw(stats.gamma.rvs, 2, size=500)
    with_gaps = torch.cat([labels, torch.full((100,), math.nan, dtype=labels.dtype)])
    found = of_numbers(with_gaps)
    assert found["labels"] == 500 and found["missing"] == pytest.approx(1 / 6)
    assert found["tails"] == pytest.approx(stats.kurtosis(labels))
    assert found["skew"] == pytest.approx(stats.skew(labels))
    assert found["robust_sd"] == pytest.approx(stats.median_abs_deviation(labels, scale="normal"), rel=1e-2)


def test_amounts_and_counts():
    amounts = draw(stats.gamma.rvs, 2, size=1000) * (torch.arange(1000) % 4 > 0)
    assert first(amounts)[:2] == ("amounts", "tweedie:power")
    assert first(draw(stats.poisson.rvs, 4, size=2000))[:2] == ("counts", "poisson")
    found = suggest(draw(stats.nbinom.rvs, 2, 2 / (2 + 5), size=5000))  # mean 5, dispersion 0.5
    assert found.losses[0].spec.startswith("negative-binomial:dispersion=")
    assert make_loss(found.losses[0].spec).dispersion == pytest.approx(0.5, rel=0.15)
    assert "times their mean" in found.losses[0].reason
    specs = [each.spec.partition(":")[0] for each in found.losses]
    assert specs == ["negative-binomial", "poisson", "tweedie", "exp", "mse"]


@pytest.mark.parametrize(
    ("counts", "spec"),
    [
        ([50, 40, 60], "cross-entropy"),
        ([500, 100, 60], "cross-entropy:class_weights=effective"),
        ([5000, 100, 20], "logit-adjusted"),
        ([500, 20, 0], "focal"),
    ],
)
def test_classes(counts, spec):
    labels = torch.repeat_interleave(torch.arange(3), torch.tensor(counts))
    found = suggest(labels, outputs=3)
    assert found.kind == "classes" and found.losses[0].spec == spec
    there = [each for each in counts if each]
    assert found.figures["imbalance"] == max(there) / min(there)
    assert f"{max(there) / min(there):.1f} times the examples" in found.losses[0].reason


def test_labels_that_are_yes_or_no():
    rare = (torch.arange(1000) % 50 == 0).long()
    assert first(rare)[:2] == ("yes or no", "binary-cross-entropy:positive_weight")
    assert first((torch.arange(1000) % 2).long())[:2] == ("yes or no", "binary-cross-entropy")
    several = torch.stack([rare, (torch.arange(1000) % 3 == 0).long()], 1).float()
    kind, spec, reason = first(several, outputs=2)
    assert (kind, spec) == ("yes or no", "asymmetric") and "2.0% of the labels of the rarest kind" in reason
    several[:, 0] = 0
    assert "multi-label" not in " ".join(each.spec for each in suggest(several, outputs=2).losses)


EVERY = {
    "numbers": (NORMAL, 1),
    "amounts": (NORMAL.clamp(min=99) - 99, 1),
    "counts": (draw(stats.poisson.rvs, 4, size=200), 1),
    "classes": (torch.repeat_interleave(torch.arange(3), torch.tensor([500, 100, 20])), 3),
    "yes or no": ((torch.arange(300).reshape(100, 3) % 20 == 0).float(), 3),
    "regions": (torch.arange(1200).reshape(12, 10, 10) % 3, 3),
    "directions": (torch.randn(100, 3), 3),
}


@pytest.mark.parametrize("kind", EVERY)
def test_everything_suggested_can_be_taken(kind):
    target, outputs = EVERY[kind]
    found = suggest(target, outputs, kind=None if kind != "directions" else kind)
    assert found.kind == kind and len(found.losses) >= 2
    for spec, reason in found.losses:
        loss = make_loss(spec).fitted(target, outputs)
        width = {"classes": (3,), "regions": (3,)}.get(kind, ())
        shape = (*target.shape, 2) if spec == "gaussian" else (*target.shape, *width)
        prediction = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        assert loss.complaint(prediction, target) is None and reason
        value = loss(prediction, target)
        value.backward()
        assert value.isfinite() and prediction.grad.isfinite().all()


def test_whole_numbers_that_vary_too_little_are_no_counts():
    years = draw(stats.randint.rvs, 1950, 2020, size=500)
    stars = draw(stats.randint.rvs, 1, 6, size=500).float()
    for labels in (years, stars, years.to(torch.int32)):
        assert first(labels)[:2] == ("numbers", "mse")
    assert first(draw(stats.randint.rvs, 0, 30, size=500))[0] == "counts"


@pytest.mark.parametrize(
    ("target", "outputs", "text"),
    [
        (torch.full((20,), 7.0), 1, "all labels are 7"),
        (torch.full((20,), -0.5), 1, "all labels are -0.5"),
        (torch.zeros(20, dtype=torch.int64), 3, "all labels are one class"),
    ],
)
def test_labels_that_are_all_the_same_are_said(target, outputs, text):
    found = suggest(target, outputs)
    assert len(found.losses) == 1 and text in found.losses[0].reason


@pytest.mark.parametrize("size", [1e-30, 1e-5, 1e4, 1e30])
def test_labels_of_any_size_have_losses_that_can_be_made(size):
    for labels in (NORMAL - 100, draw(stats.cauchy.rvs, size=200)):
        found = suggest(labels * size)
        assert all(make_loss(spec) for spec, _ in found.losses) and "divide them by it" in found.losses[0].reason


def test_labels_without_a_sign_have_none_that_is_missing():
    pixels = torch.tensor([156, 1, 2, 200] * 50, dtype=torch.uint8)
    assert suggest(pixels).figures["missing"] == 0
    assert make_loss("mse")(torch.zeros(200, 1), pixels) == pytest.approx(float(pixels.double().square().mean()))


def test_labels_may_be_in_any_container():
    numbers = NORMAL.float()
    wanted = suggest(numbers)
    for same in (numbers.tolist(), tuple(numbers.tolist()), numbers.numpy(), pd.Series(numbers.numpy())):
        assert suggest(same) == wanted
    classes = EVERY["classes"][0]
    wanted = suggest(classes, outputs=3)
    gaps = torch.cat([classes.float(), torch.full((5,), math.nan)])
    for same in (classes.tolist(), classes.numpy(), classes.to(torch.uint8), classes.float()):
        assert suggest(same, outputs=3, kind="classes") == wanted
    assert suggest(gaps, outputs=3, kind="classes").losses == wanted.losses
    assert suggest(gaps, outputs=3, kind="classes").figures["missing"] == pytest.approx(5 / 625)
    # Yes and no that have an output each are two classes.
    assert suggest([True] * 10 + [False] * 90, outputs=2) == suggest([1] * 10 + [0] * 90, outputs=2)
    assert suggest([True] * 10 + [False] * 90).kind == "yes or no"


@pytest.mark.parametrize("labels", [["a", "b"], [], None, np.array([None, 1.0]), [[1.0], [2.0, 3.0]], [1j, 2.0]])
def test_labels_that_are_no_numbers_are_refused_in_a_line(labels):
    with pytest.raises(ValueError, match=r"^(labels must be|no label is there)[^\n]*$"):
        suggest(labels)


def test_what_cannot_be_suggested_is_said():
    with pytest.raises(ValueError, match=r"classes are whole numbers: here is 0\.5"):
        suggest(torch.tensor([0.0, 0.5, 1.0]), outputs=2, kind="classes")
    with pytest.raises(ValueError, match="1 of the labels are infinite"):
        suggest(torch.tensor([1.0, math.inf, 2.0]))
    with pytest.raises(ValueError, match=r"classes are from 0 to 2 with outputs=3: here is 3"):
        suggest(torch.arange(5), outputs=3)

    with pytest.raises(ValueError, match="no label is there"):
        suggest(torch.full((5,), math.nan))
    with pytest.raises(ValueError, match="kind='pictures' must be one of numbers, amounts, counts"):
        suggest(NORMAL, kind="pictures")
    assert check_loss(make_loss(suggest(NORMAL).losses[0].spec)).passed
