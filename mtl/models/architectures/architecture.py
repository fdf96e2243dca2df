"""What an architecture is: a recipe, read from a spec, for how the tasks share a trunk."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar

from torch import Tensor, nn

from mtl.hyperparameters import validate, write_unit
from mtl.models.trunks import Trunk
from mtl.models.trunks.encoders import EncoderStage


class Shared(nn.Module, ABC):
    """A model of several tasks: from inputs to a dict of predictions by task.

    Attributes:
        heads: of those of `mtl.models`, a module a task, which makes its prediction; see `_have_heads`.
    """

    heads: nn.ModuleDict
    _names: Mapping[str, str] = MappingProxyType({})

    def _have_heads(self, heads: Mapping[str, nn.Module]) -> None:
        """Take over the tasks' heads, in their order."""
        self._names = module_names(heads)
        self.heads = nn.ModuleDict({self._names[task]: head for task, head in heads.items()})

    @property
    def headed_tasks(self) -> list[str]:
        """The tasks that have a head, in their order."""
        return list(self._names)

    def _wanted(self, only: Sequence[str] | None) -> list[tuple[str, str]]:
        """The tasks among `only`, or all, each with the name of its modules."""
        return [(task, name) for task, name in self._names.items() if only is None or task in only]

    def head(self, task: str) -> nn.Module:
        """The head of a task."""
        return self.heads[self._names[task]]

    def own_parameters(self, task: str) -> Iterator[nn.Parameter]:
        """The parameters that serve one task alone: of its head, and of what else is made for each task."""
        name, shared = self._names[task], {id(parameter) for parameter in self.shared_parameters()}
        for module in self.modules():
            if isinstance(module, nn.ModuleDict) and name in module:
                yield from (each for each in module[name].parameters() if id(each) not in shared)

    @abstractmethod
    def forward(self, inputs: Any, only: Sequence[str] | None = None) -> dict[str, Tensor]:
        """Predictions by task.

        Args:
            inputs: of some examples.
            only: tasks whose predictions are wanted, in the model's order; what belongs to the others alone is left
                out. None for all.
        """

    @abstractmethod
    def shared_parameters(self) -> Iterator[nn.Parameter]:
        """The parameters that the loss of every task reaches: what strategies compare gradients on."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The parameters that are trained, by the factor of their learning rate, for an optimizer.

        Returns:
            A dict with `params` and `rate_factor` for each factor; pretrained encoders have one of their own.
        """
        factors: dict[int, float] = {}
        for module in self.modules():
            if isinstance(module, EncoderStage):
                factors |= module.encoded()
        groups: dict[float, list[nn.Parameter]] = {}
        for parameter in self.parameters():
            if parameter.requires_grad:
                groups.setdefault(factors.get(id(parameter), 1.0), []).append(parameter)
        return [{"params": parameters, "rate_factor": factor} for factor, parameters in groups.items()]


@dataclass(frozen=True)
class Architecture(ABC):
    """A recipe for a model, built when trunk, tasks and inputs are known.

    Class attributes:
        paper: where it was proposed.
        shared: in words, what `shared_parameters` gives.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    shared: ClassVar[str]

    def __post_init__(self) -> None:
        validate(self, self.name)

    @abstractmethod
    def build(self, trunk: Trunk, outputs: Mapping[str, int], inputs: Any) -> Shared:
        """The model.

        Args:
            trunk: recipe of the network that the tasks share.
            outputs: units of each task's head.
            inputs: a few examples, tensors (B, ...) in any nesting.

        Raises:
            ValueError: the architecture cannot be made of this trunk, or the trunk cannot read the inputs; one line.
        """

    def __str__(self) -> str:
        return write_unit(self, self.name)


def module_names(names: Mapping[str, Any] | list[str]) -> dict[str, str]:
    """For each task's name one that a module may have; characters are written as in a URL, so that none is lost.

    A name with a dot would be that of a module within a module, and some names (`type`, `keys`) are taken.
    """
    return {name: _key(name) for name in names}


def _key(task: str) -> str:
    key = task.replace("%", "%25").replace(".", "%2E")
    return f"%{ord(key[0]):02X}{key[1:]}" if hasattr(nn.ModuleDict(), key) else key
