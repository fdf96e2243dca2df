"""Tries a benchmark's model, losses and metrics on a few examples, before anything is trained."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Benchmark, Examples, Splits, Task
from mtl.benchmarks.losses import fitted
from mtl.benchmarks.own import OwnExamples
from mtl.benchmarks.tree import first_tensor, named_leaves
from mtl.benchmarks.trunk import reads_trunk
from mtl.losses import Loss, TaskLoss, loss_of, takes_classes
from mtl.losses.labels import changed, classes_last, elementwise, known, numbers, versions
from mtl.losses.purity import impure, trainable
from mtl.losses.wrapped import Wrapped
from mtl.messages import in_one_line, kind_of
from mtl.population.normalisation import normalisations
from mtl.train.batches import check_batches
from mtl.train.compiled import check_compiler
from mtl.train.evaluate import value_of
from mtl.train.misread import misread
from mtl.train.model import build_model, no_architecture, no_trunk
from mtl.train.moving import check_cutmix, check_moves, is_picture
from mtl.train.optimizers import SIDE_BY_SIDE, read_optimizer
from mtl.train.parts import optimizer_groups
from mtl.train.references import defined, one_sided, references
from mtl.train.settings import Settings
from mtl.train.smoothing import check_smoothing
from mtl.train.tally import MetricFailed

_LISTED = 5  # absent classes that are named
_MANY, _PARTS = 512, 16  # examples on which a loss is tried, and parts of them
_NUMBERS = 2**20  # labels of these together, at most


def _silent(_text: str) -> None:
    """Nobody listens."""


def check_model(
    benchmark: Benchmark,
    splits: Splits,
    settings: Settings,
    tell: Callable[[str], None] = _silent,
    *,
    alone: bool = False,
) -> None:
    """Take two examples of each split and task through model, loss and backward pass, and all labels through metrics.

    Args:
        benchmark: gives the model and the tasks.
        splits: its data.
        settings: of the runs to come.
        tell: called with what a user should know, such as a metric that is undefined on a split.
        alone: try the models of single tasks too.

    Raises:
        ValueError: something does not fit together; one line that names task and split.
    """
    check_compiler(settings)
    where = f"benchmark {benchmark.name!r}"
    try:
        benchmark = fitted(benchmark, splits)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    check_smoothing(benchmark.tasks, settings.label_smoothing)
    check_batches(where, splits.train, settings)
    check_moves(f"{where}, train split", benchmark.tasks, splits.train, settings.augment)
    check_cutmix(f"{where}, train split", benchmark.tasks, splits.train, settings.cutmix)
    own = isinstance(splits.train, OwnExamples)
    model = _built(where, benchmark, benchmark.tasks, splits, settings)
    if own and settings.swa is not None and normalisations(model):
        raise ValueError(
            f"{where}: swa={settings.swa:g} gathers the statistics of batch normalisation anew, which it cannot where "
            "tasks have their own examples: take ema, or another normalisation"
        )
    if read_optimizer(settings.optimizer).name not in SIDE_BY_SIDE:  # these take any parameter
        settings.make_optimizer(optimizer_groups(model, settings))
    for name, split in splits.items():
        place = f"{where}, {name} split"
        model.train(name == "train")
        for examples, some in _read_by(benchmark.tasks, split):
            chosen = {task.name: _two(examples.targets[task.name]) for task in some}
            rows = torch.cat([*chosen.values()]).unique()
            by_whom = f"{place}, task {some[0].name!r}" if own else where
            predictions = _predicted(by_whom, model, some, examples.labelled(rows).inputs)
            for task in some:
                here = torch.searchsorted(rows, chosen[task.name])
                of_task = f"{place}, task {task.name!r}"
                prediction = predictions[task.name][here]
                _check_loss(of_task, task, prediction, examples.targets[task.name], chosen[task.name], model)
                if name != "train":
                    _check_metrics(of_task, task, prediction.detach(), examples)
    for task in benchmark.tasks if alone else ():
        by_itself = f"{where}, task {task.name!r} alone"
        single = _built(by_itself, benchmark, [task], splits, settings)
        _predicted(by_itself, single.eval(), [task], splits.train.of_task(task.name).first(2))
    if settings.changes_trunk and not reads_trunk(benchmark, splits.train.first(2)):
        raise ValueError(no_trunk(benchmark, settings))
    if settings.architecture and not reads_trunk(benchmark, splits.train.first(2), "architecture"):
        raise ValueError(no_architecture(benchmark, settings))
    for text in [*label_remarks(benchmark.tasks, splits, where), *_unchanged(settings, splits.train.first(1))]:
        tell(text)


def check_losses(
    benchmark: Benchmark, splits: Splits, settings: Settings, losses: Mapping[str, Sequence[Loss]]
) -> None:
    """Raise `ValueError` for the first of the `losses` by task that cannot take the task's outputs and labels."""
    if not losses:
        return
    where = f"benchmark {benchmark.name!r}"
    model = _built(where, benchmark, benchmark.tasks, splits, settings).eval()
    predictions = _predicted(where, model, benchmark.tasks, splits.train.first(2))
    widths = {task.name: task.outputs for task in benchmark.tasks}
    metrics = {task.name: task.metrics for task in benchmark.tasks}
    for task, several in losses.items():
        for loss in several:
            if loss.undecided():
                try:
                    loss.fitted(splits.train.targets[task], widths[task])
                except ValueError as error:
                    raise ValueError(f"{where}, task {task!r}: {error}") from error
            for name, split in splits.items():
                prediction, labels = classes_last(predictions[task], split.targets[task]), split.targets[task]
                rows = _two(labels)
                here = torch.arange(2, device=prediction.device) % len(prediction)
                said = misread(loss, metrics[task]) or loss.complaint(prediction, labels)
                said = said or loss.impurity(prediction[here], labels[rows])
                if said or (said := _never_finite(loss, prediction, labels) if name == "train" else None):
                    raise ValueError(f"{where}, {name} split, task {task!r}: {loss.name} {said}")


