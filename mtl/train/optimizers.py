"""Optimizers by name and arguments: `adam`, `sgd:momentum=0.9,nesterov=true`, `NAdam`, `package.module:Class:eps=1e-7`.

Names are those of `torch.optim`, in capitals or not, and arguments those of the class. Torch is imported where a class
is looked up, since the command line reads the declarations of settings without it.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtl.hyperparameters import check_said
from mtl.suggestions import nearest
from mtl.train.lbfgs import check_arguments

if TYPE_CHECKING:
    import torch

#: Those that a population steps side by side, `mtl.population.optimizers`; without arguments they need no check.
SIDE_BY_SIDE = ("adam", "adamw", "sgd", "rmsprop", "adagrad", "adadelta", "adamax", "nadam", "radam")
#: What torch's optimizers look up in a state that has begun, by the argument that asks for it.
_ASKED_FOR = {"amsgrad": "max_exp_avg_sq", "centered": "grad_avg"}
#: Arguments that are training settings of their own.
_SETTINGS = ("lr", "weight_decay")
_PLACE = re.compile(r"(?P<module>[A-Za-z_][\w.]*):(?P<cls>[A-Za-z_]\w*)(:(?P<pairs>.*))?")


@dataclass(frozen=True)
class OptimizerSpec:
    """An optimizer as it was written.

    Attributes:
        text: as it was written.
        name: the class's name in `torch.optim` in small letters, or `package.module:Class`.
        arguments: those given.
    """

    text: str
    name: str
    arguments: Mapping[str, Any]

    @property
    def hears_momentum(self) -> bool:
        """Whether the training setting `momentum` has an effect."""
        return self.name == "sgd" and "momentum" not in self.arguments

    def given(self, momentum: float) -> dict[str, Any]:
        """The arguments for the class, but learning rate and weight decay, with the training setting `momentum`."""
        return {**({"momentum": momentum} if self.hears_momentum else {}), **self.arguments}

    @property
    def searches(self) -> bool:
        """Whether a step of it evaluates the losses several times, as that of L-BFGS does."""
        if self.name in SIDE_BY_SIDE:
            return False
        from torch.optim import LBFGS

        return issubclass(_class(self.name), LBFGS)

    def keeps_state_of(self, other: OptimizerSpec) -> bool:
        """Whether it can go on from the state of another: that has its form."""
        lengths = [spec.arguments.get("history_size") for spec in (self, other)] if self.searches else [None] * 2
        return self.name == other.name and lengths[0] == lengths[1]

    def completed(self, state: Mapping[str, Any], like: torch.Tensor) -> dict[str, Any]:
        """The state of a parameter `like` from before other arguments, with what these ask for beside it: zeros."""
        import torch

        asked = [entry for argument, entry in _ASKED_FOR.items() if self.arguments.get(argument)]
        asked += ["momentum_buffer"] if self.name == "rmsprop" and self.arguments.get("momentum", 0) > 0 else []
        return {**{entry: torch.zeros_like(like) for entry in asked}, **state}

    @property
    def side_by_side(self) -> bool:
        """Whether a population steps all its members at once with this optimizer and all arguments that it has."""
        return self.name in SIDE_BY_SIDE and self._differing() <= _settings(self.name)

    def values(self, lr: float, weight_decay: float, momentum: float) -> dict[str, Any]:
        """The settings of the population's optimizer of this name, those not given with their default."""
        from mtl.population.optimizers import make_optimizer

        known = _settings(self.name)
        given = {key: value for key, value in self.given(momentum).items() if key in known}
        return make_optimizer(self.name).complete({"lr": lr, "weight_decay": weight_decay, **given})

    def _differing(self) -> set[str]:
        """Names of the given arguments that are not at the class's own default."""
        usual = _parameters(self.name)
        return {key for key, value in self.arguments.items() if key not in usual or usual[key].default != value}

    def make(
        self,
        parameters: Iterable[torch.nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float,
        momentum: float,
    ) -> torch.optim.Optimizer:
        """The optimizer over `parameters`, or over groups of them as in torch.

        Raises:
            ValueError: the class refuses an argument or a parameter.
        """
        arguments = self.given(momentum)
        if self.decays:
            arguments["weight_decay"] = weight_decay
        cls: Any = _class(self.name)
        if self.name == "muon":
            from mtl.train.muon import MuonWithAdamW as cls
        try:
            made: torch.optim.Optimizer = cls(parameters, lr=lr, **arguments)
        except (ValueError, TypeError, RuntimeError) as error:
            raise ValueError(f"optimizer {self.text!r}: {error}") from error
        return made

    @property
    def decays(self) -> bool:
        """Whether the class takes a weight decay."""
        return "weight_decay" in _parameters(self.name)


@functools.cache  # settings are made for every member of a population; a text always means the same
def read_optimizer(text: str) -> OptimizerSpec:
    """The optimizer that `NAME:KEY=VALUE,KEY=VALUE` stands for; NAME is of `torch.optim`, or `package.module:Class`.

    The arguments are checked against the signature of the class, and by the class itself.

    Raises:
        ValueError: an unknown name or argument, with the nearest known ones; a value that the class does not accept;
            an optimizer that cannot make a step, as one that wants sparse gradients.
    """
    if text in SIDE_BY_SIDE:
        return OptimizerSpec(text, text, {})
    name, pairs = _parted(text)
    if text.rstrip().endswith(":"):
        check_said(pairs, f"optimizer {text!r}")
    spec = OptimizerSpec(text, name, _arguments(text, name, pairs))
    if spec.searches:
        check_arguments(text, spec.arguments)
    _try(spec)
    return spec


def _settings(name: str) -> set[str]:
    """The arguments that the population's optimizer of this name has, as torch calls them."""
    from mtl.population.optimizers import make_optimizer

    return {"betas", *make_optimizer(name).settings}


def _parted(text: str) -> tuple[str, str]:
    """Name and arguments of a spec."""
    word, _, pairs = text.partition(":")
    names, plain = _torch_names(), word.strip().lower().replace("-", "").replace("_", "")
    if plain in names:
        return plain, pairs
    if place := _PLACE.fullmatch(text.strip()):
        name = f"{place['module']}:{place['cls']}"
        _class(name)
        return name, place["pairs"] or ""
    raise ValueError(f"unknown optimizer {word.strip()!r}: {nearest(word.strip(), names, _ALL)}")


_ALL = "any class of torch.optim, or package.module:Class"


def _torch_names() -> dict[str, type]:
    """The classes of `torch.optim` by their name in small letters."""
    from torch import optim

    classes = [each for each in vars(optim).values() if isinstance(each, type) and issubclass(each, optim.Optimizer)]
    return {cls.__name__.lower(): cls for cls in classes if cls is not optim.Optimizer}


@functools.cache
def _class(name: str) -> type[torch.optim.Optimizer]:
    module, _, wanted = name.rpartition(":")
    if not module:
        return _torch_names()[name]
    from torch import optim

    try:
        source = importlib.import_module(module)
    except ImportError as error:
        raise ValueError(f"optimizer {name!r}: {module!r} cannot be imported: {error}") from error
    cls = getattr(source, wanted, None)
    if not isinstance(cls, type) or not issubclass(cls, optim.Optimizer):
        there = [
            key for key, each in vars(source).items() if isinstance(each, type) and issubclass(each, optim.Optimizer)
        ]
        raise ValueError(f"optimizer {name!r}: {module} has no optimizer {wanted!r}: {nearest(wanted, there)}")
    return cls


@functools.cache
def _parameters(name: str) -> Mapping[str, inspect.Parameter]:
    """The arguments of a class by name, but the parameters that it steps."""
    every = list(inspect.signature(_class(name)).parameters.values())[1:]
    return {each.name: each for each in every}


def _arguments(text: str, name: str, pairs: str) -> dict[str, Any]:
    usual, where = _parameters(name), f"optimizer {text!r}"
    any_other = any(each.kind is inspect.Parameter.VAR_KEYWORD for each in usual.values())
    named = {key: each for key, each in usual.items() if each.kind is not inspect.Parameter.VAR_KEYWORD}
    if "lr" not in named and not any_other:
        raise ValueError(f"{where}: it has no learning rate, lr, that a schedule could set")
    values: dict[str, Any] = {}
    for pair in filter(None, (piece.strip() for piece in pairs.split(","))):
        key, equals, written = (part.strip() for part in pair.partition("="))
        if not equals:
            raise ValueError(f"{where}: {pair!r} is not KEY=VALUE")
        if key in _SETTINGS:
            raise ValueError(f"{where}: {key} is a training setting of its own, --{key.replace('_', '-')}")
        if key not in named and not any_other:
            others = [other for other in named if other not in _SETTINGS]
            raise ValueError(f"{where}: {name} has no argument {key!r}: {nearest(key, others)}")
        if key in values:
            raise ValueError(f"{where}: {key} stands there twice")
        values[key] = _value(f"{where}: {key}={written!r}", written, named[key].default if key in named else None)
    return values


def _value(where: str, written: str, usual: Any) -> Any:
    """What was written as a value of the kind of the default `usual`."""
    value = _literal(written)
    if isinstance(usual, bool):
        fits, wanted = isinstance(value, bool), "true or false"
    elif isinstance(usual, int | float):
        fits, wanted = isinstance(value, int | float) and not isinstance(value, bool), "a number"
    elif isinstance(usual, tuple):
        fits, wanted = isinstance(value, tuple) and len(value) == len(usual), f"{len(usual)} numbers joined by /"
    else:
        return value
    if not fits:
        raise ValueError(f"{where} cannot be read as {wanted}")
    return value


def _literal(written: str) -> Any:
    """A truth value, none, a number, numbers joined by /, or else the text itself."""
    words = {"true": True, "false": False, "none": None}
    if written.lower() in words:
        return words[written.lower()]
    try:
        if "/" in written:
            parts = written.split("/")
            return tuple(None if part.lower() == "none" else float(part) for part in parts)
        return int(written) if re.fullmatch(r"[+-]?\d+", written) else float(written)
    except ValueError:
        return written


def _try(spec: OptimizerSpec) -> None:
    """Raise `ValueError` when the class does not accept its arguments, or cannot make a step by itself."""
    import torch

    parameter = torch.nn.Parameter(torch.ones(2, 2, device="cpu"))
    momentum = 0.9  # that of the training settings is in [0, 1]
    made = spec.make([parameter], 1e-3, 0.0, momentum)
    if spec.name in SIDE_BY_SIDE:
        return
    parameter.grad = torch.ones_like(parameter)

    def half_square() -> torch.Tensor:
        parameter.grad = parameter.detach().clone()
        return parameter.square().sum() / 2

    with torch.random.fork_rng(devices=[]):
        try:
            made.step(half_square if spec.searches else None)  # type: ignore[arg-type]
        except Exception as error:  # another library's class may raise anything
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ValueError(f"optimizer {spec.text!r}: a step of it fails: {reason}") from error
