"""Training as one would write it by hand, for tests of what settings of training mean."""

import torch

from mtl.train.batches import Batches


def trained(benchmark, splits, settings, seed, optimizer, penalty=None, adjust=None, losses=None):
    """The parameters after `settings.steps` steps of equal weighting, by name.

    `optimizer(model)` makes the optimizer; `penalty(model)` is added to the loss; `adjust(model)` changes gradients.
    """
    torch.manual_seed(seed)
    model = benchmark.model(benchmark.tasks, splits.train.first(2)).train()
    stepper, batches = optimizer(model), Batches(splits.train, settings.batch_size, seed)
    for step in range(settings.steps):
        batch = batches[step]
        stepper.zero_grad()
        predictions = model(batch.inputs)
        total = sum(
            (losses or {}).get(task.name, task.loss)(predictions[task.name], batch.targets[task.name])
            for task in benchmark.tasks
        )
        (total if penalty is None else total + penalty(model)).backward()
        if adjust is not None:
            adjust(model)
        stepper.step()
    return {name: value.detach().clone() for name, value in model.named_parameters()}
