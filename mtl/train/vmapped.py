"""Runs of one structure made side by side by a `Population`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from mtl.benchmarks.apart import weighed_losses
from mtl.benchmarks.benchmark import Examples, Task
from mtl.benchmarks.tree import floating_dtype
from mtl.population.compiled import CompiledForward, compiling
from mtl.population.members import KINDS
from mtl.population.population import Population
from mtl.population.program import members_of
from mtl.population.strategies import structure, substituted
from mtl.population.values import PENALTIES
from mtl.train.average import copied, follow
from mtl.train.averaged import renewing_batches, renewing_inputs
from mtl.train.evaluate import CHUNK, measure_members
from mtl.train.feed import Feed
from mtl.train.ground import Ground
from mtl.train.job import Job
from mtl.train.learning import (
    buffer_name,
    in_place_of,
    learned_losses,
    learning,
    training_tasks,
    with_learned,
    with_lost,
)
from mtl.train.meta_steps import BACKWARDS, FORWARDS, rates_of, step_of_rows
from mtl.train.model import build_model, dropouts, predictions
from mtl.train.offline import learn_before
from mtl.train.parts import Part, differ, parts_of, values_of
from mtl.train.precision import lower
from mtl.train.stepper import MEASURED, MOST_FRESH, Snapshot
from mtl.train.surroundings import seeded
from mtl.train.tally import Measured

_FEWEST = 128
_DRAWN = 9  # tells the seeds of what a step draws for all rows from those of batches
_EXACT, _LOWER = 1e-3, 0.05  # how far the gradient of a compiled program may differ, in full and in lower precision


class Vmapped:
    """A stepper of many rows.

    Args:
        ground: benchmark, data and device.
        jobs: of one structure.
    """

    most = 2**31

    def __init__(self, ground: Ground, jobs: Sequence[Job]) -> None:
        first, inputs = jobs[0], ground.splits.train.first(2)
        population = Population(
            lambda: with_learned(build_model(ground.benchmark, first.tasks, inputs, first.settings), first.tasks),
            _Losses(first.tasks, first.losses, own=ground.own),
            [job.strategy for job in jobs],
            [job.member.seed for job in jobs],
            optimizer=first.optimizer.name,
            head_weighting=first.settings.head_weighting,
            scale=first.settings.scale,
            steps_per_epoch=first.per_epoch,
            dropout=[dropouts(job.settings, job.tasks) for job in jobs],
            device=ground.device,
            **_values(jobs, None),
        )
        population.set_values(**_values(jobs, _parts_by_tensor(population, jobs)))
        population.begin(len(first.losses), floating_dtype(inputs))
        population.tasks = list(first.losses)
        if first.settings.compile:
            population.compiled = CompiledForward(_EXACT if first.settings.amp == "off" else _LOWER)
        if first.settings.averages:  # a part of the population's state, which moves with its members
            population.state["average"] = _averaged(population.state)
        self._open(ground, population, jobs)

    @classmethod
    def _of(cls, ground: Ground, population: Population, jobs: Sequence[Job]) -> Vmapped:
        stepper = cls.__new__(cls)
        stepper._open(ground, population, jobs)
        return stepper

    def _open(self, ground: Ground, population: Population, jobs: Sequence[Job]) -> None:
        splits, settings = ground.splits, jobs[0].settings
        aligned_on = splits.validation if settings.align_data == "validation" else splits.train
        self.ground, self.population, self.jobs = ground, population, list(jobs)
        assert isinstance(population.losses, _Losses)
        tasks, missing = population.losses.tasks, ground.missing
        self._train = Feed(splits.train, self.jobs, tasks, 0, augmented=True, missing=missing)
        self._align = Feed(aligned_on, self.jobs, tasks, 1, augmented=False, missing=missing)
        self._fresh = Feed(splits.train, self.jobs, tasks, 2, augmented=False, missing=missing)
        self._renewing = renewing_batches(jobs[0], population.program.model, splits.train)
        self._steady = all(job.steady for job in jobs)
        self._rates = rates_of([job.tasks for job in jobs], population.state["parameters"])

    def begin(self, seconds: float) -> bool:
        """Let losses learn that do so before training, of one row after another."""
        fixed, held = self.population.state["fixed"], learned_losses(self.population.program.model)
        waiting = {place: fixed[buffer_name(place, "waiting")].flatten().tolist() for place in held}
        row = next((row for row in range(len(self.jobs)) if any(steps[row] for steps in waiting.values())), None)
        if row is None:
            return False
        due = {
            place: {name: fixed[buffer_name(place, name)][row] for name in held[place].state()}
            for place, steps in waiting.items()
            if steps[row]
        }
        found = learn_before(self.ground, self.jobs[row], due, seconds)
        for place, state in found.states.items():
            for name, value in state.items():
                of_rows = fixed[buffer_name(place, name)].clone()
                of_rows[row] = value
                fixed[buffer_name(place, name)] = of_rows
        self.population.counts["forward"][row] += found.forwards
        self.population.counts["backward"][row] += found.backwards
        return True

    def waiting(self) -> int:
        """Steps that losses have yet to make before training."""
        fixed = self.population.state["fixed"]
        held = learned_losses(self.population.program.model)
        return sum(int(fixed[buffer_name(place, "waiting")].sum()) for place in held)

    def step(self, steps: Sequence[int], falls: Sequence[int]) -> None:
        """One optimizer step of every row; where memory runs out, none is made."""
        if not self._steady:
            factors = [job.factor(*each) for job, *each in zip(self.jobs, steps, falls, strict=True)]
            self.population.set_values(lr_factor=factors)
        averages = self.jobs[0].settings.averages
        shares = [job.share(step) for job, step in zip(self.jobs, steps, strict=True)] if averages else []
        share = torch.tensor(shares, dtype=torch.float64).to(self.ground.device)
        batch = self._train.take(steps)
        fresh = iter(range(MOST_FRESH))

        def another() -> dict[str, Any]:
            number = next(fresh)
            return self._fresh.take([MOST_FRESH * step + number for step in steps])

        self._absent: Tensor | None = batch.get("absent")
        learned = self._steps_of_losses(batch, lambda: self._align.take(steps))
        compiled = compiling("a population") if self.population.compiled is not None else nullcontext()
        # What a population does not draw for each member, such as random numbers of a user's loss, comes from the
        # global generators. Those begin anew at each step, so that a run that is resumed draws what it would have.
        drawn = seeded(self.ground.device, self.jobs[0].member.seed, _DRAWN, *steps[:1])
        # A population makes its forward passes in lower precision itself.
        with compiled, drawn, lower(self.jobs[0].settings, self.ground.device):
            self._losses = self.population.step(
                batch, validation=lambda: self._align.take(steps), fresh=another, absent=self._absent
            )
        self.population.state["fixed"] |= learned
        for name, passes in (("forward", FORWARDS), ("backward", BACKWARDS)) if learned else ():
            self.population.counts[name] += passes * len(self._rates)
        if averages:
            self._follow(share)

    def _steps_of_losses(self, batch: Mapping[str, Any], ahead: Callable[[], Mapping[str, Any]]) -> dict[str, Tensor]:
        """The buffers of the losses that are learned, after their steps."""
        if not self._rates:
            return {}
        return step_of_rows(self.population, self.jobs[0].tasks, self._rates, batch, ahead, own=self.ground.own)

    def _follow(self, share: Tensor) -> None:
        """Move the average of each row towards its present parameters."""
        average, state = self.population.state["average"], self.population.state
        follow({"parameters": average["parameters"]}, {"parameters": state["parameters"]}, share)
        follow(average["fixed"], state["fixed"], share)
        average["begun"] = share < 1

    def _renew(self) -> None:
        """Gather the running statistics of batch normalisation anew, of rows whose average is that of several steps."""
        if self._renewing is None or not bool((begun := self.population.state["average"]["begun"]).any()):
            return
        average, batches = self.population.state["average"], self._renewing
        inputs = renewing_inputs(batches)
        found = self.population.program.statistics(average["parameters"], average["fixed"], inputs)
        for name, value in average["fixed"].items():
            mask = begun.reshape(-1, *[1] * (value.ndim - 1))
            average["fixed"][name] = torch.where(mask, found[name], value)

    @property
    def _shown(self) -> Mapping[str, Any]:
        """Parameters (N, P) and buffers as they are evaluated and kept: the present ones, or their average."""
        shown: Mapping[str, Any] = self.population.state.get("average", self.population.state)
        return shown

    def noted(self) -> tuple[list[list[float]], list[list[float | None]]]:
        """Weights and losses of the step just made, by row and task."""
        weights = self.population.weights
        losses: list[list[float | None]] = self._losses.tolist()
        if self._absent is not None:
            absent = self._absent.tolist()
            losses = [
                [None if gone else loss for loss, gone in zip(*both, strict=True)]
                for both in zip(losses, absent, strict=True)
            ]
        return (weights.mean(2) if weights.ndim == 3 else weights).tolist(), losses

    def skipped(self, row: int) -> dict[str, int]:
        """Steps of a row by what was wrong in them."""
        counts, fixed = self.population.counts, self.population.state["fixed"]
        held = learned_losses(self.population.program.model)
        lost = sum(int(fixed[buffer_name(place, "lost")][row]) for place in held)
        return with_lost({kind: int(counts[kind][row]) for kind in KINDS if counts[kind][row]}, lost)

    def passes(self, row: int) -> tuple[int, int]:
        """Forward and backward passes of a row so far."""
        counts = self.population.counts
        return int(counts["forward"][row]), int(counts["backward"][row])

    def close(self) -> None:
        """End processes that read batches ahead; they begin again at the next step."""
        for feed in (self._train, self._align, self._fresh, self._renewing):
            if feed is not None:
                feed.close()

    def sound(self) -> list[bool]:
        """Of which rows the parameters are finite."""
        sound: list[bool] = self.population.state["parameters"].isfinite().all(1).tolist()
        return sound

    def stumbled(self) -> list[bool]:
        """Of which rows a loss of the last step was not finite."""
        stumbled: list[bool] = self.population.state["finite"].logical_not().tolist()
        return stumbled

    # --- evaluation ------------------------------------------------------------------------------------------------

    def measured(self, rows: Sequence[int], split: Examples) -> list[Measured]:
        """Loss and metrics of rows on a split, at their present parameters or the average of these."""
        self._renew()
        state = self._shown
        if len(rows) == len(self.jobs):
            return self._measured(rows, state["parameters"], state["fixed"], split)
        index = torch.tensor(rows, device=self.ground.device)
        return self._measured(rows, state["parameters"][index], members_of(state["fixed"], index), split)

    def measured_at(
        self, rows: Sequence[int], snapshots: Sequence[Snapshot], split: Examples, folds: int = 0
    ) -> list[Measured]:
        """The same at the parameters of snapshots, one a row."""
        parameters = torch.stack([parameters for parameters, _ in snapshots])
        fixed = {name: torch.stack([each[name] for _, each in snapshots]) for name in self.population.program.fixed}
        return self._measured(rows, parameters, fixed, split, folds)

    def _measured(
        self, rows: Sequence[int], parameters: Tensor, fixed: Mapping[str, Tensor], split: Examples, folds: int = 0
    ) -> list[Measured]:
        """The same at parameters (N, P) and buffers; where memory runs out, for half of the rows at a time."""
        try:
            return self._measured_at_once(rows, parameters, fixed, split, folds)
        except torch.OutOfMemoryError:
            half = len(rows) // 2
            if not half:
                raise
        torch.cuda.empty_cache()
        found: list[Measured] = []
        for some in (slice(half), slice(half, None)):
            found += self._measured(rows[some], parameters[some], members_of(fixed, some), split, folds)
        return found

    def _measured_at_once(
        self, rows: Sequence[int], parameters: Tensor, fixed: Mapping[str, Tensor], split: Examples, folds: int
    ) -> list[Measured]:
        predict_each = partial(predictions, own=self.ground.own)

        def predict(inputs: Any) -> dict[str, Tensor]:
            return self.population.program.evaluate(predict_each, parameters, fixed, inputs)  # type: ignore[no-any-return]

        size = max(CHUNK // len(rows), _FEWEST)
        with seeded(self.ground.device, self.jobs[rows[0]].member.seed, MEASURED):
            return measure_members([self.jobs[row].tasks for row in rows], split, predict, size, folds)

    def snapshot(self, row: int) -> Snapshot:
        """A copy of the present parameters (P,) and buffers of a row, or of their average."""
        state = self._shown
        return [state["parameters"][row].clone(), {name: value[row].clone() for name, value in state["fixed"].items()}]

    def weights(self, snapshot: Snapshot) -> dict[str, Tensor]:
        """A snapshot as a `state_dict` of the row's model, with the learned losses that it holds."""
        return self.population.program.state_dict(*snapshot)

    # --- exploit and explore ---------------------------------------------------------------------------------------

    def select(self, rows: Sequence[int]) -> Vmapped:
        """A stepper of copies of some rows, which shares nothing with this one."""
        return Vmapped._of(self.ground, self.population.select(rows), [self.jobs[row] for row in rows])

    def join(self, others: Sequence[Vmapped]) -> Vmapped:
        """A stepper of these rows and those of others of the same structure."""
        every = [self, *others]
        population = Population.join([each.population for each in every])
        return Vmapped._of(self.ground, population, [job for each in every for job in each.jobs])

    def take_over(self, row: int, source: Vmapped, source_row: int) -> None:
        """Give a row the state of one of the same structure; its random numbers, hyperparameters and cost stay."""
        self.population.copy_member(source.population, source_row, row)

    def change(self, jobs: Sequence[Job]) -> None:
        """Give all rows other jobs of the same structure; their state stays."""
        self.population.read_after()  # while losses and dropout are those of that step
        self.population.set_strategies([job.strategy for job in jobs])
        self.population.set_values(lr_factor=1.0, **_values(jobs, _parts_by_tensor(self.population, jobs)))
        self.population.dropout = [dropouts(job.settings, job.tasks) for job in jobs]
        self.jobs = list(jobs)
        self._steady = all(job.steady for job in jobs)
        self._rates = rates_of([job.tasks for job in jobs], self.population.state["parameters"])
        for feed in (self._train, self._align, self._fresh):
            feed.change(self.jobs)

    def restructured(self, row: int, job: Job) -> Vmapped:
        """A stepper of a copy of one row with a job of another structure."""
        before, source, moved = self.jobs[row], self.select([row]), Vmapped(self.ground, [job])
        state = moved.population.state
        shown = in_place_of(state["fixed"], source._shown["fixed"])
        source.population.state["fixed"] = in_place_of(state["fixed"], source.population.state["fixed"])
        moved.population.adopt(
            source.population,
            optimizer=before.optimizer.name == job.optimizer.name,
            strategy=structure(before.strategy) == structure(job.strategy),
        )
        if "average" in state:
            state["average"] = _averaged({"parameters": source._shown["parameters"], "fixed": shown})
            if "average" in source.population.state:
                state["average"]["begun"] = source.population.state["average"]["begun"].clone()
        return moved

    def converted(self, snapshot: Snapshot) -> Snapshot:
        """The snapshot of a row from before `restructured`, in the form of those of this stepper."""
        parameters, fixed = snapshot
        own = {name: value[0] for name, value in self.population.state["fixed"].items()}
        return [parameters, copied(in_place_of(own, fixed))]

    # --- checkpoint ------------------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on but the jobs."""
        return self.population.state_dict()

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()`."""
        self.population.load_state_dict(saved)


class _Losses:
    """The losses of a model on one row's batch, as a `Feed` gives it; runs under `vmap`."""

    def __init__(self, tasks: Sequence[Task], losses: Mapping[str, str], *, own: bool) -> None:
        self.tasks, self._losses, self._own = tasks, losses, own

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        predicted = predictions(model, batch["inputs"], own=self._own)
        tasks = training_tasks(model, [_with_values(task, batch["parameters"].get(task.name)) for task in self.tasks])
        losses = self._against(tasks, predicted, batch["targets"])
        if "partner" in batch:
            others = self._against(tasks, predicted, batch["partner"])
            share = {name: batch["share"][task] for name, task in self._losses.items()}
            losses = {name: share[name] * loss + (1 - share[name]) * others[name] for name, loss in losses.items()}
        if "absent" in batch:
            absent = dict(zip(losses, batch["absent"].unbind(), strict=True))
            losses = {name: torch.where(absent[name], torch.nan, loss) for name, loss in losses.items()}
        return losses

    @staticmethod
    def _against(
        tasks: Sequence[Task], predictions: Mapping[str, Tensor], targets: Mapping[str, Tensor]
    ) -> dict[str, Tensor]:
        return {name: loss.reshape(()) for name, loss in weighed_losses(tasks, predictions, targets).items()}


def _with_values(task: Task, values: Mapping[str, Tensor] | None) -> Task:
    """A task with one member's parameters of its loss; those of a loss that is learned are no part of it."""
    return replace(task, loss=substituted(task.loss, values)) if values and learning(task) is None else task


def _averaged(state: Mapping[str, Any]) -> dict[str, Any]:
    """The average where it begins at parameters and buffers."""
    none = torch.zeros(len(state["parameters"]), dtype=torch.bool, device=state["parameters"].device)
    return {"parameters": state["parameters"].clone(), "fixed": copied(state["fixed"]), "begun": none}


def _parts_by_tensor(population: Population, jobs: Sequence[Job]) -> dict[str, Part]:
    """The part that each tensor of a member belongs to, in their order."""
    apart = dict.fromkeys(task for job in jobs for task in job.settings.of_heads)
    parts = parts_of(population.program.model, apart)
    return {name: parts[name] for name in population.program.names}


def _values(jobs: Sequence[Job], parts: Mapping[str, Part] | None) -> dict[str, Any]:
    """The settings of optimizer and regularization by name, one a row: a number, or one for each tensor.

    Args:
        jobs: one a row.
        parts: of the tensors; None for the settings of a trunk.
    """
    each = [_values_of(job, parts) for job in jobs]
    return {name: [values[name] for values in each] for name in each[0]}


def _values_of(job: Job, parts: Mapping[str, Part] | None) -> dict[str, Any]:
    settings = job.settings
    values = job.optimizer.values(settings.lr, settings.weight_decay, settings.momentum)
    values |= {name: getattr(settings, name) for name in ("clip", "clip_value", *PENALTIES)}
    if parts is None or not differ(settings, parts):
        return values
    kinds = {part: values_of(settings, part) for part in set(parts.values())}
    return values | {
        name: [kinds[part][name] for part in parts.values()] for name in ("lr", "weight_decay", "l1", "l2")
    }
