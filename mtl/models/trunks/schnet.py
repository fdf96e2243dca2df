"""SchNet on padded molecules."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl.hyperparameters import hyper
from mtl.models.trunks.depth import StochasticDepth
from mtl.models.trunks.pictures import dropped
from mtl.models.trunks.transformer import masked_mean
from mtl.models.trunks.trunk import Carried, Shape, Stages, Trunk, drop_rate, shown

_ELEMENTS = 119  # atomic numbers from 0, which is padding, to 118


class ShiftedSoftplus(nn.Module):
    """ln(0.5 exp(x) + 0.5)."""

    def forward(self, value: Tensor) -> Tensor:
        """Of each number."""
        return F.softplus(value) - math.log(2)


class Interaction(nn.Module):
    """A continuous-filter convolution between two linear layers, added to what it reads (section 4 of the paper)."""

    def __init__(self, width: int, gaussians: int, left_out: StochasticDepth) -> None:
        super().__init__()
        self.filter = nn.Sequential(
            nn.Linear(gaussians, width), ShiftedSoftplus(), nn.Linear(width, width), ShiftedSoftplus()
        )
        self.inward = nn.Linear(width, width, bias=False)
        self.outward = nn.Sequential(nn.Linear(width, width), ShiftedSoftplus(), nn.Linear(width, width))
        self.left_out = left_out

    def forward(self, value: Tensor, distances: Tensor, window: Tensor) -> Tensor:
        """From atoms (B, A, width), expanded distances (B, A, A, gaussians) and the weights (B, A, A) of neighbours."""
        filters = self.filter(distances) * window[..., None]
        gathered = (filters * self.inward(value)[:, None]).sum(2)
        found: Tensor = value + self.left_out(self.outward(gathered))
        return found


class SchNetStages(Stages):
    """Embedded atoms through interactions; the features of a molecule are the sum or mean of its atoms'."""

    channels_first = False
    centres: Tensor

    def __init__(self, recipe: SchNet) -> None:
        super().__init__()
        self.recipe, width = recipe, recipe.width
        self.embed = nn.Embedding(_ELEMENTS, width)
        centres = torch.linspace(0, recipe.cutoff, recipe.gaussians)
        self.register_buffer("centres", centres, persistent=False)
        self._narrow = 0.5 / float(centres[1] - centres[0]) ** 2
        self.stages = nn.ModuleList(
            Interaction(width, recipe.gaussians, StochasticDepth(recipe.stochastic_depth, number / recipe.depth))
            for number in range(1, recipe.depth + 1)
        )
        self.atoms = nn.Sequential(nn.Linear(width, width), ShiftedSoftplus(), dropped(recipe.dropout))
        self.count, self.features = recipe.depth, width

    def begin(self, inputs: Any) -> tuple[Tensor, Carried]:
        numbers, positions, mask = inputs["numbers"], inputs["positions"], inputs["mask"].bool()
        squares = (positions[:, :, None] - positions[:, None]).square().sum(-1)
        apart = squares > 0
        # The root has no gradient at zero, where an atom meets itself or padding meets padding.
        distances = torch.where(apart, squares, 1).sqrt() * apart
        others = ~torch.eye(mask.shape[1], dtype=torch.bool, device=mask.device)
        pairs = mask[:, :, None] & mask[:, None] & others
        cutoff = self.recipe.cutoff
        window = 0.5 * (torch.cos(distances * (math.pi / cutoff)) + 1) * (distances < cutoff) * pairs
        expanded = torch.exp(-self._narrow * (distances[..., None] - self.centres).square())
        return self.embed(numbers.long()), (expanded, window, mask)

    def inner(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        return self.stages[index](value, carried[0], carried[1]), carried

    def end(self, value: Tensor, carried: Carried) -> Tensor:
        atoms = self.atoms(value)
        if self.recipe.pool == "mean":
            return masked_mean(atoms, carried[2])
        total: Tensor = (atoms * carried[2].to(atoms.dtype)[:, :, None]).sum(1)
        return total

    def summary(self, value: Tensor, carried: Carried) -> Tensor:
        return masked_mean(value, carried[2])

    def entry(self) -> list[nn.Module]:
        return [self.embed]

    def stage(self, index: int) -> list[nn.Module]:
        return [self.stages[index]]

    def tail(self) -> list[nn.Module]:
        return [self.atoms]

    def forget_entry(self) -> None:
        del self.embed, self.centres


@dataclass(frozen=True)
class SchNet(Trunk):
    """Continuous-filter convolutions on molecules: a dict of `numbers` (A,), `positions` (A, 3) and `mask` (A,).

    Molecules are padded to A atoms; `mask` is true for those that are there. Neighbours beyond `cutoff` do not count,
    with a cosine window (Schütt et al. 2018). The last layer of the paper is each task's head.
    """

    name: ClassVar[str] = "schnet"
    paper: ClassVar[str] = "Schütt et al., SchNet: A Continuous-filter Convolutional Neural Network, NeurIPS 2017"
    width: int = hyper(64, 1, search=(32, 256), log=True, doc="size of an atom's vector")
    depth: int = hyper(3, 1, 16, doc="interactions")
    gaussians: int = hyper(50, 2, doc="functions that a distance is expanded in")
    cutoff: float = hyper(10.0, 0.1, doc="distance from which atoms do not interact, in the unit of the positions")
    pool: str = hyper("sum", choices=("sum", "mean"), doc="of the atoms")
    dropout: float = drop_rate("share of each atom's features dropped in training")
    stochastic_depth: float = drop_rate("how often the last interaction is left out in training, earlier ones less")

    def build(self, shape: Shape) -> tuple[Stages, int]:
        names = {"numbers", "positions", "mask"}
        fits = isinstance(shape, Mapping) and shape.keys() == names
        if not fits or [len(shape[key]) for key in ("numbers", "positions", "mask")] != [1, 2, 1]:  # type: ignore[call-overload]
            raise ValueError(
                f"schnet: inputs have shape {shown(shape)}; a dict of numbers (atoms,), positions (atoms, 3) and mask "
                "(atoms,) is wanted"
            )
        return SchNetStages(self), self.width
