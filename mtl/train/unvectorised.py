"""Finds out why members cannot be trained as one program."""

from __future__ import annotations

import torch

from mtl.losses import loss_of
from mtl.strategies import units
from mtl.train.ground import Ground
from mtl.train.job import Job
from mtl.train.learning import learning
from mtl.train.model import build_model, predictions
from mtl.train.surroundings import seeded

_SOME = 32  # examples that losses are tried on
#: What `torch.func` raises at code that it cannot vectorise.
REFUSALS = (RuntimeError, NotImplementedError, TypeError, AttributeError)


def cause(ground: Ground, job: Job, error: Exception) -> str:
    """What it is that cannot be vectorised, the loss of a task or the strategy on this model, and torch's reason."""
    text = str(error).strip()
    # The first sentence has the reason; what torch asks its own users to do does not help.
    reason = text.splitlines()[0].partition(". ")[0][:200] if text else type(error).__name__
    return f"{_at_fault(ground, job)} cannot be vectorised, so that members are trained one at a time: {reason}"


def _at_fault(ground: Ground, job: Job) -> str:
    train = ground.splits.train
    batches = {task.name: train.of_task(task.name).take(slice(_SOME)) for task in job.tasks}
    inputs = {name: batch.inputs for name, batch in batches.items()} if ground.own else train.first(_SOME)
    with seeded(ground.device, job.member.seed), torch.no_grad():
        model = build_model(ground.benchmark, job.tasks, train.first(2), job.settings).to(ground.device).eval()
        predicted = predictions(model, inputs, own=ground.own)
        for task in [task for task in job.tasks if learning(task) is None]:
            labels, prediction = batches[task.name].targets[task.name], predicted[task.name]
            try:
                torch.func.vmap(lambda some, task=task, labels=labels: loss_of(task.loss, some, labels))(
                    torch.stack([prediction, prediction])
                )
            except Exception:  # anybody's loss may raise anything; without vmap it did not
                return f"the loss of task {task.name!r}"
    parts = [part.name for part in units(job.strategy) if not hasattr(part, "parts")]
    return f"{'+'.join(parts)} on this model"
