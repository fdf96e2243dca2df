"""The losses of one run on a batch, whatever the batch is: mixed, with holes in its labels, or divided by processes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from mtl.benchmarks.apart import weighed_losses
from mtl.benchmarks.benchmark import Examples
from mtl.benchmarks.own import OwnExamples
from mtl.losses.labels import known
from mtl.train.augment import Augmented
from mtl.train.ground import Ground
from mtl.train.job import Job
from mtl.train.learning import training_tasks
from mtl.train.model import predictions
from mtl.train.precision import lower
from mtl.train.processes import examples


class BatchLosses:
    """What the strategy of a run weighs, by name.

    Args:
        ground: benchmark, data, device and processes.
        job: the run.
        model: its model, with the losses that it learns.
    """

    def __init__(self, ground: Ground, job: Job, model: nn.Module) -> None:
        self._ground, self._job, self._model = ground, job, model
        self._tasks = training_tasks(model, job.tasks)

    def __call__(self, drawn: Augmented) -> dict[str, Tensor]:
        """The losses, each a scalar; those of a task without a single label are absent.

        The forward pass is in the precision that is asked for.
        """
        with lower(self._job.settings, self._ground.device):
            return self._mixed(drawn)

    def _mixed(self, drawn: Augmented) -> dict[str, Tensor]:
        batch = drawn.batch
        predicted = self._predicted(batch.inputs, own=isinstance(batch, OwnExamples))
        losses = self._against(predicted, batch)
        if drawn.partner is None:
            return losses
        others, mixed = self._against(predicted, drawn.partner), dict[str, Tensor]()
        for name, task in self._job.losses.items():
            share = drawn.share_of(task)
            # In a micro-batch either of the two may be without labels while the other has some.
            terms = [part * each[name] for part, each in ((share, losses), (1 - share, others)) if name in each]
            if terms:
                mixed[name] = sum(terms[1:], start=terms[0])
        return mixed

    def _against(self, predicted: Mapping[str, Tensor], batch: Examples) -> dict[str, Tensor]:
        """The losses against the labels of a batch; a task without a single label is absent, not broken."""
        losses = weighed_losses(self._tasks, predicted, batch.targets)
        if not self._ground.missing:
            return losses
        there = {task.name for task in self._job.tasks if bool(known(batch.targets[task.name]).any())}
        return {name: loss for name, loss in losses.items() if self._job.losses[name] in there}

    def _predicted(self, inputs: Any, *, own: bool) -> Mapping[str, Tensor]:
        """Predictions for a batch; of several processes each makes a part of them."""
        processes = self._ground.processes
        if processes is None:
            return predictions(self._model, inputs, own=own)
        if not own:
            found = predictions(self._model, processes.part_of(inputs), own=False)
            return {task.name: processes.gathered(found[task.name], examples(inputs)) for task in self._job.tasks}
        found = predictions(self._model, {task: processes.part_of(each) for task, each in inputs.items()}, own=True)
        return {task: processes.gathered(found[task], examples(each)) for task, each in inputs.items()}
