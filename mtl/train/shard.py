"""Members of one structure on one benchmark: a `Population` with the batches, schedules and records of its runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from mtl.benchmarks.benchmark import Benchmark, Examples, Splits, Task
from mtl.benchmarks.losses import fitted_tasks
from mtl.benchmarks.tree import floating_dtype
from mtl.losses import loss_of
from mtl.population.members import KINDS
from mtl.population.population import Population
from mtl.population.program import members_of
from mtl.population.strategies import structure, substituted
from mtl.train.evaluate import Measured, Metrics, measure, selection, undefined
from mtl.train.feed import Feed
from mtl.train.member import Evaluation, Resolved
from mtl.train.outcome import bad_steps, outcome
from mtl.train.record import Record
from mtl.train.references import references
from mtl.train.trainer import MOST_FRESH, Result, build_model, labels_missing, peak_memory

_CHUNK = 4096  # examples of an evaluation at once, over all members
_FEWEST = 128


@dataclass
class Slot:
    """One member's run.

    Attributes:
        who: the member.
        record: its curves and its best evaluation.
        best: parameters (P,) and buffers of that evaluation.
    """

    who: Resolved
    record: Record
    best: tuple[Tensor, dict[str, Tensor]]

    def copy(self) -> Slot:
        """Another slot in the same state; tensors of an evaluation are never written to."""
        return Slot(self.who, self.record.copy(), self.best)


@dataclass(frozen=True)
class _Made:
    """A step: its losses (N, K), which tasks were absent, and the seconds that it took, a member."""

    losses: Tensor
    absent: Tensor | None
    seconds: float


@dataclass(frozen=True)
class Setting:
    """What all members of a cohort have in common.

    Attributes:
        told: whoever drives the cohort decides when members are evaluated and which evaluation is a member's best.
    """

    benchmark: Benchmark
    splits: Splits
    tasks: Sequence[Task]
    device: torch.device
    reference: Metrics = field(repr=False, default_factory=dict)
    told: bool = False

    @classmethod
    def of(
        cls, benchmark: Benchmark, splits: Splits, tasks: Sequence[Task], device: torch.device, *, told: bool = False
    ) -> Setting:
        """With the metrics of the best constant prediction, that the skill score refers to."""
        splits = splits.to(device)
        tasks = fitted_tasks(tasks, splits.train)
        return cls(benchmark, splits, tasks, device, references(tasks, splits.train, splits.validation)[0], told)


class Shard:
    """Runs side by side.

    Args:
        setting: benchmark, data and device.
        members: of one structure.
    """

    vmapped = True

    def __init__(self, setting: Setting, members: Sequence[Resolved]) -> None:
        self.setting = setting
        splits, first = setting.splits, members[0]
        torch.set_num_threads(first.settings.threads)
        inputs = splits.train.first(2)
        rates = [each.settings.dropout for each in members]
        self.population = Population(
            lambda: build_model(setting.benchmark, first.tasks, inputs, first.settings),
            _Losses(first.tasks),
            [each.strategy for each in members],
            [each.member.seed for each in members],
            optimizer=first.settings.optimizer,
            head_weighting=first.settings.head_weighting,
            scale=first.settings.scale,
            dropout=None if None in rates else rates,  # type: ignore[arg-type]
            device=setting.device,
            **_values(members),
        )
        self._open(members)
        self.population.steps_per_epoch = self._train.per_epoch
        self.population.begin(len(setting.tasks), floating_dtype(inputs))
        names = [task.name for task in setting.tasks]
        self.population.tasks = names
        self.slots = []
        for row, each in enumerate(members):
            record = Record(names, each.settings.length(self._train.per_epoch), each.settings.patience)
            self.slots.append(Slot(each, record, self._snapshot(row)))

    @classmethod
    def _of(cls, setting: Setting, population: Population, slots: list[Slot]) -> Shard:
        shard = cls.__new__(cls)
        shard.setting, shard.population, shard.slots = setting, population, slots
        shard._open([slot.who for slot in slots])
        return shard

    def select(self, rows: Sequence[int]) -> Shard:
        """The runs at `rows`, to go on by themselves; they share nothing with this shard."""
        return Shard._of(self.setting, self.population.select(rows), [self.slots[row].copy() for row in rows])

    @staticmethod
    def join(shards: Sequence[Shard]) -> Shard:
        """The runs of several shards of one structure, to go on together."""
        population = Population.join([shard.population for shard in shards])
        return Shard._of(shards[0].setting, population, [slot for shard in shards for slot in shard.slots])

    def _open(self, members: Sequence[Resolved]) -> None:
        splits, first = self.setting.splits, members[0].settings
        missing = labels_missing(splits.train, members[0].tasks)
        aligned_on = splits.validation if first.align_data == "validation" else splits.train
        self._train = Feed(splits.train, members, 0, augmented=True, missing=missing)
        self._align = Feed(aligned_on, members, 1, augmented=False, missing=missing)
        self._fresh = Feed(splits.train, members, 2, augmented=False, missing=missing)
        self._steady = all(each.settings.schedule == "constant" and not each.settings.warmup for each in members)

    # --- one step --------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One optimizer step of every member; where memory runs out, none is made.

        `conclude` is to follow.
        """
        started = time.perf_counter()
        steps = [slot.record.step for slot in self.slots]
        if not self._steady:
            factors = [slot.who.settings.factor(slot.record.step, slot.record.total) for slot in self.slots]
            rates = [slot.who.settings.lr * factor for slot, factor in zip(self.slots, factors, strict=True)]
            self.population.set_values(lr=rates)
        batch = self._train.take(steps)
        fresh = iter(range(MOST_FRESH))

        def another() -> dict[str, Any]:
            number = next(fresh)
            return self._fresh.take([MOST_FRESH * step + number for step in steps])

        losses = self.population.step(
            batch, validation=lambda: self._align.take(steps), fresh=another, absent=batch.get("absent")
        )
        self._made = _Made(losses, batch.get("absent"), (time.perf_counter() - started) / len(self.slots))

    def conclude(self) -> None:
        """Note the step just made, and make the evaluations that fall on its end."""
        self._log(self._made.losses, self._made.absent)
        for slot in self.slots:
            slot.record.step += 1
            slot.record.seconds += self._made.seconds
        due = [row for row, slot in enumerate(self.slots) if self._at_evaluation(slot)]
        if due and not self.setting.told:
            self._evaluate(due)

    def _log(self, losses: Tensor, absent: Tensor | None) -> None:
        if not any(slot.record.due() for slot in self.slots):
            return
        weights = self.population.weights
        per_task = (weights.mean(2) if weights.ndim == 3 else weights).tolist()
        lacking = absent.tolist() if absent is not None else None
        for row, values in enumerate(losses.tolist()):
            slot = self.slots[row]
            if slot.record.due():
                if lacking is not None:
                    values = [None if gone else x for x, gone in zip(values, lacking[row], strict=True)]
                slot.record.log(per_task[row], values, bad_steps(self._skipped(row)))

    def _at_evaluation(self, slot: Slot) -> bool:
        stretch = self._train.per_epoch * slot.who.settings.evaluate_every
        return slot.record.step % stretch == 0 or slot.record.step >= slot.record.total

    def finished(self, row: int) -> bool:
        """Whether a member has nothing left to do."""
        record = self.slots[row].record
        ended = record.stopped_early or bool(record.failure)
        return record.step >= record.total or ended or record.bad_steps > self.slots[row].who.settings.nan_limit

    def fail(self, reason: str) -> None:
        """No member can go on."""
        for slot in self.slots:
            slot.record.failure = reason

    def any_finished(self) -> bool:
        """Whether some member has nothing left to do."""
        return any(self.finished(row) for row in range(len(self.slots)))

    def _skipped(self, row: int) -> dict[str, int]:
        """Steps of a member by what was wrong in them."""
        counts = self.population.counts
        return {kind: int(counts[kind][row]) for kind in KINDS if counts[kind][row]}

    # --- exploit and explore ---------------------------------------------------------------------------------------

    def exploit(self, target: int, source: Shard, row: int, *, best: bool) -> None:
        """Give a run the state of one of the same structure, and with `best` its best evaluation so far."""
        self.population.copy_member(source.population, row, target)
        mine, theirs = self.slots[target], source.slots[row]
        mine.record.go_on_from(theirs.record)
        if best:
            mine.best = theirs.best
            mine.record.follow(theirs.record)

    def replace(self, changes: Mapping[int, Resolved]) -> None:
        """Give runs other continuous settings of the same structure."""
        for row, who in changes.items():
            self.slots[row].who = who
        members = [slot.who for slot in self.slots]
        self.population.set_strategies([each.strategy for each in members])
        self.population.set_values(**_values(members))
        if self.population.dropout is not None:
            self.population.dropout = [each.settings.dropout for each in members]  # type: ignore[misc]
        self._open(members)

    def restructured(self, row: int, who: Resolved) -> Shard:
        """A run with settings of another structure: same parameters, and what else of its state still has its form."""
        before = self.slots[row].who
        moved = Shard(self.setting, [who])
        moved.population.adopt(
            self.population.select([row]),
            optimizer=before.settings.optimizer == who.settings.optimizer,
            strategy=structure(before.strategy) == structure(who.strategy),
        )
        record = self.slots[row].record
        record.total, record.patience = moved.slots[0].record.total, moved.slots[0].record.patience
        moved.slots = [Slot(who, record, self.slots[row].best)]
        return moved

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on, but the members."""
        slots = [{"record": slot.record.state(), "best": list(slot.best)} for slot in self.slots]
        return {"population": self.population.state_dict(), "slots": slots}

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue from `state_dict()` of a shard with the same members."""
        self.population.load_state_dict(saved["population"])
        for slot, old in zip(self.slots, saved["slots"], strict=True):
            slot.record.load(old["record"])
            slot.best = (old["best"][0], old["best"][1])

    # --- evaluation ------------------------------------------------------------------------------------------------

    def _evaluate(self, rows: Sequence[int]) -> None:
        for row, found in zip(rows, self._measured(rows), strict=True):
            record = self.slots[row].record
            record.failure = record.failure or found.failure
            if record.evaluated(found.losses, found.metrics, self._score(found)):
                self.slots[row].best = self._snapshot(row)

    def _measured(self, rows: Sequence[int]) -> list[Measured]:
        """Members at their present parameters, on validation data."""
        state = self.population.state
        index = torch.tensor(rows, device=self.setting.device)
        whole = len(rows) == len(self.slots)
        parameters = state["parameters"] if whole else state["parameters"][index]
        fixed = state["fixed"] if whole else members_of(state["fixed"], index)
        members = [self.slots[row].who for row in rows]
        return self.on_split(members, parameters, fixed, self.setting.splits.validation)

    def _score(self, found: Measured) -> float:
        return selection(self.setting.tasks, found.metrics, self.setting.reference)

    def on_split(
        self, members: Sequence[Resolved], parameters: Tensor, fixed: Mapping[str, Tensor], split: Examples
    ) -> list[Measured]:
        """Loss and metrics of each task over a whole split, for each row of parameters.

        Where memory runs out, for half of them at a time.
        """
        try:
            return self._on_split(members, parameters, fixed, split)
        except torch.OutOfMemoryError:
            half = len(members) // 2
            if not half:
                raise
        torch.cuda.empty_cache()
        found: list[Measured] = []
        for rows in (slice(half), slice(half, None)):
            found += self.on_split(members[rows], parameters[rows], members_of(fixed, rows), split)
        return found

    def _on_split(
        self, members: Sequence[Resolved], parameters: Tensor, fixed: Mapping[str, Tensor], split: Examples
    ) -> list[Measured]:
        pieces: dict[str, list[Tensor]] = {task.name: [] for task in self.setting.tasks}
        size = max(_CHUNK // len(members), _FEWEST)
        for chunk in split.chunks(size):
            predictions = self.population.program.evaluate(_predict, parameters, fixed, chunk.inputs)
            for name, kept in pieces.items():
                kept.append(predictions[name])
        every = {name: torch.cat(parts, 1) for name, parts in pieces.items()}
        found = []
        for row, each in enumerate(members):
            own = {name: prediction[row] for name, prediction in every.items()}
            found.append(measure(each.tasks, own, split))
        return found

    def _snapshot(self, row: int) -> tuple[Tensor, dict[str, Tensor]]:
        state = self.population.state
        return state["parameters"][row].clone(), {name: value[row].clone() for name, value in state["fixed"].items()}

    def remember(self, row: int) -> None:
        """The present parameters of a member, evaluated just now, are its best."""
        slot = self.slots[row]
        slot.record.remember(slot.record.history["validation_selection"][-1])
        slot.best = self._snapshot(row)

    def evaluations(self) -> list[Evaluation]:
        """Each member at its present parameters, on validation data.

        Records stay as they are, unless whoever drives the cohort decides when they are added to.
        """
        every = []
        for slot, found, sound in zip(self.slots, self._measured(range(len(self.slots))), self._sound(), strict=True):
            score = self._score(found)
            slot.record.failure = failure = slot.record.failure or found.failure
            if self.setting.told:
                slot.record.note(found.losses, found.metrics, score)
            finite = sound and not failure
            every.append(Evaluation(score, found.metrics, finite, slot.record.newest(), failure))
        return every

    def _sound(self) -> list[bool]:
        """Of which members the parameters, and the losses of the last step, are finite."""
        sound: list[bool] = (
            self.population.state["parameters"].isfinite().all(1) & self.population.state["finite"]
        ).tolist()
        return sound

    def results(self) -> list[Result]:
        """Each run's result, of the parameters that did best on validation data."""
        members = [slot.who for slot in self.slots]
        parameters = torch.stack([slot.best[0] for slot in self.slots])
        fixed = {
            name: torch.stack([slot.best[1][name] for slot in self.slots]) for name in self.population.program.fixed
        }
        splits, unjudged = (
            self.setting.splits,
            [row for row, slot in enumerate(self.slots) if not slot.record.best_step],
        )
        best: list[tuple[Measured | None, Measured | None]] = [
            *zip(
                *(self.on_split(members, parameters, fixed, split) for split in (splits.validation, splits.test)),
                strict=True,
            )
        ]
        names: dict[int, list[str]] = {}
        for row, last in zip(unjudged, self._measured(unjudged) if unjudged else [], strict=True):
            best[row] = None, None
            names[row] = undefined(self.setting.tasks, last.metrics, self.setting.reference)
        return [self._result(row, *best[row], names.get(row, []), sound) for row, sound in enumerate(self._sound())]

    def _result(
        self, row: int, validation: Measured | None, test: Measured | None, unjudged: Sequence[str], sound: bool
    ) -> Result:
        record, counts = self.slots[row].record, self.population.counts
        skipped, limit = self._skipped(row), self.slots[row].who.settings.nan_limit
        status, reason = outcome(record, skipped, limit, sound=sound, unjudged=unjudged, test=test)
        return Result(
            status=status,
            metrics=test.metrics if test else {},
            validation=validation.metrics if validation else {},
            selection=record.best_selection,
            best_step=record.best_step,
            reason=reason,
            cost={
                "steps": record.step,
                "forwards": int(counts["forward"][row]),
                "backwards": int(counts["backward"][row]),
                "seconds": round(record.seconds, 3),
                "peak_memory_mb": peak_memory(self.setting.device),
            },
            skipped=skipped,
            history=record.history,
        )


class _Losses:
    """The losses of a model on one member's batch, as a `Feed` gives it; runs under `vmap`."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self._tasks = tasks

    def __call__(self, model: nn.Module, batch: Mapping[str, Any]) -> dict[str, Tensor]:
        predictions = model(batch["inputs"])
        losses = self._against(predictions, batch["targets"], batch["parameters"])
        if "partner" in batch:
            others = self._against(predictions, batch["partner"], batch["parameters"])
            share = batch["share"]
            losses = {name: share * loss + (1 - share) * others[name] for name, loss in losses.items()}
        if "absent" in batch:
            absent = dict(zip(losses, batch["absent"].unbind(), strict=True))
            losses = {name: torch.where(absent[name], torch.nan, loss) for name, loss in losses.items()}
        return losses

    def _against(
        self, predictions: Mapping[str, Tensor], targets: Mapping[str, Tensor], given: Any
    ) -> dict[str, Tensor]:
        each = {}
        for task in self._tasks:
            loss = task.loss
            if given.get(task.name):
                loss = substituted(task.loss, given[task.name])
            each[task.name] = loss_of(loss, predictions[task.name], targets[task.name]).reshape(())
        return each


def _predict(model: nn.Module, inputs: Any) -> dict[str, Tensor]:
    return dict(model(inputs))


def _values(members: Sequence[Resolved]) -> dict[str, Any]:
    """The settings of the optimizer, one value a member."""
    names = ["lr", "weight_decay", "clip", "l1"]
    if members[0].settings.optimizer == "sgd":
        names.append("momentum")
    return {name: [getattr(each.settings, name) for each in members] for name in names}
