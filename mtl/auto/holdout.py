"""Examples that the race never sees: finalists are compared on them."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from mtl.benchmarks import Split, Splits, Task
from mtl.benchmarks.own import OwnExamples
from mtl.benchmarks.shuffled import shuffled_parts
from mtl.benchmarks.split import Examples
from mtl.benchmarks.stored import Stored
from mtl.losses.labels import known
from mtl.train.references import references

# Examples in half of the validation split for it to be halved; with enough, whatever training could give instead.
_FEWEST, _ENOUGH = 100, 500
_OF_VALIDATION, _OF_TRAINING = 2, 5  # one of so many is held out


class HeldOut(NamedTuple):
    """The data of a decision.

    Attributes:
        train: trains.
        selection: tells the race which runs are better.
        holdout: compares the finalists.
        test: measures what is shown at the end, and decides nothing.
        source: the split that the holdout was taken from, `validation` or `training`.
    """

    train: Examples
    selection: Examples
    holdout: Examples
    test: Examples
    source: str

    @property
    def of_the_race(self) -> Splits:
        """Splits without holdout and test: what is recorded as tested was selected on."""
        return Splits(self.train, self.selection, self.selection)

    @property
    def of_finalists(self) -> Splits:
        """Splits whose test is the holdout."""
        return Splits(self.train, self.selection, self.holdout)


def hold_out(tasks: Sequence[Task], splits: Splits, seed: int) -> HeldOut:
    """Half of the validation split is held out; where that is few, a fifth of the training split if it is more.

    Classes have their share in both parts, as far as whole numbers allow: of the task with the rarest one first of all,
    and of the others within these.

    A race among many candidates is led by the peculiarities of the examples that select, the more the fewer they are.

    Args:
        tasks: of the benchmark; each needs a metric that can judge on both halves.
        splits: of the benchmark.
        seed: of the draw.

    Raises:
        ValueError: no task could be judged on either; one line.
    """
    faults = []
    half, of_training = _fewest(splits.validation) / _OF_VALIDATION, _fewest(splits.train) / _OF_TRAINING
    if half >= _ENOUGH or half >= max(_FEWEST, of_training):
        selection, holdout = _parts(tasks, splits.validation, _OF_VALIDATION, seed)
        found = HeldOut(splits.train, selection, holdout, splits.test, "validation")
        if not (fault := _fault(tasks, found)):
            return found
        faults.append(fault)
    train, holdout = _parts(tasks, splits.train, _OF_TRAINING, seed)
    found = HeldOut(train, splits.validation, holdout, splits.test, "training")
    if fault := _fault(tasks, found):
        raise ValueError(f"no examples can be held out to compare finalists on: {'; '.join([*faults, fault])}")
    return found


def _fewest(examples: Examples) -> int:
    """How many examples there are; of tasks that have their own, those of the task with the fewest."""
    return min(map(len, examples.parts.values())) if isinstance(examples, OwnExamples) else len(examples)


def _parts(tasks: Sequence[Task], examples: Examples, one_of: int, seed: int) -> tuple[Examples, Examples]:
    """What stays and what is held out, one of so many."""
    if isinstance(examples, OwnExamples):
        own = {task.name: [task] for task in tasks}
        cut = {task: _parts(own[task], each, one_of, seed) for task, each in examples.parts.items()}
        kept, apart = (OwnExamples({task: both[place] for task, both in cut.items()}) for place in (0, 1))
        return kept, apart
    (order,) = shuffled_parts(len(examples), seed=seed)
    classes = _classes(tasks, examples)
    if not classes:
        held = order[: len(order) // one_of]
    else:
        # In the order of their classes, drawn among equal ones, every second or fifth is a share of each class.
        for labels in reversed(classes):
            order = order[labels[order].sort(stable=True).indices]
        held = order[one_of - 1 :: one_of]
    if not len(held) or len(held) == len(order):
        raise ValueError(f"no examples can be held out to compare finalists on: there are only {len(examples)}")
    stays = torch.ones(len(order), dtype=torch.bool)
    stays[held] = False
    return part(examples, stays.nonzero().flatten()), part(examples, held.sort().values)


def _classes(tasks: Sequence[Task], examples: Examples) -> list[Tensor]:
    """For each task whose labels are classes, one an example: the class of each, the task with the rarest one first."""
    if examples.sampled:  # labels so large that a sample of them is read are no classes
        return []
    found = []
    for task in tasks:
        labels = examples.targets[task.name].cpu()
        there = known(labels)
        if labels.dim() > 1 or not bool(_are_classes(labels[there], max(task.outputs, 2))):
            continue
        counts = labels[there].unique(return_counts=True)[1].tolist()
        found.append((min(counts, default=0), torch.where(there, labels, -1).long()))
    return [labels for _, labels in sorted(found, key=lambda each: each[0])]


def _are_classes(labels: Tensor, number: int) -> Tensor:
    return ((labels >= 0) & (labels < number) & (labels == labels.long())).all()


def _fault(tasks: Sequence[Task], found: HeldOut) -> str:
    """Why runs cannot be judged on the parts; empty where they can."""
    try:
        for examples in (found.selection, found.holdout):
            references(tasks, found.train, examples)
    except ValueError as error:
        return str(error)
    return ""


def part(examples: Examples, index: Tensor) -> Examples:
    """Some of the examples of a split.

    Args:
        examples: in memory, or of a data set.
        index: their numbers, (n,).

    Raises:
        ValueError: the split cannot be cut; one line.
    """
    if isinstance(examples, Split):
        return examples.take(index.to(examples.device))
    if not isinstance(examples, Stored):
        raise ValueError(f"mtl auto holds examples out, and a split of {type(examples).__name__} cannot be cut")
    before = examples.reading.chosen
    reading = dataclasses.replace(examples.reading, chosen=index if before is None else before[index])
    return dataclasses.replace(examples, reading=reading, targets=examples.targets.part(reading, index))
