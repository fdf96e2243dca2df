"""Averages of a model's weights, which are evaluated and kept in their place: moving (EMA), or over steps (SWA)."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from mtl.train.learning import is_learned


def decay(ema: float, step: int) -> float:
    """How much of the average stays at `step`, counted from 0.

    min(ema, (1 + step) / (10 + step)), so that the first weights, drawn at random, are soon forgotten. It is that of
    TensorFlow's `ExponentialMovingAverage` with `num_updates`.
    """
    return min(ema, (1 + step) / (10 + step))


def share_of_mean(begin: float, step: int, steps: int) -> float:
    """How far the mean over the steps from a share `begin` of a run on moves at `step`, from 0, of `steps`.

    1 before them: the mean is the present value. With the k-th step from there, counted from 1, it is 1 / k.
    """
    return 1 / max(step - min(int(begin * steps), steps - 1) + 1, 1)


def copied(values: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The average before the first step."""
    return {name: value.detach().clone() for name, value in values.items()}


def follow(average: Mapping[str, Tensor], values: Mapping[str, Tensor], share: float | Tensor) -> None:
    """Move the average by `share` of the way to the present values, in place; whole numbers are taken as they are.

    So are learned losses, of which a mean is none that anything was trained on.

    Args:
        average: parameters and buffers by name.
        values: the present ones.
        share: 1 - decay; or one a member (N,), where tensors have a leading member axis.
    """
    for name, mean in average.items():
        value = values[name].detach()
        if not (mean.is_floating_point() or mean.is_complex()) or is_learned(name):
            mean.copy_(value)
        elif isinstance(share, Tensor):
            mean.lerp_(value, share.to(mean.dtype).reshape(-1, *[1] * (mean.ndim - 1)))
        else:
            mean.lerp_(value, share)
