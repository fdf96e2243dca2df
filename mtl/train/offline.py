"""What learned losses learn before training: on models that are drawn anew, stepped a few times and thrown away."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor, nn

from mtl.losses.learned_loss import LearnedLoss, moved_before
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

PIECE = 2.0  # seconds until who trains may stop, and somebody is told how far it is
_TRAIN, _AHEAD, _MODELS = 9, 10, 11  # beside the streams of batches, augmentation, averages and processes


class LearnedBefore(NamedTuple):
    """What was learned before training, or a piece of that.

    Attributes:
        states: buffers of the losses, on the CPU, by the place of their task.
        forwards: passes through models that it took.
        backwards: the same.
    """

    states: dict[int, dict[str, Tensor]]
    forwards: int
    backwards: int


def learn_before(
    ground: Ground, job: Job, states: Mapping[int, Mapping[str, Tensor]], seconds: float = PIECE
) -> LearnedBefore:
    """The steps of learned losses that precede the training of a run (AdaLFL, algorithm 1), or the first of them.

    Each step draws a model as that of the run is drawn, from a seed of its own, which serves all losses. A step follows
    from the run's seed, data and settings and from how many steps wait, and moves neither the run's random numbers nor
    its batches. Batches are neither moved, mixed nor noisy, and dropout lets everything through.

    Args:
        ground: benchmark, data and device.
        job: the run.
        states: buffers of the losses of which steps wait, by the place of their task.
        seconds: after which no further step is begun; at least one is made.
    """
    losses = {place: _loss_in(job, place, state).to(ground.device) for place, state in states.items()}
    waiting, begun = {place: int(loss.waiting) for place, loss in losses.items()}, time.monotonic()
    drawn, forwards, backwards = _Drawn(ground, job, losses), 0, 0
    try:
        for step in range(max(waiting.values()), 0, -1):
            with Randomness(ground.device, derived_seed(job.member.seed, _MODELS, step)).drawing():
                model = drawn.model()
                lr = job.settings.lr * lookahead_factor(parts_of(model, job.settings.of_heads))
                for place in [place for place, steps in waiting.items() if steps == step]:
                    loss, spec = losses[place], losses[place].spec
                    gradient = gradient_alone(model, loss, drawn.readings(place, step), lr)
                    loss.take(moved_before(loss.state(), gradient, spec.offline_rate))
                    waiting[place] -= 1
                    forwards, backwards = forwards + spec.inner_steps + 1, backwards + 2 * spec.inner_steps + 1
            if time.monotonic() - begun >= seconds:
                break
    finally:
        drawn.close()
    found = {place: {name: value.cpu() for name, value in loss.state().items()} for place, loss in losses.items()}
    return LearnedBefore(found, forwards, backwards)


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