def _read_by(tasks: Sequence[Task], split: Examples) -> list[tuple[Examples, Sequence[Task]]]:
    """The examples that go through the model together, and the tasks that read them."""
    if isinstance(split, OwnExamples):
        return [(split.of_task(task.name), [task]) for task in tasks]
    return [(split, tasks)]


def _built(where: str, benchmark: Benchmark, tasks: Sequence[Task], splits: Splits, settings: Settings) -> Any:
    try:
        model = build_model(benchmark, tasks, splits.train.first(2), settings)
    except ValueError:
        raise
    except Exception as error:
        raise ValueError(f"{where}: its model() fails: {in_one_line(error)}") from error
    if not callable(getattr(model, "shared_parameters", None)):
        raise ValueError(f"{where}: its model has no method 'shared_parameters', the parameters that all tasks share")
    return model


def _predicted(where: str, model: Any, tasks: Sequence[Task], inputs: Any) -> Mapping[str, Tensor]:
    count = len(first_tensor(inputs))
    try:
        predictions = model(inputs)
    except Exception as error:
        double = [name for name, leaf in named_leaves(inputs, "inputs") if leaf.dtype == torch.float64]
        hint = f"; {double[0]} are float64, and .float() makes them float32" if double else ""
        raise ValueError(f"{where}: its model fails on {count} examples: {in_one_line(error)}{hint}") from error
    if not isinstance(predictions, Mapping) or any(task.name not in predictions for task in tasks):
        raise ValueError(f"{where}: its model must return a dict with a prediction for each task")
    for task in tasks:
        found = predictions[task.name]
        if not isinstance(found, Tensor):
            raise ValueError(f"{where}, task {task.name!r}: its model predicts {kind_of(found)}, not a tensor")
        if found.ndim == 0 or len(found) != count:
            raise ValueError(
                f"{where}, task {task.name!r}: its model predicts shape {tuple(found.shape)} for {count} "
                f"examples; ({count}, ...) is wanted"
            )
    return predictions


def _two(labels: Tensor) -> Tensor:
    """Two examples with labels, as unlike as is seen at once: one as it comes, one with another label."""
    whole = known(labels).reshape(len(labels), -1)
    some = whole.all(1).nonzero()[:, 0] if bool(whole.all(1).any()) else whole.any(1).nonzero()[:, 0]
    flat = labels.reshape(len(labels), -1)
    unlike = (flat[some] != flat[some[0]]).any(1).nonzero()[:, 0]
    second = some[unlike[0]] if len(unlike) else some[-1]
    return torch.stack([some[0], second])


