"""A transformer encoder on token ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mtl.hyperparameters import hyper
from mtl.models.trunks.depth import StochasticDepth
from mtl.models.trunks.pictures import dropped
from mtl.models.trunks.trunk import Carried, Shape, Stages, Trunk, drop_rate, shown


class Attention(nn.Module):
    """Multi-head self-attention with what normalises before and adds behind."""

    def __init__(self, width: int, heads: int, dropout: float, left_out: StochasticDepth) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.all = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.heads, self.rate = heads, dropout
        self.dropout = dropped(dropout)
        self.left_out = left_out

    def forward(self, value: Tensor, mask: Tensor) -> Tensor:
        """From (B, L, width), attending to what `mask` (B, L) holds."""
        three = self.all(self.norm(value)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        rate = self.rate if self.training else 0.0
        read = F.scaled_dot_product_attention(
            three[0], three[1], three[2], attn_mask=mask[:, None, None, :], dropout_p=rate
        )
        found: Tensor = value + self.left_out(self.dropout(self.out(read.transpose(1, 2).flatten(2))))
        return found


class Forward(nn.Module):
    """Two linear layers at each position, with what normalises before and adds behind."""

    def __init__(self, width: int, inside: int, dropout: float, left_out: StochasticDepth) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, inside),
            nn.GELU(),
            dropped(dropout),
            nn.Linear(inside, width),
            dropped(dropout),
        )
        self.left_out = left_out

    def forward(self, value: Tensor) -> Tensor:
        """From (B, L, width) to the same."""
        found: Tensor = value + self.left_out(self.layers(value))
        return found


class Encoder(Stages):
    """Embedded tokens through layers of attention; features are the mean over the tokens that count."""

    channels_first = False

    def __init__(self, recipe: Transformer, length: int) -> None:
        super().__init__()
        width = recipe.width
        self.embed = nn.Embedding(recipe.vocabulary, width)
        self.positions = nn.Parameter(torch.randn(length, width) * 0.02)
        nn.init.normal_(self.embed.weight, std=0.02)
        self.start = dropped(recipe.dropout)
        ways = [
            StochasticDepth(recipe.stochastic_depth, k / (2 * recipe.depth)) for k in range(1, 2 * recipe.depth + 1)
        ]
        self.stages = nn.ModuleList(
            nn.ModuleList(
                [
                    Attention(width, recipe.heads, recipe.dropout, of_attention),
                    Forward(width, 4 * width, recipe.dropout, of_forward),
                ]
            )
            for of_attention, of_forward in zip(ways[::2], ways[1::2], strict=True)
        )
        self.norm = nn.LayerNorm(width)
        self.count, self.features = recipe.depth, width

    def begin(self, inputs: Any) -> tuple[Tensor, Carried]:
        tokens = inputs["tokens"] if isinstance(inputs, Mapping) else inputs
        mask = inputs["mask"].bool() if isinstance(inputs, Mapping) and "mask" in inputs else None
        if mask is None:
            mask = torch.ones_like(tokens, dtype=torch.bool)
        value = self.start(self.embed(tokens.long()) + self.positions[: tokens.shape[1]])
        # A text without a token attends to its first place: a softmax over nothing is not a number.
        first = torch.arange(tokens.shape[1], device=tokens.device) == 0
        attended = mask | (first & ~mask.any(1, keepdim=True))
        return value, (mask, attended)

    def inner(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        return self.stages[index][0](value, carried[1]), carried  # type: ignore[index]

    def outer(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:
        return self.stages[index][1](value), carried  # type: ignore[index]

    def end(self, value: Tensor, carried: Carried) -> Tensor:
        return self.summary(self.norm(value), carried)

    def summary(self, value: Tensor, carried: Carried) -> Tensor:
        return masked_mean(value, carried[0])

    def entry(self) -> list[nn.Module]:
        return [self.embed, nn.ParameterList([self.positions]), self.start]

    def stage(self, index: int) -> list[nn.Module]:
        return [self.stages[index]]

    def tail(self) -> list[nn.Module]:
        return [self.norm]

    def forget_entry(self) -> None:
        del self.embed, self.positions, self.start


def masked_mean(value: Tensor, mask: Tensor) -> Tensor:
    """The mean (B, size) of values (B, L, size) over what `mask` (B, L) holds; zero where it holds nothing."""
    kept = mask.to(value.dtype)[:, :, None]
    return (value * kept).sum(1) / kept.sum(1).clamp(min=1)


@dataclass(frozen=True)
class Transformer(Trunk):
    """A transformer encoder on token ids (L,), or a dict of `tokens` and `mask` (L,), true where a token counts.

    Layers normalise first (Xiong et al. 2020), positions are learned, and features are the mean over the tokens.
    """

    name: ClassVar[str] = "transformer"
    paper: ClassVar[str] = "Vaswani et al., Attention Is All You Need, NeurIPS 2017"
    vocabulary: int = hyper(10000, 1, doc="number of tokens: ids are smaller")
    width: int = hyper(128, 1, search=(32, 512), log=True, doc="size of a token's vector")
    depth: int = hyper(2, 1, 48, doc="layers")
    heads: int = hyper(4, 1, doc="heads of attention, a divisor of the width")
    dropout: float = drop_rate("share dropped, of attention too, in training")
    stochastic_depth: float = drop_rate("how often the last half of a layer is left out in training, earlier less")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width % self.heads:
            raise ValueError(f"transformer: heads={self.heads} does not divide width={self.width}")

    def build(self, shape: Shape) -> tuple[Stages, int]:
        tokens = shape.get("tokens") if isinstance(shape, Mapping) else shape
        extra = isinstance(shape, Mapping) and not shape.keys() <= {"tokens", "mask"}
        if extra or tokens is None or len(tokens) != 1 or not isinstance(tokens[0], int):
            raise ValueError(
                f"transformer: inputs have shape {shown(shape)}; token ids (length,), or a dict of tokens and mask, "
                "are wanted"
            )
        return Encoder(self, tokens[0]), self.width
