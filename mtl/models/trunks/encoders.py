"""Encoders of other libraries as trunks: of timm and of Hugging Face, with weights from this machine's disk alone."""

from __future__ import annotations

import importlib
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from mtl.extras import install
from mtl.hyperparameters import hyper
from mtl.models.trunks.depth import StochasticDepth
from mtl.models.trunks.pictures import summary
from mtl.models.trunks.trunk import Carried, Shape, Stages, Trunk, drop_rate, image, shown


class EncoderStage(Stages):
    """An encoder as one stage; frozen, with a linear layer behind it for the tasks to share.

    Attributes:
        rate_factor: of the learning rate of the encoder's parameters.
    """

    def __init__(self, encoder: nn.Module, size: int, recipe: ForeignEncoder) -> None:
        super().__init__()
        self.encoder, self.rate_factor = encoder, recipe.rate_factor
        self.frozen = recipe.freeze
        self.adapter: nn.Module = nn.Identity()
        if self.frozen:
            encoder.requires_grad_(False)
            self.adapter = nn.Sequential(nn.Linear(size, size), nn.ReLU())
        self.count, self.features = 1, size

    def train(self, mode: bool = True) -> EncoderStage:
        super().train(mode)
        if self.frozen:
            self.encoder.eval()  # running statistics and dropout are part of what is kept
        return self

    def encoded(self) -> dict[int, float]:
        """The factor of the learning rate by the id of each of the encoder's parameters."""
        return {id(parameter): self.rate_factor for parameter in self.encoder.parameters()}

    def stage(self, index: int) -> list[nn.Module]:  # noqa: ARG002
        return [self.encoder, self.adapter]

    def tail(self) -> list[nn.Module]:
        return []