def _check_loss(where: str, task: Task, prediction: Tensor, labels: Tensor, rows: Tensor, model: Any) -> None:
    ours, theirs = ([length for length in each.shape[1:] if length > 1] for each in (prediction, labels))
    if ours != theirs and sorted(ours) == sorted(theirs):
        raise ValueError(
            f"{where}: its model predicts shape {tuple(prediction.shape[1:])} for an example whose labels have shape "
            f"{tuple(labels.shape[1:])}; the axes are wanted in one order"
        )
    if isinstance(task.loss, Loss):
        said = misread(task.loss, task.metrics) or task.loss.complaint(classes_last(prediction, labels), labels)
        if said:
            raise ValueError(f"{where}: {task.loss.name} {said}")
    if not isinstance(task.loss, Loss) and takes_classes(task.loss, labels, task.outputs):
        _check_classes(where, task, labels)
    loss = _loss(where, task, prediction, labels[rows])
    if said := _impurity(task.loss, prediction.detach(), labels[rows]):
        raise ValueError(f"{where}: its loss {said}")
    if model.training and loss.requires_grad:
        try:
            torch.autograd.grad(loss, list(model.parameters()), retain_graph=True, allow_unused=True)
        except Exception as error:
            raise ValueError(f"{where}: the backward pass of its loss fails: {in_one_line(error)}") from error
    elif model.training:
        raise ValueError(f"{where}: its loss does not depend on the model's parameters")
    if isinstance(task.loss, Loss) and not isinstance(task.loss, Wrapped):
        return
    if model.training and (said := _never_finite(task.loss, prediction, labels)):
        raise ValueError(f"{where}: its loss {said}")
    with torch.no_grad():
        if elementwise(prediction, labels[rows]):
            _check_pairs(where, task, labels[rows])
        lacking = (~known(labels)).reshape(len(labels), -1).any(1).nonzero()[:1, 0]
        if not len(lacking):
            return
        whole, holed = labels[rows], torch.cat([labels[rows[:1]], labels[lacking]])
        if not bool(known(whole).all()):  # no example has all its labels, as where a border of pictures has none
            whole, holed = torch.where(known(whole), whole, whole[known(whole)][0]), whole
        finite = [bool(_loss(where, task, prediction, some).isfinite()) for some in (whole, holed)]
        if finite == [True, False]:
            raise ValueError(
                f"{where}: labels are missing, and its loss of them is not finite: a function has to leave out "
                "labels that are NaN or -100, as the losses of mtl.losses do"
            )


def _impurity(loss: TaskLoss, prediction: Tensor, labels: Tensor) -> str | None:
    """Why a loss is no function of predictions and labels, or None."""
    if isinstance(loss, Loss):
        return loss.impurity(classes_last(prediction, labels), labels)
    return trainable(loss) or impure(loss, lambda tried: loss_of(tried, prediction, labels))


def _check_classes(where: str, task: Task, labels: Tensor) -> None:
    classes = labels[known(labels)]
    wrong = classes[(classes < 0) | (classes >= task.outputs)]
    if labels.dtype != torch.int64 or len(wrong):
        found = str(labels.dtype) if labels.dtype != torch.int64 else int(wrong[0])
        raise ValueError(
            f"{where}: its labels must be classes from 0 to {task.outputs - 1}, of type int64: here is {found}"
        )


def _loss(where: str, task: Task, prediction: Tensor, labels: Tensor) -> Tensor:
    shapes = f"predictions of shape {tuple(prediction.shape)} and labels of shape {tuple(labels.shape)}"
    before = versions(prediction, labels)
    try:
        loss: Any = loss_of(task.loss, prediction, labels)
    except Exception as error:
        raise ValueError(f"{where}: its loss fails on {shapes}: {in_one_line(error)}") from error
    if said := changed(before, prediction, labels):
        raise ValueError(f"{where}: its loss {said}")
    if not isinstance(loss, Tensor):
        raise ValueError(f"{where}: its loss returns {kind_of(loss)}, not a tensor")
    if loss.numel() != 1:
        raise ValueError(f"{where}: its loss returns shape {tuple(loss.shape)} on {shapes}; one number is wanted")
    return loss


