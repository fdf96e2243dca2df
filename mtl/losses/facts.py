"""What labels look like: the figures from which a loss can be chosen."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from mtl.losses.labels import known

_OUTLYING = 3.5  # modified z-score from which a number is an outlier (Iglewicz & Hoaglin 1993)
_MAD = 1.4826  # of a normal distribution, standard deviation over median absolute deviation

Figures = dict[str, float]


def of_numbers(target: Tensor) -> Figures:
    """Of labels that are numbers.

    `robust_sd` is the standard deviation of a normal distribution with the same median absolute deviation, `outliers`
    the share of labels farther than 3.5 of it from the median (Iglewicz & Hoaglin 1993), `tails` the excess kurtosis:
    0 for a normal distribution, 3 for a Laplace one. `neighbours`, of pictures (N, H, W), is the mean difference of a
    label from the next one in its row or column, over the standard deviation: 1.1 for noise, little for surfaces.
    """
    labels = target[known(target)].double()
    median = labels.median()
    robust = _MAD * (labels - median).abs().median()
    spread = labels.std(correction=0)
    away = (labels - median).abs() > _OUTLYING * robust
    scaled = (labels - labels.mean()) / spread if bool(spread > 0) else labels * 0
    return {
        **_labelled(target),
        "mean": float(labels.mean()),
        "sd": float(spread),
        "robust_sd": float(robust),
        # Where half of all labels are one number, every other one would be an outlier.
        "outliers": float(away.double().mean()) if bool(robust > 0) else 0.0,
        "skew": float((scaled**3).mean()),
        "tails": float((scaled**4).mean() - 3) if bool(spread > 0) else 0.0,
        "zeros": float((labels == 0).double().mean()),
        "lowest": float(labels.min()),
        "highest": float(labels.max()),
        **_neighbours(target, spread),
    }


def of_counts(target: Tensor) -> Figures:
    """Of counts. `variance_over_mean` is 1 for a Poisson distribution; `zeros_expected` what it would have."""
    labels = target[known(target)].double()
    mean, variance = labels.mean(), labels.var(correction=0)
    return {
        **_labelled(target),
        "mean": float(mean),
        "variance_over_mean": float(variance / mean) if bool(mean > 0) else 0.0,
        # From variance = mean + dispersion mean^2.
        "dispersion": float(((variance - mean) / mean**2).clamp(min=0)) if bool(mean > 0) else 0.0,
        "zeros": float((labels == 0).double().mean()),
        "zeros_expected": float((-mean).exp()),
        "highest": float(labels.max()),
    }


def of_classes(target: Tensor, classes: int) -> Figures:
    """Of classes. `imbalance` is the largest class over the smallest one that occurs; `absent` how many do not."""
    counts = torch.bincount(target[known(target)].flatten(), minlength=classes).double()
    there = counts[counts > 0]
    return {
        **_labelled(target),
        "classes": float(len(counts)),
        "absent": float((counts == 0).sum()),
        "smallest": float(there.min()),
        "largest_share": float(counts.max() / counts.sum()),
        "imbalance": float(there.max() / there.min()),
    }


def of_binary(target: Tensor) -> Figures:
    """Of labels that are yes or no. `rarest` is the smallest share of yes that a label has, `commonest` the largest."""
    rows = target.reshape(len(target), -1)
    there = known(rows)
    yes = torch.where(there, rows, 0).double().sum(0)
    shares = yes / there.sum(0).clamp(min=1)
    return {
        **_labelled(target),
        "labels_an_example": float(rows.shape[1]),
        "yes": float(yes.sum() / there.sum()),
        "rarest": float(shares.min()),
        "commonest": float(shares.max()),
        "never": float((yes == 0).sum()),
        "always": float((yes == there.sum(0)).sum()),
    }


def _neighbours(target: Tensor, spread: Tensor) -> Figures:
    if target.ndim != 3 or not target.is_floating_point() or not bool(spread > 0):
        return {}
    # Of missing labels a difference is NaN.
    each = torch.cat([target.diff(dim=axis).double().abs().flatten() for axis in (1, 2)])
    mean = float(each.nanmean())
    return {} if math.isnan(mean) else {"neighbours": mean / float(spread)}


def _labelled(target: Tensor) -> Figures:
    there = known(target)
    return {"labels": float(there.sum()), "missing": float((~there).double().mean())}
