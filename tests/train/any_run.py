"""Random runs, drawn from seeds: tiny benchmarks in float64, and members with everything that a run may have.

A member is drawn by two generators. `shape` says what it has: losses, strategy, optimizer, which settings. `numbers`
says how much of it. So equal shapes with unlike numbers are members that one program trains, mostly.
"""

from __future__ import annotations

import random

import torch
from torch import nn

from mtl.benchmarks import Benchmark, Split, Splits, Task
from mtl.hyperparameters import domains, show
from mtl.losses import BinaryCrossEntropy, CrossEntropy, Huber
from mtl.metrics import accuracy, mae
from mtl.models import HardSharing
from mtl.strategies import REGISTRY
from mtl.train import Member, Settings


class Mixed(Benchmark):
    """A class, a number and a yes or no from five inputs; needs float64 as the default dtype."""

    name = "mixed"
    trunk = "mlp:width=6,depth=2"
    recipe = {"steps": 9, "batch_size": 8, "lr": 1e-2}  # noqa: RUF012
    sizes = (26, 12, 10)
    tasks: tuple[Task, ...] = (
        Task("kind", CrossEntropy(), (accuracy,), 3),
        Task("amount", Huber(), (mae,)),
        Task("yes", BinaryCrossEntropy(), (accuracy,)),
    )

    def load(self) -> Splits:
        generator = torch.Generator().manual_seed(3)
        return Splits(*(self.split(size, generator) for size in self.sizes))

    def split(self, size: int, generator: torch.Generator):
        x = self.inputs(size, generator)
        return Split(x, self.labels(x.flatten(1)))

    def inputs(self, size: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(size, 5, generator=generator, dtype=torch.float64)

    def labels(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"kind": x[:, :3].argmax(1), "amount": x[:, 0] * x[:, 1], "yes": (x[:, 3] > 0).to(x.dtype)}


class One(Mixed):
    """The number alone."""

    name = "one"
    tasks = (Mixed.tasks[1],)

    def labels(self, x):
        return {"amount": super().labels(x)["amount"]}


class Masked(Mixed):
    """Labels are missing, so that batches lack tasks."""

    name = "masked"

    def labels(self, x):
        found, place = super().labels(x), torch.arange(len(x))
        found["amount"][place % 5 > 0] = torch.nan
        found["kind"][place % 3 == 0] = -100
        return found


class Pictures(Mixed):
    """From pictures of 6 x 6, by convolutions."""

    name = "pictures"
    trunk = "conv:channels=2,width=5"
    tasks = (Mixed.tasks[0], Mixed.tasks[1])

    def inputs(self, size, generator):
        return torch.randn(size, 1, 6, 6, generator=generator, dtype=torch.float64)

    def labels(self, x):
        found = super().labels(x)
        return {name: found[name] for name in ("kind", "amount")}


class Normed(Mixed):
    """A model of its own, with batch normalisation and dropout."""

    name = "normed"

    def model(self, tasks, inputs):  # noqa: ARG002
        trunk = nn.Sequential(nn.Linear(5, 6, bias=False), nn.BatchNorm1d(6), nn.Tanh(), nn.Dropout(0.2))
        return HardSharing(trunk, {task.name: nn.Linear(6, task.outputs) for task in tasks})


class Own(Mixed):
    """Each task has examples of its own, unlike many."""

    name = "own"

    def split(self, size, generator):
        sizes = zip(self.tasks, (size, size // 2, size // 3), strict=True)
        found = {task.name: self.inputs(number, generator) for task, number in sizes}
        return {name: Split(x, {name: self.labels(x)[name]}) for name, x in found.items()}


BENCHMARKS: tuple[type[Mixed], ...] = (Mixed, One, Masked, Pictures, Normed, Own)

#: Specs of losses by task; {} stands for a number from 0.1 to 2.
_OF_CLASSES = (
    "cross-entropy:label_smoothing=0.{}1",
    "cross-entropy:class_weights={}/{}/{}",
    "cross-entropy:class_weights=inverse",
    "focal:gamma={}",
    "poly:epsilon={}",
    "logit-adjusted:tau={}",
    "hinge:margin={}",
    "taylor:theta1={},theta5={}",
    "tversky:false_positives={},smooth={}",
    "CrossEntropyLoss:label_smoothing=0.1",
    "{}*cross-entropy+{}*dice:smooth={}",
    "apart:{}*cross-entropy+{}*focal:gamma={}",
    "learned:rate=0.0{}1,hidden=3",
    "learned:rate=0.0{}1,hidden=3,on=validation",
    "learned:rate=0,hidden=3",
)
_OF_NUMBERS = (
    "mse",
    "huber:delta={}",
    "smooth-l1:beta={}",
    "log-cosh:width={}",
    "quantile:q=0.{}1",
    "HuberLoss:delta={}",
    "taylor-numbers:theta3=-{},theta5={}",
    "mse+{}*log-cosh:width={}",
    "{}*huber:delta={}+{}*huber:delta={}",
    "apart:{}*mse+{}*huber:delta={}",
    "learned:of=huber:delta={},rate=0.0{}1,hidden=3",
)
_OF_YES = (
    "binary-cross-entropy:positive_weight={}",
    "binary-cross-entropy:positive_weight=inverse",
    "focal:gamma={},alpha=0.{}1",
    "asymmetric:negative={},positive={},shift=0.0{}1",
    "{}*binary-cross-entropy+{}*focal:gamma={}",
    "dice:smooth={}",
    "hinge:margin={}",
    "multi-label:positive_weights={}",
)
LOSSES = {"kind": _OF_CLASSES, "amount": _OF_NUMBERS, "yes": _OF_YES}

OPTIMIZERS = (
    "adam",
    "adamw:betas=0.{}5/0.9{}5",
    "sgd",
    "sgd:nesterov=true",
    "sgd:momentum=0.{}5,dampening=0.{}5",
    "rmsprop:momentum=0.{}5,alpha=0.9{}5",
    "adagrad:lr_decay=0.{}5,initial_accumulator_value={}",
    "adadelta:rho=0.{}5",
    "adamax",
    "nadam:momentum_decay=0.0{}5,decoupled_weight_decay=true",
    "radam",
    "adam:amsgrad=true",
    "muon",
)
_SCHEDULES = ("cosine", "linear", "step:every=0.3", "exponential", "one-cycle", "polynomial", "plateau:patience=0")
_COMBINATORS = ("every:n=2", "ema:beta=0.{}5", "normalize", "clip")
_ARCHITECTURES = ("cross-stitch", "mmoe:experts=2", "cgc", "mtan:norm=none", "dselect-k:experts=2,k=1")


def filled(text: str, numbers: random.Random) -> str:
    """A text with a digit in each {} after a dot, and a number in each other one."""
    parts = text.split("{}")
    found = parts[0]
    for part in parts[1:]:
        digit = found[-1:] in ".0123456789" and found[-1:] != ""
        found += (str(numbers.randint(1, 8)) if digit else f"{numbers.uniform(0.1, 2):.3f}") + part
    return found


def _unit(name: str, tasks: int, shape: random.Random, numbers: random.Random) -> str:
    """A strategy with some of its hyperparameters."""
    pairs = []
    for key, domain in domains(REGISTRY[name]).items():
        if shape.random() < 0.5:
            continue
        if domain.choices:
            pairs.append(f"{key}={shape.choice(domain.choices)}")
        elif domain.search and domain.tasks != "ratios":
            pairs.append(f"{key}={show(numbers.uniform(*domain.search))}")
        elif domain.tasks in ("ratios", "each"):
            low = 0.1 if domain.tasks == "ratios" else 0.0
            pairs.append(f"{key}=" + "/".join(f"{numbers.uniform(low, 0.3):.3f}" for _ in range(tasks)))
    return f"{name}:{','.join(pairs)}" if pairs else name


def draw_strategy(tasks: int, shape: random.Random, numbers: random.Random) -> str:
    """A spec: one strategy, a chain of two, or either with combinators."""
    units = [_unit(shape.choice(sorted(REGISTRY)), tasks, shape, numbers) for _ in range(shape.choice((1, 1, 1, 2)))]
    units += [filled(shape.choice(_COMBINATORS), numbers) for _ in range(shape.choice((0, 0, 0, 1, 2)))]
    return "+".join(units)


def _losses(benchmark: Mixed, shape: random.Random, numbers: random.Random) -> dict[str, dict[str, object]]:
    found: dict[str, dict[str, object]] = {}
    for task in benchmark.tasks:
        if shape.random() < 0.6:
            found[task.name] = {"name": filled(shape.choice(LOSSES[task.name]), numbers)}
        elif task.name == "amount" and shape.random() < 0.5:
            found[task.name] = {"delta": numbers.uniform(0.1, 2)}
    return found


def _settings(benchmark: Mixed, shape: random.Random, numbers: random.Random) -> dict[str, object]:
    pictures, own_model = isinstance(benchmark, Pictures), isinstance(benchmark, Normed)
    task = shape.choice(benchmark.tasks).name
    # What shapes the program: whether it is there, and how it is drawn.
    structural = {
        "optimizer": lambda: filled(shape.choice(OPTIMIZERS), numbers),
        "batch_size": lambda: shape.choice((4, 8, 30)),
        "head_weighting": lambda: "own",
        "scale": lambda: "raw",
        "align_data": lambda: "train",
        "ema": lambda: numbers.uniform(0.3, 0.99),
        "swa": lambda: numbers.uniform(0.1, 0.9),
        "mixup": lambda: numbers.uniform(0.1, 1),
        "spectral": lambda: numbers.uniform(0.001, 0.1),
        "accumulate": lambda: 2,
    }
    if pictures:
        structural |= {"cutmix": lambda: numbers.uniform(0.1, 1), "augment": lambda: shape.choice(("flip", "jitter"))}
    elif not own_model:
        structural["dropout"] = lambda: numbers.uniform(0.1, 0.5)
        structural["architecture"] = lambda: shape.choice(_ARCHITECTURES)
        structural["model"] = lambda: "mlp:width=4,depth=2"
    if not own_model:
        structural["head_dropout"] = lambda: numbers.uniform(0.1, 0.5)
        structural["heads"] = lambda: f"{task}:lr=0.0{numbers.randint(1, 9)},dropout=0.{numbers.randint(1, 5)}"
    if isinstance(benchmark, Own):
        structural["sampling"] = lambda: "proportional"
    # What members of one program may differ in, be it there or not.
    free = {
        "lr": lambda: 10 ** numbers.uniform(-3, -1),
        "weight_decay": lambda: numbers.uniform(0, 0.1),
        "momentum": lambda: numbers.uniform(0, 0.95),
        "schedule": lambda: numbers.choice(_SCHEDULES),
        "warmup": lambda: numbers.randint(1, 5),
        "clip": lambda: numbers.uniform(0.05, 1),
        "clip_value": lambda: numbers.uniform(0.01, 0.3),
        "l1": lambda: numbers.uniform(0, 0.01),
        "l2": lambda: numbers.uniform(0, 0.01),
        "orthogonal": lambda: numbers.uniform(0, 0.01),
        "head_lr": lambda: 10 ** numbers.uniform(-3, -1),
        "head_weight_decay": lambda: numbers.uniform(0, 0.1),
        "head_l1": lambda: numbers.uniform(0, 0.01),
        "head_l2": lambda: numbers.uniform(0, 0.01),
        "noise": lambda: numbers.uniform(0, 0.3),
        "label_smoothing": lambda: numbers.uniform(0, 0.3),
        "steps": lambda: numbers.randint(5, 12),
        "patience": lambda: numbers.randint(1, 3),
    }
    found = {
        name: make() for name, make in structural.items() if shape.random() < (0.05 if name == "accumulate" else 0.2)
    }
    return found | {name: make() for name, make in free.items() if numbers.random() < 0.2}


def draw_member(benchmark: Mixed, shape: int, numbers: int, seed: int) -> Member:
    """The member that the seeds of the two generators stand for; not every one is allowed."""
    shapes, amounts = random.Random(f"shape {shape}"), random.Random(f"numbers {numbers}")
    losses = _losses(benchmark, shapes, amounts)
    weighed = sum(
        2 if str(losses.get(task.name, {}).get("name")).startswith("apart") else 1 for task in benchmark.tasks
    )
    strategy = draw_strategy(weighed, shapes, amounts)
    return Member(strategy, seed, _settings(benchmark, shapes, amounts), losses)


def settings_of(benchmark: Mixed) -> Settings:
    """The usual settings of a benchmark, which members override."""
    return Settings.of(benchmark.recipe)
