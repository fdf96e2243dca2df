"""How pictures are changed at random in training, with the labels of their pixels: `flip+crop:padding=4`.

A change draws a few numbers for each picture, and is then made of all pictures at once, of many members too. It is
declared here without torch, which the command line does not load.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from mtl.hyperparameters import hyper, read_unit, validate

if TYPE_CHECKING:
    from torch import Tensor


class Places(NamedTuple):
    """Where the pixels of new pictures (N, H, W) come from: rows (N, H) and columns (N, W), counted from 0."""

    rows: Tensor
    columns: Tensor


class Move(ABC):
    """A random change of pictures (N, C, H, W) and of the labels of their pixels.

    Class attributes:
        numbers: that each picture draws.
        moves: whether pixels move; otherwise colours change.
        between: whether pixels may come from between others.
        leaves: whether pixels may come from outside of the picture.
    """

    name: ClassVar[str]
    numbers: ClassVar[int]
    moves: ClassVar[bool] = True
    between: ClassVar[bool] = False
    leaves: ClassVar[bool] = False

    def __post_init__(self) -> None:
        validate(self, self.name)

    def places(self, drawn: Tensor, height: int, width: int) -> Places:
        """Where pixels come from, by the numbers (N, `numbers`) in [0, 1) that the pictures drew."""
        raise NotImplementedError

    def coloured(self, picture: Tensor, drawn: Tensor) -> Tensor:  # noqa: ARG002
        """The picture with other colours."""
        return picture

    def label(self, label: Tensor, geometry: str, axis: int, drawn: Tensor) -> Tensor:  # noqa: ARG002
        """The labels of pixels that have moved.

        Args:
            label: (N, ...) as moved.
            geometry: of the task.
            axis: of the three numbers of a direction.
            drawn: what each picture drew.
        """
        return label


@dataclass(frozen=True)
class Flip(Move):
    """Half of the pictures are mirrored, left to right; directions too: their first number changes its sign."""

    name: ClassVar[str] = "flip"
    numbers: ClassVar[int] = 1

    def places(self, drawn: Tensor, height: int, width: int) -> Places:
        rows, columns = _grid(drawn, height, width)
        mirrored = (drawn[:, :1] < 0.5).to(columns.dtype)
        return Places(rows, columns + mirrored * (width - 1 - 2 * columns))

    def label(self, label: Tensor, geometry: str, axis: int, drawn: Tensor) -> Tensor:
        if geometry != "direction":
            return label
        signs = label.new_ones(len(label), label.shape[axis])
        signs[:, 0] = 1 - 2 * (drawn[:, 0] < 0.5).to(label.dtype)
        return label * signs.view(len(label), *(-1 if place == axis else 1 for place in range(1, label.ndim)))


@dataclass(frozen=True)
class Crop(Move):
    """Pictures are moved by up to `padding` pixels in both directions; what comes in is black, and has no labels."""

    name: ClassVar[str] = "crop"
    numbers: ClassVar[int] = 2
    leaves: ClassVar[bool] = True
    padding: int = hyper(4, 1, search=(1, 8), doc="pixels that a picture is moved by at most")

    def places(self, drawn: Tensor, height: int, width: int) -> Places:
        rows, columns = _grid(drawn, height, width)
        by = (drawn * (2 * self.padding + 1)).floor() - self.padding
        return Places(rows + by[:, :1], columns + by[:, 1:])


@dataclass(frozen=True)
class Zoom(Move):
    """A random part of 1, 1/1.2 or 1/1.5 of each side, made as large as the picture; depth is divided by the same.

    As for NYUv2 in LibMTL and what follows it. The picture is interpolated; labels are those of the nearest pixel,
    directions too, which LibMTL interpolates.
    """

    name: ClassVar[str] = "zoom"
    numbers: ClassVar[int] = 3
    between: ClassVar[bool] = True
    scales: ClassVar[tuple[float, ...]] = (1.0, 1.2, 1.5)

    def places(self, drawn: Tensor, height: int, width: int) -> Places:
        scale, found = self._scale(drawn), []
        for number, (size, steps) in enumerate(zip((height, width), _grid(drawn, height, width), strict=True), 1):
            inside = (size / scale).floor()[:, None]
            start = (drawn[:, number : number + 1] * (size - inside + 1)).floor()
            found.append(start + steps * (inside - 1) / max(size - 1, 1))
        return Places(*found)

    def label(self, label: Tensor, geometry: str, axis: int, drawn: Tensor) -> Tensor:  # noqa: ARG002
        if geometry not in ("depth", "inverse-depth"):
            return label
        scale = _beside(self._scale(drawn), label)
        return label / scale if geometry == "depth" else label * scale

    def _scale(self, drawn: Tensor) -> Tensor:
        return drawn.new_tensor(self.scales)[(drawn[:, 0] * len(self.scales)).long()]


@dataclass(frozen=True)
class Jitter(Move):
    """Brightness, contrast and, of three colours, saturation are multiplied by numbers around 1.

    Brightness multiplies all; contrast the distances from the picture's mean; saturation those from the pixel's mean.
    Colours may leave the range that they had.
    """

    name: ClassVar[str] = "jitter"
    numbers: ClassVar[int] = 3
    moves: ClassVar[bool] = False
    strength: float = hyper(0.2, 0.0, 1.0, search=(0.05, 0.5), doc="largest distance of a factor from 1")

    def coloured(self, picture: Tensor, drawn: Tensor) -> Tensor:
        bright, contrast, saturation = (
            _beside(factor, picture) for factor in (1 + self.strength * (2 * drawn - 1)).unbind(1)
        )
        picture = picture * bright
        middle = picture.mean((1, 2, 3), keepdim=True)
        picture = middle + contrast * (picture - middle)
        grey = picture.mean(1, keepdim=True)
        return grey + saturation * (picture - grey) if picture.shape[1] == 3 else picture


def _grid(drawn: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """The own places of pixels: rows (N, H) and columns (N, W)."""
    return tuple(drawn.new_ones(len(drawn), size).cumsum(1) - 1 for size in (height, width))  # type: ignore[return-value]


def _beside(numbers: Tensor, value: Tensor) -> Tensor:
    """One number (N,) for each element of values (N, ...)."""
    return numbers.to(value.dtype).view(-1, *[1] * (value.ndim - 1))


MOVES: Mapping[str, type[Move]] = MappingProxyType({cls.name: cls for cls in (Flip, Crop, Zoom, Jitter)})


@cache
def read_moves(spec: str) -> tuple[Move, ...]:
    """The changes that a spec names, `flip+crop:padding=4`; none for an empty one and for `none`.

    Raises:
        ValueError: what is wrong with it, in one line.
    """
    if spec.strip() in ("", "none"):
        return ()
    found: list[Move] = []
    for part in spec.split("+"):
        cls, values = read_unit(part.strip(), MOVES, "augment")
        found.append(cls(**values))
    return tuple(found)