class TimmStage(EncoderStage):
    """An encoder of timm: from pictures to vectors."""

    def begin(self, inputs: Any) -> tuple[Tensor, Carried]:
        return inputs, ()

    def inner(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:  # noqa: ARG002
        return self.adapter(self.encoder(value)), carried

    def summary(self, value: Tensor, carried: Carried) -> Tensor:  # noqa: ARG002
        return summary(value) if value.ndim == 4 else value


class Words(EncoderStage):
    """An encoder of Hugging Face: from token ids and a mask to the mean of the tokens' vectors, or the first one's."""

    pool: str

    def begin(self, inputs: Any) -> tuple[Tensor, Carried]:
        tokens = inputs["tokens"] if isinstance(inputs, Mapping) else inputs
        mask = inputs["mask"] if isinstance(inputs, Mapping) and "mask" in inputs else torch.ones_like(tokens)
        return tokens.long(), (mask.long(),)

    def inner(self, index: int, value: Tensor, carried: Carried) -> tuple[Tensor, Carried]:  # noqa: ARG002
        vectors = self.encoder(input_ids=value, attention_mask=carried[0]).last_hidden_state
        if self.pool == "first":
            return self.adapter(vectors[:, 0]), carried
        kept = carried[0].to(vectors.dtype)[:, :, None]
        return self.adapter((vectors * kept).sum(1) / kept.sum(1).clamp(min=1)), carried

    def summary(self, value: Tensor, carried: Carried) -> Tensor:
        if value.is_floating_point():
            return value
        kept = carried[0].to(torch.get_default_dtype())[:, :, None]
        words = self.encoder.get_input_embeddings()(value)  # type: ignore[operator]
        found: Tensor = (words * kept).sum(1) / kept.sum(1).clamp(min=1)
        return found


@dataclass(frozen=True)
class ForeignEncoder(Trunk):
    """What encoders of other libraries have in common."""

    rate_factor: float = hyper(1.0, 0.0, doc="of the encoder's learning rate")
    freeze: bool = hyper(False, doc="keep the encoder as it is, and share a linear layer behind it")

    @abstractmethod
    def build(self, shape: Shape) -> tuple[EncoderStage, int]: ...


def _library(name: str, wanted_by: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ValueError(f"{wanted_by}: {name!r} is not installed, or does not work: {install('encoders')}") from error


def _weights(name: str, path: Path) -> dict[str, Tensor]:
    """A state dict from disk."""
    if not path.is_file():
        raise ValueError(f"{name}: weights={path}: there is no such file, and weights are never downloaded")
    if path.suffix == ".safetensors":
        found: dict[str, Tensor] = _library("safetensors.torch", name).load_file(path)
        return found
    loaded = torch.load(path, map_location="cpu", weights_only=True)
    return dict(loaded.get("state_dict", loaded))


@dataclass(frozen=True)
class Timm(ForeignEncoder):
    """An encoder of timm by its name there, `timm:resnet18`: from pictures to vectors.

    With `weights`, a file of timm's state dict (`.safetensors`, `.pth`), it begins from these; without, from random
    parameters. Nothing is downloaded. A classifier in the file is left out.
    """

    name: ClassVar[str] = "timm"
    paper: ClassVar[str] = "Wightman, PyTorch Image Models, 2019; each encoder has a paper of its own"
    unnamed: ClassVar[str] = "model"
    model: str = hyper("resnet18", text="NAME", doc="its name in timm")
    weights: str = hyper("", text="FILE", doc="where its parameters are; random ones when empty")
    dropout: float = drop_rate("share of the features dropped in training")
    stochastic_depth: float = drop_rate("how often the last residual block is left out in training, earlier less")

    def build(self, shape: Shape) -> tuple[EncoderStage, int]:
        channels, height, width = image(self.name, shape)
        timm = _library("timm", f"timm:{self.model}")
        options = {"pretrained": False, "num_classes": 0, "in_chans": channels, "drop_rate": self.dropout}
        if not timm.is_model(self.model):
            raise ValueError(f"timm:{self.model}: timm has no such model; timm.list_models() has their names")
        if self.stochastic_depth:
            options["drop_path_rate"] = self.stochastic_depth
        try:
            encoder = timm.create_model(self.model, img_size=(height, width), **options)
        except TypeError:  # most take any size of picture, and no word about it
            try:
                encoder = timm.create_model(self.model, **options)
            except TypeError:
                if not self.stochastic_depth:
                    raise
                raise ValueError(self._no_depth()) from None
        if self.stochastic_depth and not self._own_draws(encoder, timm.layers.DropPath):
            raise ValueError(self._no_depth())
        if self.weights:
            given = _weights(self.name, Path(self.weights))
            wanted = encoder.state_dict()
            if lacking := [key for key in wanted if key not in given or given[key].shape != wanted[key].shape]:
                raise ValueError(
                    f"timm: weights={self.weights}: {lacking[0]!r} of {self.model} is not in it, or unlike"
                )
            encoder.load_state_dict({key: given[key] for key in wanted})
        return TimmStage(encoder, encoder.num_features, self), encoder.num_features

    def _own_draws(self, encoder: nn.Module, theirs: type) -> bool:
        """Put our stochastic depth in the place of timm's, whose draws a population could not repeat; whether there is
        any."""
        found: list[tuple[nn.Module, str, Any]] = [
            (parent, name, each)
            for parent in encoder.modules()
            for name, each in parent.named_children()
            if isinstance(each, theirs)
        ]
        for parent, name, each in found:
            setattr(parent, name, StochasticDepth(self.stochastic_depth, each.drop_prob / self.stochastic_depth))
        return bool(found)

    def _no_depth(self) -> str:
        return f"timm: stochastic_depth={self.stochastic_depth:g}: timm leaves no residual blocks of {self.model} out"


@dataclass(frozen=True)
class HuggingFace(ForeignEncoder):
    """A text encoder in a folder of Hugging Face's form, `hf:PATH`: token ids (L,), or a dict of `tokens` and `mask`.

    The folder has `config.json` and the parameters (`model.safetensors`), as `save_pretrained` writes them; the ids are
    those of its tokenizer. Nothing is downloaded, and code in the folder is not run.
    """

    name: ClassVar[str] = "hf"
    paper: ClassVar[str] = "Wolf et al., Transformers: State-of-the-Art Natural Language Processing, EMNLP 2020"
    unnamed: ClassVar[str] = "path"
    path: str = hyper("", text="FOLDER", doc="where config.json and the parameters are")
    pool: str = hyper("mean", choices=("mean", "first"), doc="features: the tokens' mean, or the first one's")
    dropout: float | None = hyper(None, 0.0, 0.95, search=(0.0, 0.5), doc="in place of the encoder's own rates")

    def build(self, shape: Shape) -> tuple[EncoderStage, int]:
        tokens = shape.get("tokens") if isinstance(shape, Mapping) else shape
        if tokens is None or len(tokens) != 1 or (isinstance(shape, Mapping) and shape.keys() - {"tokens", "mask"}):
            raise ValueError(f"hf: inputs have shape {shown(shape)}; token ids (length,), or a dict of tokens and mask")
        folder = Path(self.path)
        if not self.path or not (folder / "config.json").is_file():
            raise ValueError(
                f"hf:{self.path}: there is no config.json in this folder; encoders are read from disk and never "
                "downloaded"
            )
        if not any(folder.glob("*.safetensors")):
            raise ValueError(f"hf:{self.path}: the folder has no parameters (model.safetensors); none are downloaded")
        transformers = _library("transformers", f"hf:{self.path}")
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        if self.dropout is not None:
            rates = [key for key in vars(config) if "dropout" in key and isinstance(vars(config)[key], int | float)]
            for key in rates:
                setattr(config, key, self.dropout)
        encoder = transformers.AutoModel.from_pretrained(folder, config=config, local_files_only=True)
        stages = Words(encoder.float(), config.hidden_size, self)
        stages.pool = self.pool
        return stages, config.hidden_size
