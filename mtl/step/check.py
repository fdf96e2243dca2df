"""A batch's losses and their graph, looked at before anything is measured: what is missing, and what cannot be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mtl.gradients.checks import check_reach
from mtl.step.collect import Collected
from mtl.step.setup import Setup
from mtl.step.tally import DomainWatch


class BatchCheck:
    """Counts what is wrong with the losses of each step, and checks the graph of the first whole one.

    Args:
        setup: of the balancer.
        names: those of shared parameters by their ids, if known.
        unused: whether a shared parameter may be reached by no task.
    """

    def __init__(self, setup: Setup, names: Mapping[int, str], *, unused: bool) -> None:
        self.watch = DomainWatch(setup.strategy)
        self._setup, self._names, self._unused = setup, names, unused
        self._checked = False

    def __call__(self, batch: Collected, tasks: Sequence[str] | None) -> bool:
        """Look at the losses of a step.

        Args:
            batch: the losses.
            tasks: the names of all tasks, if they have any.

        Returns:
            Whether the strategy may see the step.

        Raises:
            ValueError: the graph is not one of these tasks on these parameters, or processes of a data-parallel run
                begin with some of the tasks only.
        """
        setup, tally = self._setup, self._setup.tally
        self.watch.see(batch.values, tasks, look=setup.host_checks)
        if batch.absent:
            tally.add("absent_task")
        if not setup.host_checks:
            there = batch.values[batch.tasks] if batch.absent else batch.values
            tally.add("nonfinite_loss", ~there.isfinite().all())
        elif len(batch.tasks) + batch.absent < batch.values.shape[0]:
            tally.add("nonfinite_loss")
        if batch.whole and not self._checked:
            if not setup.sharded:  # whose graph ends at parameters that are whole for the length of a pass
                check_reach(batch.present, setup.leaves.trained, tasks, self._names, unused=self._unused)
            self._checked = True
        # Where the host looks, the processes have agreed on the tasks that are there.
        if not self._checked and setup.ranks is not None and not setup.host_checks:
            raise ValueError(
                "the first step of a data-parallel run must have a finite loss for every task in every process: only "
                "then is it known whose gradients to average"
            )
        return batch.whole or (setup.subset and bool(batch.tasks))
