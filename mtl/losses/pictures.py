"""Losses of pictures: of their edges, and of how alike they look."""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.losses.labels import known
from mtl.losses.loss import Loss, Terms
from mtl.losses.one_each import means, shape_of

_FROM_LABELS = "labels"  # a range of values that the training labels decide
_CHANNELS = "axis of the channels of labels (N, ., ., .); auto: the shorter one"


class PicturePair(NamedTuple):
    """Predicted and true pictures (N, C, H, W), and which labels are known; the others are 0."""

    predicted: Tensor
    true: Tensor
    there: Tensor


@dataclass(frozen=True)
class OfPictures(Loss):
    """A mean over pictures. Labels (N, H, W), (N, C, H, W) or (N, H, W, C), predictions one number for each of them.

    The terms are examples (N,).
    """

    kind: ClassVar[str] = "pictures"
    channels: str = hyper("auto", choices=("auto", "first", "last"), doc=_CHANNELS)

    @property
    @abstractmethod
    def smallest(self) -> int:
        """The height and width that a picture has at least."""

    def pair(self, prediction: Tensor, target: Tensor) -> PicturePair:
        """Both with the channels on the second axis.

        Raises:
            ValueError: they are no pictures, or too small.
        """
        if said := self._misfit(prediction, target):
            raise ValueError(f"{self.name} {said}")
        there = known(target)
        label = torch.where(there, target, 0).to(prediction.dtype)
        every = (prediction.reshape(target.shape), label, there)
        if self._axis(target) == "last":
            return PicturePair(*(each.movedim(-1, 1) for each in every))
        return PicturePair(*(each.reshape(len(each), -1, *each.shape[-2:]) for each in every))

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        return self._misfit(prediction, target)

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:  # noqa: ARG002
        """The mean picture, which is near the best one."""
        return means(target)

    def _axis(self, target: Tensor) -> str:
        """Where the channels are, `first` or `last`; `auto` where that cannot be told."""
        if target.ndim == 3:
            return "first"
        if self.channels != "auto" or target.shape[1] == target.shape[-1]:
            return self.channels
        return "first" if target.shape[1] < target.shape[-1] else "last"

    def _misfit(self, prediction: Tensor, target: Tensor) -> str | None:
        """Why they are no pictures that it can take, from their shapes alone; None where they are."""
        if target.ndim not in (3, 4):
            return (
                "takes pictures as labels, (N, H, W), (N, C, H, W) or (N, H, W, C): here an example has labels of "
                f"shape {shape_of(target)}"
            )
        ours, theirs = ([length for length in each.shape[1:] if length > 1] for each in (prediction, target))
        if prediction[:1].numel() != target[:1].numel() or (len(ours) > 1 and ours != theirs):
            return (
                f"takes one output for each label: here an example has outputs of shape {shape_of(prediction)} and "
                f"labels of shape {shape_of(target)}"
            )
        if (axis := self._axis(target)) == "auto":
            return f"cannot tell the channels of labels of shape {shape_of(target)}: give it channels=first or last"
        height, width = target.shape[1:3] if axis == "last" else target.shape[-2:]
        if min(height, width) < self.smallest:
            least = f"{self.smallest} x {self.smallest} pixels"
            return f"takes pictures of at least {least}: here they have {height} x {width}"
        return None


@dataclass(frozen=True)
class Gradient(OfPictures):
    """Error of the differences between neighbours, in a row and in a column: of edges, whatever the level around them.

    The loss of an example is the mean of its horizontal differences plus that of its vertical ones, in the unit of the
    labels (its square with `power` 2). It is blind to a number that is added to all of a picture, so it goes with
    another loss: `mae+gradient`. A difference counts where both of its labels are known, and an example where one
    difference does. With several `scales` the same of every second, fourth ... pixel of both axes is added.
    Deviation: the papers divide the sums of all differences by the number of pixels; here the mean is over those
    differences that count.
    """

    name: ClassVar[str] = "gradient"
    formula: ClassVar[str] = "mean |dx e|^power + mean |dy e|^power, with e = p - y, dx e and dy e to the next pixel"
    use: ClassVar[str] = "beside another loss, where edges should be sharp: depth, masks and other pictures"
    paper: ClassVar[str] = (
        "Eigen & Fergus, ICCV 2015, eq. 1 (squared); Li & Snavely, CVPR 2018 (absolute, several scales)"
    )
    power: int = hyper(1, 1, 2, doc="1 for absolute differences, 2 for squared ones")
    scales: int = hyper(1, 1, 8, doc="how many sizes of the picture are added up, each half of the last")

    @property
    def smallest(self) -> int:
        return (1 << (self.scales - 1)) + 1

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        predicted, true, there = self.pair(prediction, target)
        error = predicted - true
        total, counts = error.new_zeros(len(error)), there.new_zeros(len(error))
        for scale in range(self.scales):
            step = 2**scale
            coarse, labelled = error[..., ::step, ::step], there[..., ::step, ::step]
            for axis in (-1, -2):
                length = coarse.shape[axis] - 1
                both = labelled.narrow(axis, 0, length) & labelled.narrow(axis, 1, length)
                size = torch.where(both, coarse.diff(dim=axis), 0.0).abs() ** self.power
                number = both.sum((1, 2, 3))
                total = total + size.sum((1, 2, 3)) / number.clamp(min=1)
                counts = counts | (number > 0)
        return Terms(total, counts)


