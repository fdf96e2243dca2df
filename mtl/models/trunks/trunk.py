"""What a trunk is: a recipe that is read from a spec, and the module it builds, whose stages architectures can part."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, TypeAlias

from torch import Tensor, nn
from torch.utils import _pytree as pytree

from mtl.hyperparameters import hyper, validate, write_unit

#: The shape of one example: of a tensor, or by name where the inputs are a dict of tensors.
Shape: TypeAlias = Sequence[int] | Mapping[str, Any]

#: What goes from stage to stage beside the activation, such as a mask or the features of a skip connection.
Carried: TypeAlias = tuple[Tensor, ...]


def drop_rate(doc: str) -> Any:
    """A hyperparameter of a trunk: how much of something is left out in training, nothing by default."""
    return hyper(0.0, 0.0, 0.95, search=(0.0, 0.5), doc=doc)


class Stages(nn.Module, ABC):
    """A trunk as an entry, some stages one after another, and an end that gives the features.

    Architectures that mix or attend between stages call these parts; `forward` is all of them in order. A stage itself
    has three parts, `inner`, `outer` and `after` (such as a first convolution, a second one, and pooling), of which a
    simple stage needs the first alone.

    Attributes:
        count: number of stages.
        features: size of the features.
        pixels: height and width of the inputs where the features are maps (B, features, H', W') for a prediction at
            each pixel; None where they are vectors (B, features).
        channels_first: whether activations are (B, channels, ...), as of images; otherwise (B, ..., channels).
        branches: whether stages can be exchanged between copies of the trunk: what is carried comes from the inputs
            alone. False with skip connections, which belong to the copy that made them.
    """

    count: int
    features: int
    pixels: tuple[int, int] | None = None
    channels_first: bool = True
    branches: bool = True

    @abstractmethod
    def begin(self, inputs: Any) -> tuple[Tensor, Carried]:
        """The first activation, before any stage, and what is carried."""

    @abstractmethod
    def inner(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        """The first part of a stage."""

    def outer(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:  # noqa: ARG002
        """The second part of a stage."""
        return value, carried

    def after(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:  # noqa: ARG002
        """The third part of a stage, without parameters."""
        return value, carried

    def run(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        """A whole stage."""
        return self.after(index, *self.outer(index, *self.inner(index, value, carried)))

    def end(self, value: Tensor, carried: Carried) -> Tensor:  # noqa: ARG002
        """Features from the last activation."""
        return value

    def summary(self, value: Tensor, carried: Carried) -> Tensor:  # noqa: ARG002
        """An activation as a vector (B, size), for a gate to read."""
        return value.flatten(1)

    def entry(self) -> list[nn.Module]:
        """The modules that `begin` uses."""
        return []

    @abstractmethod
    def stage(self, index: int) -> list[nn.Module]:
        """The modules of a stage."""

    @abstractmethod
    def tail(self) -> list[nn.Module]:
        """The modules that `end` uses."""

    def forget_entry(self) -> None:
        """Drop the parameters that `begin` uses: another copy of the trunk begins for this one."""

    def forward(self, inputs: Any) -> Tensor:
        """The features."""
        value, carried = self.begin(inputs)
        for index in range(self.count):
            value, carried = self.run(index, value, carried)
        return self.end(value, carried)


@dataclass(frozen=True)
class Trunk(ABC):
    """A recipe for a trunk, built when the shape of the inputs is known."""

    name: ClassVar[str]
    paper: ClassVar[str] = ""
    #: Hyperparameter that a spec may give without its name, first: `timm:resnet18`.
    unnamed: ClassVar[str] = ""

    def __post_init__(self) -> None:
        validate(self, self.name)

    @abstractmethod
    def build(self, shape: Shape) -> tuple[Stages, int]:
        """The trunk for inputs of `shape` (without the batch axis), and the number of features it gives.

        Raises:
            ValueError: it cannot read such inputs; one line.
        """

    def __str__(self) -> str:
        return write_unit(self, self.name)


def shape_of(inputs: Any) -> Any:
    """The shape of one example of `inputs`, tensors (B, ...) in any nesting."""
    return pytree.tree_map(lambda leaf: leaf.shape[1:], inputs)


def shown(shape: Any) -> str:
    """A shape as messages have it."""
    if isinstance(shape, Mapping):
        return "{" + ", ".join(f"{key}: {shown(part)}" for key, part in shape.items()) + "}"
    if isinstance(shape, Sequence) and shape and not isinstance(shape[0], int):
        return "[" + ", ".join(map(shown, shape)) + "]"
    return str(tuple(shape))


def image(name: str, shape: Shape, least: int = 1) -> tuple[int, int, int]:
    """Channels, height and width of images; a `ValueError` for what is none, or smaller than `least` pixels a side."""
    if isinstance(shape, Mapping) or len(shape) != 3 or not isinstance(shape[0], int) or min(shape[1:]) < least:
        size = f"(channels, height, width) of {least} x {least} or more" if least > 1 else "(channels, height, width)"
        raise ValueError(f"{name}: inputs have shape {shown(shape)}; {size} is wanted")
    return shape[0], shape[1], shape[2]
