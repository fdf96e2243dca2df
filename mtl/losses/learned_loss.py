"""A loss that is learned, with its weights and their optimizer's state: a module for training loops of any kind."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from mtl.files.whole import write_whole
from mtl.losses.labels import classes_last
from mtl.losses.learned import Learned
from mtl.losses.loss import Loss, Terms, widened
from mtl.losses.unrolled import unrolled_gradient
from mtl.step.passes import called_with, frozen_statistics
from mtl.strategies.learned import Moments, descend

_MOVED = ("weights", "first", "second", "updates")
_STATE = (*_MOVED, "lost", "waiting")


class LearnedLoss(nn.Module):
    """A loss that is a small network, and learns with every step of the model (ML3, AdaLFL; see `Learned`).

        loss = LearnedLoss("cross-entropy", rate=1e-3)
        for inputs, labels in batches:
            loss.meta_step(model, inputs, labels, lr=0.1)  # the loss learns
            optimizer.zero_grad()
            loss(model(inputs), labels).backward()  # the model learns from the loss
            optimizer.step()
        loss.save("found.json")  # `make_loss("learned:start=found.json,rate=0")` is that loss

    All that it learns is in buffers, which `state_dict()` holds and which no optimizer of the model's changes. With
    `offline_steps` it learns on new models before: `loss.begin(make_model, batches, lr=0.1)`.

    Args:
        of: the loss that it starts near and learns from, as a spec; or a `Learned` with all that follows.
        settings: hyperparameters of `Learned`, such as `rate`, `hidden`, `start`.

    Raises:
        ValueError: the loss `of` is none that a network can be near, or a setting is out of range.
    """

    weights: Tensor
    first: Tensor
    second: Tensor
    updates: Tensor
    lost: Tensor
    waiting: Tensor

    def __init__(self, of: str | Learned = "cross-entropy", **settings: Any) -> None:
        super().__init__()
        self.spec = of if isinstance(of, Learned) else Learned(of=of, **settings)
        weights = self.spec.weights.to(torch.get_default_dtype())
        zeros, zero = torch.zeros_like(weights), torch.zeros_like(weights[:1])
        steps = torch.full_like(zero, self.spec.offline_steps)
        for name, value in zip(_STATE, (weights, zeros, zeros, zero, zero, steps), strict=True):
            self.register_buffer(name, value.clone())

    def forward(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The learned loss as it is now, averaged over the labels that are there; NaN when a batch has none."""
        return self._terms(self.weights, prediction, target).reduced("mean")

    @property
    def given(self) -> Loss:
        """The loss that it learns from."""
        return self.spec.given

    def present(self, weights: Tensor, prediction: Tensor, target: Tensor) -> Tensor:
        """The learned loss with other weights (F,); 0 when a batch has no label."""
        return _mean(self._terms(weights, prediction, target))

    def given_present(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The loss that it learns from; 0 when a batch has no label."""
        return _mean(self.given.terms(widened(classes_last(prediction, target)), target))

    def _terms(self, weights: Tensor, prediction: Tensor, target: Tensor) -> Terms:
        return self.spec.terms_at(weights, widened(classes_last(prediction, target)), target)

    def meta_step(
        self,
        model: nn.Module,
        inputs: Any,
        target: Tensor,
        *,
        lr: float,
        validation: tuple[Any, Tensor] | None = None,
        predict: Callable[[Any], Tensor] = lambda predicted: predicted,
    ) -> None:
        """One step of the loss; the model stays as it is.

        It costs two forward and two backward passes of the model, and a pass back through the first of these.

        Args:
            model: whose step is looked ahead. Its running statistics stay as they are.
            inputs: of the training batch.
            target: its labels.
            lr: of the model's step.
            validation: inputs and labels that the given loss is read on; the training batch if not given.
            predict: from what the model returns to the prediction that the loss is of, where that is a part of it.
        """
        batch = inputs, target
        gradient = self._gradient(model, [batch], batch if validation is None else validation, lr, predict)
        self.take(moved(self.state(), gradient, self.spec.rate))

    def begin(
        self,
        make_model: Callable[[], nn.Module],
        batches: Iterator[tuple[Any, Tensor]],
        *,
        lr: float,
        predict: Callable[[Any], Tensor] = lambda predicted: predicted,
    ) -> None:
        """Make the steps that precede training, each on a new model and `inner_steps` batches, as far as they wait.

        Args:
            make_model: gives a new model, with parameters drawn anew.
            batches: inputs and labels of training batches, without end.
            lr: of the models' steps.
            predict: as of `meta_step`.
        """
        for _ in range(int(self.waiting)):
            some = list(itertools.islice(batches, self.spec.inner_steps))
            gradient = self._gradient(make_model(), some, some[-1], lr, predict)
            self.take(moved_before(self.state(), gradient, self.spec.offline_rate))

    def _gradient(
        self,
        model: nn.Module,
        batches: Sequence[tuple[Any, Tensor]],
        ahead: tuple[Any, Tensor],
        lr: float,
        predict: Callable[[Any], Tensor],
    ) -> Tensor:
        names, parameters = zip(*((n, p) for n, p in model.named_parameters() if p.requires_grad), strict=True)

        def predicted(at: Any, some: Any) -> Tensor:
            with frozen_statistics():
                return predict(called_with(model, dict(zip(names, at, strict=True)), some))

        def learned(at: Any, weights: Tensor, *, batch: tuple[Any, Tensor]) -> Tensor:
            return self.present(weights, predicted(at, batch[0]), batch[1])

        return unrolled_gradient(
            self.weights,
            parameters,
            [partial(learned, batch=batch) for batch in batches],
            lambda at: self.given_present(predicted(at, ahead[0]), ahead[1]),
            lr,
        )

    def take(self, new: Mapping[str, Tensor]) -> None:
        """Write other values into all buffers, by name."""
        for name, value in self.named_buffers():
            value.copy_(new[name])

    def state(self) -> dict[str, Tensor]:
        """The buffers by name."""
        return dict(self.named_buffers())

    def save(self, path: str | Path) -> None:
        """Write the loss as it is now to a file that `start` takes.

        Raises:
            OSError: it cannot be written.
        """
        write_whole(Path(path), json.dumps(self.spec.described(self.weights)) + "\n")


def moved(state: dict[str, Tensor], gradient: Tensor, rate: float | Tensor) -> dict[str, Tensor]:
    """The buffers of a learned loss after a step of Adam.

    A gradient that is not finite changes nothing and is counted in `lost`; one that is zero, as where a batch has no
    label, changes nothing either.

    Args:
        state: the buffers, (F,) and (1,); of N losses side by side (N, F) and (N, 1).
        gradient: by the weights.
        rate: step size; a number or (N, 1).
    """
    sound = gradient.isfinite().all(-1, keepdim=True)
    counts = sound & (gradient != 0).any(-1, keepdim=True)
    before = Moments(state["first"], state["second"], state["updates"])
    weights, after = descend(state["weights"], torch.where(sound, gradient, 0), before, rate)
    new = dict(zip(_MOVED, (weights, *after), strict=True))
    found = {name: torch.where(counts, new[name].to(state[name]), state[name]) for name in _MOVED}
    return {**state, **found, "lost": state["lost"] + ~sound}


def moved_before(state: dict[str, Tensor], gradient: Tensor, rate: float) -> dict[str, Tensor]:
    """The buffers of a learned loss after a step of those that precede training; with a new Adam after the last.

    Args:
        state: the buffers, with the number of the steps that wait.
        gradient: by the weights.
        rate: step size.
    """
    new = moved(state, gradient, rate)
    new["waiting"] = state["waiting"] - 1
    if int(new["waiting"]) > 0:
        return new
    return {**new, **{name: torch.zeros_like(state[name]) for name in _MOVED[1:]}}


def _mean(terms: Terms) -> Tensor:
    return terms.reduced("sum") / terms.there.sum().clamp(min=1)