@dataclass(frozen=True)
class SSIM(OfPictures):
    """One minus the structural similarity: brightness, contrast and pattern of windows of both pictures, compared.

    The loss of an example is the mean over the windows around all of its pixels, and over its channels; 0 for equal
    pictures, 2 at most. A window counts where all of its labels are known, and an example where one window does. Pixels
    weigh by a Gaussian around the middle of the window. It is made for values that are not negative: if the sign of a
    picture is changed, brightness and pattern are both opposite, and their product is alike again. Deviation: windows
    that reach over the border are completed by reflection, as torchmetrics does; the paper leaves them out.
    """

    name: ClassVar[str] = "ssim"
    formula: ClassVar[str] = (
        "1 - (2 m_p m_y + c1) (2 v_py + c2) / ((m_p^2 + m_y^2 + c1) (v_p + v_y + c2)), with means m, variances v and "
        "the covariance v_py of a window, c1 = (k1 data_range)^2, c2 = (k2 data_range)^2"
    )
    use: ClassVar[str] = "beside another loss, where pictures should look alike: pictures made anew, depth"
    paper: ClassVar[str] = "Wang et al., IEEE Transactions on Image Processing 2004, eq. 13"
    sigma: float = hyper(1.5, 0.1, search=(0.5, 3.0), log=True, doc="width of the Gaussian, in pixels")
    window: int = hyper(11, 3, doc="pixels along a side of the window, an odd number")
    k1: float = hyper(0.01, 1e-6, doc="below which share of the range brightness hardly counts")
    k2: float = hyper(0.03, 1e-6, doc="below which share of the range contrast hardly counts")
    data_range: float | str = hyper(
        _FROM_LABELS, 1e-6, words=(_FROM_LABELS,), doc="highest minus lowest value; labels: of the training labels"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.window % 2 == 0:
            raise ValueError(f"{self.name}: window={self.window} must be an odd number")

    @property
    def smallest(self) -> int:
        return self.window // 2 + 1  # a reflection can complete its windows

    def fitted(self, target: Tensor, outputs: int) -> Loss:  # noqa: ARG002
        if self.data_range != _FROM_LABELS:
            return self
        labels = target[known(target)]
        span = float(labels.max() - labels.min()) if labels.numel() else 0.0
        if not span > 0:
            why = f"all are {labels[0].item():g}" if labels.numel() else "none is known"
            raise ValueError(f"{self.name}: data_range=labels: of the training labels {why}; give a number")
        return dataclasses.replace(self, data_range=float(f"{span:.6g}"))

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        # Products of matrices would be in half precision in torch's autocast, which variances do not bear.
        with torch.autocast(prediction.device.type, enabled=False):
            return self._terms(self.pair(prediction, target))

    def _terms(self, pair: PicturePair) -> Terms:
        predicted, true, there = pair
        assert not isinstance(self.data_range, str)  # refused before
        rows, columns = (self._windows(length, predicted) for length in predicted.shape[-2:])

        def mean(values: Tensor) -> Tensor:
            return rows.mT @ values @ columns

        # Variances do not change with the level of a picture, but are rounded less around zero.
        levels = [each.detach().mean((-2, -1), keepdim=True) for each in (predicted, true)]
        flat, plain = predicted - levels[0], true - levels[1]
        flat_mean, plain_mean = mean(flat), mean(plain)
        predicted_mean, true_mean = flat_mean + levels[0], plain_mean + levels[1]
        variances = (mean(flat**2) - flat_mean**2).clamp(min=0) + (mean(plain**2) - plain_mean**2).clamp(min=0)
        covariance = mean(flat * plain) - flat_mean * plain_mean
        c1, c2 = (self.k1 * self.data_range) ** 2, (self.k2 * self.data_range) ** 2
        brightness = (2 * predicted_mean * true_mean + c1) / (predicted_mean**2 + true_mean**2 + c1)
        pattern = (2 * covariance + c2) / (variances + c2)
        reached = [self._off(length, predicted)[1].any(0).to(true.dtype) for length in predicted.shape[-2:]]
        whole = reached[0].mT @ (~there).to(true.dtype) @ reached[1] < 0.5
        number = whole.sum((1, 2, 3))
        total = torch.where(whole, 1 - brightness * pattern, 0.0).sum((1, 2, 3))
        return Terms(total / number.clamp(min=1), number > 0)

    def _windows(self, length: int, like: Tensor) -> Tensor:
        """How much each pixel along one axis counts in the window around each other, (pixels, windows).

        What a window has beyond the border is the reflection of the picture in its first or last pixel.
        """
        off, inside = self._off(length, like)
        weights = torch.where(inside, torch.exp(-(off**2) / (2 * self.sigma**2)), 0.0).sum(0)
        return weights / weights.sum(0)

    def _off(self, length: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """How far each pixel and its two reflections are from the middle of each window, and which are in it.

        Both are (3, pixels, windows).
        """
        place = torch.arange(length, dtype=like.dtype, device=like.device)
        last = length - 1
        off = torch.stack([place, -place, 2 * last - place])[..., None] - place
        # The pixels on the border are their own reflections.
        once = torch.stack([place >= 0, place > 0, place < last])[..., None]
        return off, once & (off.abs() <= self.window // 2)