def _never_finite(loss: TaskLoss, prediction: Tensor, labels: Tensor) -> str | None:
    """Why no step can be made of somebody's loss, or None; ours are finite.

    Some batches may have no finite loss: small ones without a pair of a class, or those with an odd label. So it is
    tried on many examples from all of the split, and on parts of them, and no value may be finite.

    Args:
        loss: of a task.
        prediction: of some examples, by an untrained model; those of others are like them.
        labels: of the whole split.
    """
    if isinstance(loss, Loss) and not isinstance(loss, Wrapped):
        return None
    whole = known(labels).reshape(len(labels), -1).all(1).nonzero()[:, 0]
    if not len(whole):
        return None
    count = min(len(whole), _MANY, max(len(prediction), _NUMBERS // max(1, labels[0].numel())))
    rows = whole[torch.linspace(0, len(whole) - 1, count).long().to(whole.device)]
    with torch.no_grad():
        for some in (rows, *rows.chunk(_PARTS)):
            try:
                value = loss_of(loss, prediction.detach()[torch.arange(len(some)) % len(prediction)], labels[some])
            except Exception as error:  # anybody's loss may raise anything
                return f"fails on {len(some)} examples: {in_one_line(error)}"
            if bool(value.isfinite()):
                return None
    return (
        f"is {value.item():g} on {count} examples with predictions of the untrained model, so that it cannot be trained"
    )


def _check_pairs(where: str, task: Task, labels: Tensor) -> None:
    """Refuse a function that compares each prediction with the labels of all examples, as (N, 1) and (N,) do."""
    guess = numbers(labels, torch.get_default_dtype()).clone()
    guess[1] += 0.3 * (guess[0] - guess[1])
    right, swapped, first = (
        _loss(where, task, guess, other) for other in (labels, labels.flip(0), labels[:1].expand(labels.shape))
    )
    if bool(torch.isclose(right, swapped)) and not bool(torch.isclose(right, first)):
        shape = ", ".join(["N", *map(str, labels.shape[1:])]) + "," * (labels.ndim == 1)
        raise ValueError(
            f"{where}: its loss is the same when examples get each other's labels: it gets predictions and labels in "
            f"one shape, ({shape}), and must not give one of them another axis"
        )


def _check_metrics(where: str, task: Task, prediction: Tensor, split: Examples) -> None:
    """Every metric on all labels of a split, with the predictions of two examples in turn."""

    def in_turn(start: int, labels: Tensor) -> Tensor:
        return prediction[torch.arange(start, start + len(labels)) % len(prediction)]

    for metric in task.metrics:
        try:
            value_of(metric, task, in_turn, split)
        except MetricFailed as error:
            raise ValueError(f"{where}: {error}") from error


def label_remarks(tasks: Sequence[Task], splits: Splits, where: str) -> list[str]:
    """What is unusual about labels and metrics: classes that a split lacks, values that will not be given.

    Args:
        tasks: with their metrics.
        splits: with their labels.
        where: begins the message of an error.

    Raises:
        ValueError: a task could not be judged or reported; one line.
    """
    found = [text for task in tasks for text in _absent_classes(task, splits)]
    try:
        found += references(tasks, splits.train, splits.validation)[1]
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    for task in tasks:
        lacking = [metric.name for metric in task.metrics if not defined(metric, task, splits.test)]
        if not lacking:
            continue
        reason = one_sided(task, splits.test)
        if len(lacking) == len(task.metrics):
            raise ValueError(f"{where}, test split, task {task.name!r}: no metric of it is defined: {reason}")
        plural = "s" * (len(lacking) > 1)
        listed = ", ".join(map(repr, lacking))
        found.append(f"task {task.name!r}, test split: no value of metric{plural} {listed} will be given: {reason}")
    return found


def _unchanged(settings: Settings, inputs: Any) -> list[str]:
    """Which inputs noise, mixup and cutmix leave as they are."""
    found, leaves = [], named_leaves(inputs, "inputs")
    asked = " and ".join(name for name in ("noise", "mixup") if getattr(settings, name))
    if asked and (whole := [name for name, leaf in leaves if not leaf.is_floating_point()]):
        found.append(f"{asked}: {', '.join(whole)} are not floating-point numbers and stay as they are")
    if settings.cutmix and (others := [name for name, leaf in leaves if not is_picture(leaf)]):
        found.append(f"cutmix: {', '.join(others)} are no pictures and stay as they are")
    return found


def _absent_classes(task: Task, splits: Splits) -> list[str]:
    """Which of the training split's classes occur in no label of another split."""
    every = {name: split.targets[task.name] for name, split in splits.items()}
    seen = {name: labels[known(labels)].unique() for name, labels in every.items()}
    first = every["train"]
    binary = bool(torch.isin(seen["train"], torch.tensor([0, 1], device=first.device)).all())
    if first.is_floating_point() and not binary:
        return []
    if not binary and task.outputs == 1:
        return []  # counts
    classes = seen["train"] if first.is_floating_point() else torch.cat([*seen.values()]).unique()
    found = []
    for name, labels in seen.items():
        absent = [_class_name(task, label.item()) for label in classes[~torch.isin(classes, labels)]]
        if absent:
            listed = ", ".join(absent[:_LISTED]) + f" and {len(absent) - _LISTED} more" * (len(absent) > _LISTED)
            plural = "es" * (len(absent) > 1)
            found.append(f"task {task.name!r}: its {name} split has no example of class{plural} {listed}")
    return found


def _class_name(task: Task, label: float) -> str:
    return repr(task.classes[int(label)]) if task.classes else f"{label:g}"
