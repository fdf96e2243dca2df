"""One run from its beginning to its end: a cohort of one, which goes on from its checkpoint."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from mtl.benchmarks.benchmark import Benchmark, Splits, Task
from mtl.strategies import make
from mtl.strategies.strategy import Strategy
from mtl.train import checkpoint
from mtl.train.cohort import Cohort
from mtl.train.loop import never, nothing, train_to_the_end
from mtl.train.member import Member
from mtl.train.outcome import Result
from mtl.train.settings import Settings


def train(
    benchmark: Benchmark,
    splits: Splits,
    strategy: str | Strategy,
    settings: Settings,
    *,
    seed: int = 0,
    tasks: Sequence[Task] | None = None,
    device: torch.device | str = "cpu",
    checkpoint_path: Path | None = None,
    progress: Callable[[int, int], None] = nothing,
    observe: Callable[[int, dict[str, float]], None] = nothing,
    should_stop: Callable[[], bool] = never,
    tell: Callable[[str], None] = print,
) -> Result:
    """Train one model and test its best checkpoint.

    What torch keeps for the whole process, its generators and its number of threads, neither matters nor changes.

    Args:
        benchmark: gives the model and, unless `tasks` says otherwise, the tasks.
        splits: its data.
        strategy: a strategy or its spec.
        settings: everything else about the run.
        seed: of the parameters, the batches and the strategy's noise; runs with equal seeds share all three.
        tasks: a subset, for single-task baselines.
        device: where to train.
        checkpoint_path: written at each evaluation, and where the last is `checkpoint_minutes` old; when it exists
            already, the run continues from it, bit for bit, or starts over where it is damaged.
        progress: called with (steps done, steps in all) after each step.
        observe: called with (step, curve values by name) at each logged step and evaluation.
        should_stop: asked before each step.
        tell: called with what a user should know.

    Raises:
        Stopped: `should_stop` said so.
        ValueError: the checkpoint is of another strategy, seed or version.
        OSError: a checkpoint cannot be read or written.
    """
    cohort = Cohort(
        benchmark,
        splits,
        [Member(make(strategy), seed)],
        settings,
        tasks=tasks,
        device=device,
        vectorised=False,
        tell=tell,
        observe=None if observe is nothing else lambda _number, step, values: observe(step, values),
    )
    if checkpoint_path is not None:
        _continue(cohort, checkpoint_path, tell)

    def save() -> None:
        if checkpoint_path is not None:
            checkpoint.save(checkpoint_path, cohort.state_dict())

    train_to_the_end(cohort, save, progress, should_stop)
    (found,) = cohort.results()
    found.weights = cohort.weights(0)
    return found


def _continue(cohort: Cohort, path: Path, tell: Callable[[str], None]) -> None:
    """From the checkpoint, if there is one that can be read."""
    try:
        saved = checkpoint.load(path)
    except checkpoint.Damaged as damage:
        tell(f"{damage}: the run starts over")
        return
    if saved is None:
        return
    wanted = [member.plain() for member in cohort.members]
    if "groups" in saved and saved["members"] != wanted:
        theirs, ours = (f"{each['strategy']} with seed {each['seed']}" for each in (saved["members"][0], wanted[0]))
        raise ValueError(f"checkpoint {path} is of {theirs}, and {ours} is to be trained")
    cohort.load_state_dict(saved)
