"""What is wrong with a step's graph, in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from mtl.gradients.graph import Output, leaves


def check_reach(
    losses: Sequence[Output],
    shared: Sequence[Tensor],
    tasks: Sequence[str] | None,
    names: Mapping[int, str],
    *,
    unused: bool,
) -> None:
    """Raise `ValueError` unless each task reaches a shared parameter, and each shared parameter is reached by a task.

    Args:
        losses: those of all tasks.
        shared: the parameters that should be.
        tasks: the tasks' names, if they have any.
        names: those of shared parameters by their ids, if known.
        unused: whether a shared parameter may be reached by no task.
    """
    own = {id(parameter) for parameter in shared}
    reached = [own & {id(leaf) for leaf in leaves([loss])} for loss in losses]
    if not any(reached):
        raise ValueError("no loss depends on any shared parameter: is `shared` the trunk of this model?")
    for task, found in enumerate(reached):
        if not found:
            name = repr(tasks[task]) if tasks else str(task)
            raise ValueError(
                f"the loss of task {name} depends on no shared parameter: leave the task out, or add what it shares "
                "with others to `shared`"
            )
    if unused:
        return
    met = set().union(*reached)
    for at, parameter in enumerate(shared):
        if id(parameter) not in met:
            name = repr(names[id(parameter)]) if id(parameter) in names else f"number {at}"
            raise ValueError(
                f"no loss depends on shared parameter {name}, of shape {tuple(parameter.shape)}: leave it out of "
                "`shared`, freeze it with requires_grad_(False), or say unused='zero' if some steps go past it"
            )
