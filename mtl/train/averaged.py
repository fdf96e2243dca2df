"""The average of one model's weights over a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from mtl.benchmarks.benchmark import Examples
from mtl.population.normalisation import forgotten, gathering, normalisations
from mtl.train.average import copied, follow
from mtl.train.batches import Batches
from mtl.train.job import Job
from mtl.train.learning import in_place_of

_MOST = 100  # batches whose statistics are gathered
_STREAM = 7  # tells their order from those of training


class Average:
    """An average of parameters and buffers by name, which begins at those of a model.

    Args:
        job: says which.
        model: of the run.
        train: the training split.
    """

    def __init__(self, job: Job, model: nn.Module, train: Examples) -> None:
        self._job = job
        self._renewing = renewing_batches(job, model, train)
        self.values = copied(model.state_dict())
        #: Whether the values are those of several steps.
        self.begun = False

    def follow(self, model: nn.Module, step: int) -> None:
        """Move towards the model as it is after a step, counted from 0."""
        share = self._job.share(step)
        follow(self.values, model.state_dict(), share)
        self.begun = share < 1

    def renew(self, model: nn.Module) -> None:
        """Gather the running statistics of batch normalisation anew; `model` is left as it is."""
        if self._renewing is None or not self.begun:
            return
        present = copied(model.state_dict())
        model.load_state_dict(forgotten(model, self.values))
        with torch.no_grad():
            for number, inputs in enumerate(renewing_inputs(self._renewing)):
                with gathering(model, number):
                    model(inputs)
        self.values = copied(model.state_dict())
        model.load_state_dict(present)

    def go_on_from(self, other: Average | None, model: nn.Module) -> None:
        """Take the values of another average, or those of the model where there is none."""
        present = model.state_dict()
        self.values = copied(present if other is None else in_place_of(present, other.values))
        self.begun = other is not None and other.begun

    def close(self) -> None:
        """End processes that read batches ahead."""
        if self._renewing is not None:
            self._renewing.close()

    def state_dict(self) -> dict[str, Any]:
        """The values, and whether they are those of several steps."""
        return {"values": self.values, "begun": self.begun}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`."""
        values: Mapping[str, Tensor] = saved["values"]
        self.values, self.begun = copied(values), saved["begun"]


def renewing_batches(job: Job, model: nn.Module, train: Examples) -> Batches | None:
    """The batches on which statistics are gathered, the same for all runs; None where there are none to gather."""
    if job.settings.swa is None or not normalisations(model):
        return None
    return Batches(train, job.settings.batch_size, 0, _STREAM, job.settings.sampling)


def renewing_inputs(batches: Batches) -> Iterator[Any]:
    """The inputs of an epoch, or of the first batches of it."""
    for number in range(min(batches.per_epoch, _MOST)):
        yield batches[number].inputs
