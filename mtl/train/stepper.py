"""What makes the steps of runs: models, optimizers and strategies of so many rows, one a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

from torch import Tensor

from mtl.benchmarks.benchmark import Examples
from mtl.train.job import Job
from mtl.train.tally import Measured

#: The parameters and buffers of one row at some time, as its stepper keeps them: tensors that are never written to.
Snapshot = Any

MOST_FRESH = 2  # further training batches that a step may read (`cross`), so that none is read twice
MEASURED = 10  # tells the seed of what a model or a loss draws in an evaluation from those of training


class Stepper(Protocol):
    """The training of some runs of one structure; knows nothing of when they are evaluated and when they end.

    The slow and obvious one holds one row, the vectorised one as many as memory allows. Row i of either is the same
    run, to rounding.
    """

    @property
    def most(self) -> int:
        """Rows that it can hold, were there no limit of memory."""
        ...

    def begin(self, seconds: float) -> bool:
        """Do a piece of what precedes the first step of runs, about so long; whether there was any left to do."""
        ...

    def waiting(self) -> int:
        """Steps of losses that learn before training which have yet to be made, of all rows."""
        ...

    def step(self, steps: Sequence[int], falls: Sequence[int]) -> None:
        """Make one optimizer step with each row, at these steps of their own; all of them or none.

        Args:
            steps: made by each row before.
            falls: of each row's learning rate, where its schedule looks at evaluations.
        """

    def noted(self) -> tuple[list[list[float]], list[list[float | None]]]:
        """Weights and losses of the step just made, by row and task; the loss of an absent task is None."""

    def skipped(self, row: int) -> dict[str, int]:
        """Steps of a row by what was wrong in them."""

    def passes(self, row: int) -> tuple[int, int]:
        """Forward and backward passes of a row so far."""

    def close(self) -> None:
        """End processes that read batches ahead; they begin again at the next step."""

    def sound(self) -> list[bool]:
        """Of which rows the parameters are finite."""

    def stumbled(self) -> list[bool]:
        """Of which rows a loss of the last step was not finite."""

    def measured(self, rows: Sequence[int], split: Examples) -> list[Measured]:
        """Loss and metrics of rows on a split, at their present parameters; at the average of these under `ema`."""

    def measured_at(
        self, rows: Sequence[int], snapshots: Sequence[Snapshot], split: Examples, folds: int = 0
    ) -> list[Measured]:
        """The same at the parameters of snapshots, one a row; `folds` as in `mtl.train.evaluate.measure_members`."""

    def snapshot(self, row: int) -> Snapshot:
        """A copy of the present parameters and buffers of a row; of their average under `ema`."""

    def weights(self, snapshot: Snapshot) -> dict[str, Tensor]:
        """A snapshot as a `state_dict` of the row's model."""

    def select(self, rows: Sequence[int]) -> Self:
        """A stepper of copies of some rows, which shares nothing with this one."""

    def join(self, others: Sequence[Self]) -> Self:
        """A stepper of these rows and those of others of the same structure."""

    def take_over(self, row: int, source: Self, source_row: int) -> None:
        """Give a row the state of one of the same structure; its random numbers, hyperparameters and cost stay."""

    def change(self, jobs: Sequence[Job]) -> None:
        """Give all rows other jobs of the same structure; their state stays."""

    def restructured(self, row: int, job: Job) -> Self:
        """A stepper of a copy of one row with a job of another structure: same parameters and random numbers, and what
        else of its state still has its form.

        Raises:
            ValueError: the parameters do not fit the model of the job.
        """

    def converted(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot of a row from before `restructured`, in the form of those of this stepper."""

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on but the jobs, as tensors and plain values."""

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of a stepper with the same jobs."""
