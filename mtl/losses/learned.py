"""A task's loss that is a small network, which may be learned while the model trains."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtl.files.learned import read_loss_file
from mtl.hyperparameters import domains, hyper
from mtl.losses.inner import inner_loss
from mtl.losses.loss import Loss, Terms
from mtl.losses.loss_network import network_size, network_terms, random_weights, weights_near

#: Of what a network can be the loss.
_KINDS = ("numbers", "classes", "yes or no")
_FORMAT = "mtl-learned-loss-1"
_RANDOM = "random"  # in the place of a file to start from


@dataclass(frozen=True)
class Learned(Loss):
    """A small network of label and prediction, which learns what to be while the model trains (ML3, AdaLFL).

    With every step of the model the network takes one of its own. At weights theta of the model and phi of the network
    a plain gradient step would lead to theta' = theta - lr grad M(theta; phi). There the loss `of`, which the task
    would have otherwise, is read, and phi moves down its gradient by phi, with Adam. The model's own step is made with
    phi as it was before. Of classes the network is asked for each one, with the logarithm of its probability, and its
    outputs are summed. Validation and test data are measured by the loss `of`.

    With `offline_steps` it learns before training, too (the offline initialization of AdaLFL). Each of these steps
    draws a new model, as the run's own is drawn, and makes `inner_steps` plain steps down the network with it, each on
    another batch. The loss `of` is read on the last of these batches, phi moves down its gradient through all steps,
    with Adam and `offline_rate`, and the model is thrown away. Training then begins with a new Adam.

    With `rate` 0 nothing is learned while the model trains: the network is a loss like any other, such as one that was
    learned before and is read from the file `start`. That is how ML3 uses it; AdaLFL goes on learning.

    Without a file the network is near the loss `of` in value and slope: the last layer is fitted to it, the hidden ones
    are drawn at random. With `start=random` all are, as in ML3 and AdaLFL, and `offline_steps` make a loss of it.
    Deviations: the network reads logarithms of probabilities, where AdaLFL gives it probabilities; its outputs for the
    classes are summed and then bent, where AdaLFL bends each and takes the mean. The step that is looked ahead is a
    plain one of the optimizer's learning rate, though the optimizer may take another, and of the task's own loss alone,
    whatever weighs the tasks.
    """

    name: ClassVar[str] = "learned"
    kind: ClassVar[str] = "classes"
    formula: ClassVar[str] = (
        "g(sum over classes of M(x, log y; phi)), with x the label, y the predicted probability, g a smooth leaky ReLU"
    )
    use: ClassVar[str] = "a loss that is learned while the model trains; costs several more passes a step"
    paper: ClassVar[str] = (
        "Bechtle et al., Meta Learning via Learned Loss, ICPR 2020 (ML3); Raymond et al., Meta-Learning Adaptive Loss "
        "Functions, TMLR 2025 (AdaLFL)"
    )
    of: str = hyper("cross-entropy", text="SPEC", doc="loss that the task would have otherwise, and that judges it")
    rate: float = hyper(1e-3, 0.0, search=(1e-5, 1e-2), log=True, doc="step size of the network in training, or 0")
    hidden: int = hyper(40, 1, doc="width of the network's two hidden layers")
    on: str = hyper("train", choices=("train", "validation"), doc="whose batch the given loss is read on")
    start: str = hyper("", text="FILE", doc="file of a loss that was learned, to start from, or `random`")
    offline_steps: int = hyper(0, 0, doc="steps of the network before training, each on a new model")
    inner_steps: int = hyper(1, 1, doc="steps that each of these models makes")
    offline_rate: float = hyper(1e-3, 0.0, above=True, doc="step size of the network before training")

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.given
        if given.undecided() or any(domain.tasks and _says(given, key) for key, domain in domains(given).items()):
            raise ValueError(f"learned: of={self.of} depends on the training labels or on the class; take one without")
        if given.kind not in _KINDS or given.learns or not _one_term_a_label(given):
            raise ValueError(f"learned: of={self.of} must be a loss of {', '.join(_KINDS)} with a term for each label")
        object.__setattr__(self, "kind", given.kind)  # of the instance, whose predictions and labels are those of `of`
        if self.start == _RANDOM and not self.learns:
            raise ValueError("learned: start=random is no loss before something is learned: give it offline_steps")
        if self._from_file:
            self._read()
            # What a run records is found from any folder, as the file of a user's own loss is.
            object.__setattr__(self, "start", str(Path(self.start).absolute()))
        if not self.learns:
            _ = self.weights  # made now: in a step it would be made within the transformations of a program

    @property
    def given(self) -> Loss:
        """The loss `of`."""
        return inner_loss(self.of)

    @property
    def learns(self) -> bool:
        return self.adapts or self.offline_steps > 0

    @property
    def adapts(self) -> bool:
        """Whether it goes on learning while the model trains, so that it is another loss from step to step."""
        return isinstance(self.rate, Tensor) or self.rate > 0

    @property
    def measure(self) -> Loss:
        return self.given

    @cached_property
    def weights(self) -> Tensor:
        """The weights (F,) from which it starts, in float64."""
        if self._from_file:
            return self._read()
        return random_weights(self.hidden) if self.start else weights_near(self.given, self.hidden)

    @property
    def _from_file(self) -> bool:
        return self.start not in ("", _RANDOM)

    def terms(self, prediction: Tensor, target: Tensor) -> Terms:
        return self.terms_at(self.weights.to(prediction.device, prediction.dtype), prediction, target)

    def terms_at(self, weights: Tensor, prediction: Tensor, target: Tensor) -> Terms:
        """The loss of each label under other weights (F,) of the network."""
        return network_terms(weights, self.hidden, prediction, target, numbers=self.kind == "numbers")

    def impurity(self, prediction: Tensor, target: Tensor) -> str | None:
        return self.given.impurity(prediction, target)

    def complaint(self, prediction: Tensor, target: Tensor) -> str | None:
        said = self.given.complaint(prediction, target)
        return None if said is None else f"learns from {self.given.name}, which {said}"

    def by_class(self, target: Tensor, outputs: int) -> bool:
        return self.given.by_class(target, outputs)

    def constant(self, target: Tensor, outputs: int | None = None) -> Tensor:
        return self.given.constant(target, outputs)

    def described(self, weights: Tensor) -> dict[str, Any]:
        """What stands, as JSON, in a file that `start` takes, of a network with these weights (F,)."""
        numbers = weights.detach().double().cpu().tolist()
        return {"format": _FORMAT, "kind": self.kind, "of": self.of, "hidden": self.hidden, "weights": numbers}

    def _read(self) -> Tensor:
        """The weights in the file `start`."""
        about = _about(self.start)
        for key, own, given in (("kind", self.kind, "of"), ("hidden", self.hidden, "hidden")):
            if about.get(key) != own:
                raise ValueError(
                    f"learned: start={self.start} is of {key} {about.get(key)}, and {own} is wanted: it was "
                    f"learned with {given}={about.get(given)}"
                )
        weights = torch.tensor(about["weights"], dtype=torch.float64)
        if weights.shape != (network_size(self.hidden),) or not bool(weights.isfinite().all()):
            raise ValueError(f"learned: start={self.start} has not the {network_size(self.hidden)} weights of its size")
        return weights


def learned_in(path: Path) -> Learned:
    """The loss in a file, as one that stays as it is.

    Raises:
        ValueError: there is none; one line.
    """
    about = _about(str(path))
    if not isinstance(about.get("of"), str) or not isinstance(about.get("hidden"), int):
        raise ValueError(f"learned: start={path} is not the file of a learned loss")
    return Learned(of=about["of"], hidden=about["hidden"], rate=0.0, start=str(path))


def _about(start: str) -> dict[str, Any]:
    """What is in a file of a learned loss."""
    about = read_loss_file(Path(start), f"learned: start={start}")
    if not is_learned(about):
        raise ValueError(f"learned: start={start} is not the file of a learned loss")
    return dict(about)


def is_learned(about: Any) -> bool:
    """Whether this is what the file of a learned loss holds."""
    return isinstance(about, dict) and about.get("format") == _FORMAT and isinstance(about.get("weights"), list)


def _one_term_a_label(given: Loss) -> bool:
    """Whether the terms of a loss are labels, so that one of them can be read by itself."""
    target = torch.zeros(3, dtype=torch.int64 if given.kind == "classes" else torch.float64)
    prediction = torch.zeros(3, 2, dtype=torch.float64) if given.kind == "classes" else target.clone()
    return given(prediction, target, "none").shape == target.shape


def _says(given: Loss, key: str) -> bool:
    """Whether a hyperparameter that may have a number for each class has some."""
    value = getattr(given, key)
    return isinstance(value, tuple) and len(value) > 0
