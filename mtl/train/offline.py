"""What learned losses learn before training: on models that are drawn anew, stepped a few times and thrown away."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from mtl.losses.learned_loss import LearnedLoss, moved, settled
from mtl.train.accumulate import cut
from mtl.train.augment import Augmented
from mtl.train.batches import Batches, derived_seed, micro_batches
from mtl.train.ground import Ground
from mtl.train.job import Job
from mtl.train.learning import learning
from mtl.train.meta_steps import Readings, gradient_alone, read_alone
from mtl.train.model import build_model
from mtl.train.parts import lookahead_factor, parts_of
from mtl.train.surroundings import Randomness

_TRAIN, _AHEAD, _MODELS = 9, 10, 11  # beside the streams of batches, augmentation, averages and processes


class LearnedBefore(NamedTuple):
    """What was learned before training.

    Attributes:
        states: buffers of the losses, on the CPU, by the place of their task.
        forwards: passes through models that it took.
        backwards: the same.
    """

    states: dict[int, dict[str, Tensor]]
    forwards: int
    backwards: int


def learn_before(ground: Ground, job: Job, states: Mapping[int, Mapping[str, Tensor]]) -> LearnedBefore:
    """The steps of learned losses that precede the training of a run (AdaLFL, algorithm 1).

    Each step draws a model as that of the run is drawn, from a seed of its own, which serves all losses. What is
    learned follows from the run's seed, data and settings, and moves neither its random numbers nor its batches.
    Batches are neither moved, mixed nor noisy, and dropout lets everything through.

    Args:
        ground: benchmark, data and device.
        job: the run.
        states: buffers of the losses that are due, by the place of their task.
    """
    losses = {place: _loss_in(job, place, state).to(ground.device) for place, state in states.items()}
    drawn, forwards, backwards = _Drawn(ground, job, losses), 0, 0
    try:
        for step in range(max(loss.spec.offline_steps for loss in losses.values())):
            with Randomness(ground.device, derived_seed(job.member.seed, _MODELS, step)).drawing():
                model = drawn.model()
                lr = job.settings.lr * lookahead_factor(parts_of(model, job.settings.of_heads))
                for place, loss in losses.items():
                    if step < loss.spec.offline_steps:
                        gradient = gradient_alone(model, loss, drawn.readings(place, step), lr)
                        loss.take(moved(loss.state(), gradient, loss.spec.offline_rate))
                        forwards += loss.spec.inner_steps + 1
                        backwards += 2 * loss.spec.inner_steps + 1
    finally:
        drawn.close()
    found = {place: settled(loss.state()) for place, loss in losses.items()}
    on_cpu = {place: {name: value.cpu() for name, value in state.items()} for place, state in found.items()}
    return LearnedBefore(on_cpu, forwards, backwards)


def _loss_in(job: Job, place: int, state: Mapping[str, Tensor]) -> LearnedLoss:
    spec = learning(job.tasks[place])
    assert spec is not None  # as it has a state
    loss = LearnedLoss(spec)
    loss.take(state)
    return loss


class _Drawn:
    """The models and batches of the steps, which follow from the run's seed and the number of the step.

    Args:
        ground: benchmark, data and device.
        job: the run.
        losses: by the place of their task.
    """

    def __init__(self, ground: Ground, job: Job, losses: Mapping[int, LearnedLoss]) -> None:
        settings, splits = job.settings, ground.splits
        self._ground, self._job, self._losses = ground, job, losses
        self._most = max(loss.spec.inner_steps for loss in losses.values())
        self._train, self._ahead = (
            Batches(split, settings.batch_size, job.member.seed, stream, settings.sampling)
            for split, stream in ((splits.train, _TRAIN), (splits.validation, _AHEAD))
        )
        self._cuts = micro_batches(settings.accumulate, self._train.sizes)

    def model(self) -> nn.Module:
        """A new model, drawn from torch's global generators."""
        ground, job = self._ground, self._job
        return build_model(ground.benchmark, job.tasks, ground.splits.train.first(2), job.settings).to(ground.device)

    def readings(self, place: int, step: int) -> Readings:
        """What the loss of a task is read on in a step."""
        spec, task = self._losses[place].spec, self._job.tasks[place].name
        here = [self._part(self._train, self._most * step + inner) for inner in range(spec.inner_steps)]
        there = self._part(self._ahead, step) if spec.on == "validation" else here[-1]
        return Readings(task, self._ground.own, [read_alone(each, task) for each in here], read_alone(there, task))

    def _part(self, batches: Batches, number: int) -> Augmented:
        """As much of a batch as goes through the model at once."""
        batch = batches[number]
        return cut(Augmented(batch), min(self._cuts, len(batch)))[0]

    def close(self) -> None:
        """End processes that read batches ahead."""
        self._train.close()
        self._ahead.close()
