"""Every setting of a training run that is not the strategy's."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mtl.hyperparameters import domains, hyper, validate
from mtl.suggestions import nearest
from mtl.train.heads import HEADS, Heads, changed_heads, read_heads, write_heads
from mtl.train.lbfgs import check_settings
from mtl.train.moves import read_moves
from mtl.train.optimizers import read_optimizer
from mtl.train.schedules import read_schedule

if TYPE_CHECKING:  # the command line reads the declarations without torch
    import torch

PRECISIONS = ("off", "bf16", "fp16")
SAMPLINGS = ("cycle", "proportional")


@dataclass(frozen=True)
class Settings:
    """Training settings; the same for every strategy of a comparison, and recorded with it.

    What stands here of a setting (its name, type, range, choices and a line about it) is all that there is: options,
    keys of YAML, the schema for editors and the space of a search are made from it.
    """

    epochs: int = hyper(20, 1, doc="passes over the training split")
    steps: int | None = hyper(None, 1, doc="optimizer steps, in place of epochs")
    lr: float = hyper(1e-3, 0.0, search=(1e-4, 1e-2), log=True, varies=True, doc="learning rate")
    weight_decay: float = hyper(0.0, 0.0, search=(1e-6, 1e-2), log=True, varies=True, doc="of the optimizer")
    optimizer: str = hyper(
        "adam",
        text="SPEC",
        varies=True,
        doc="of torch.optim, such as adamw or sgd:nesterov=true, or package.module:Class",
    )
    momentum: float = hyper(0.9, 0.0, 1.0, varies=True, doc="of sgd, where its spec has none")
    schedule: str = hyper(
        "constant",
        text="SPEC",
        varies=True,
        doc="of the learning rate: constant, cosine, linear, step:every=0.3, exponential, one-cycle, plateau",
    )
    warmup: int = hyper(0, 0, varies=True, doc="steps over which the learning rate rises to its value")
    batch_size: int = hyper(128, 1, varies=True, doc="examples a step")
    sampling: str = hyper(
        "cycle",
        choices=SAMPLINGS,
        varies=True,
        doc="where tasks have data of their own: cycle draws batch_size of each, and smaller ones begin anew; "
        "proportional draws of smaller ones as much less as they have",
    )
    accumulate: int = hyper(
        1, 1, doc="micro-batches that a batch is cut into, for less memory; their gradients make one optimizer step"
    )
    amp: str = hyper(
        "off",
        choices=PRECISIONS,
        doc="bf16 or fp16 make the forward passes of training in mixed precision; evaluations stay in full precision",
    )
    compile: bool = hyper(
        False, doc="compile forward passes of training by torch.compile, which makes the first step a long one"
    )
    ema: float | None = hyper(
        None,
        0.0,
        0.999999,
        varies=True,
        doc="decay of a moving average of the weights, which is evaluated and kept in their place",
    )
    swa: float | None = hyper(
        None,
        0.0,
        1.0,
        search=(0.5, 0.9),
        varies=True,
        doc="share of a run after which weights are averaged; the mean is evaluated and kept in their place",
    )
    clip: float | None = hyper(
        None, 0.0, search=(0.1, 10.0), log=True, varies=True, above=True, doc="largest norm of the whole gradient"
    )
    clip_value: float | None = hyper(
        None,
        0.0,
        search=(0.01, 1.0),
        log=True,
        varies=True,
        above=True,
        doc="largest size of each number of the gradient",
    )
    l1: float = hyper(
        0.0, 0.0, search=(1e-7, 1e-3), log=True, varies=True, doc="weight of the sum of absolute parameters"
    )
    l2: float = hyper(
        0.0, 0.0, search=(1e-7, 1e-2), log=True, varies=True, doc="weight of the sum of squared parameters"
    )
    spectral: float = hyper(
        0.0,
        0.0,
        search=(1e-5, 1e-1),
        log=True,
        varies=True,
        doc="weight of each matrix's largest singular value squared",
    )
    orthogonal: float = hyper(
        0.0, 0.0, search=(1e-6, 1e-2), log=True, varies=True, doc="weight of |W W' - I|^2 of each matrix W of weights"
    )
    head_lr: float | None = hyper(
        None, 0.0, search=(1e-4, 1e-2), log=True, varies=True, doc="learning rate of the heads, where it is another"
    )
    head_weight_decay: float | None = hyper(
        None, 0.0, search=(1e-6, 1e-2), log=True, varies=True, doc="weight decay of the heads, where it is another"
    )
    head_l1: float | None = hyper(
        None, 0.0, search=(1e-7, 1e-3), log=True, varies=True, doc="l1 of the heads, where it is another"
    )
    head_l2: float | None = hyper(
        None, 0.0, search=(1e-7, 1e-2), log=True, varies=True, doc="l2 of the heads, where it is another"
    )
    head_dropout: float | None = hyper(
        None, 0.0, 0.95, search=(0.0, 0.5), varies=True, doc="share of the features that heads read dropped in training"
    )
    heads: str = hyper(
        "",
        text="SPEC",
        varies=True,
        doc="the same five for single tasks' heads: TASK:lr=0.1,dropout=0.2+TASK:weight_decay=0",
    )
    dropout: float | None = hyper(
        None, 0.0, 0.95, search=(0.0, 0.5), varies=True, doc="share of the trunk's units dropped in training"
    )
    stochastic_depth: float | None = hyper(
        None,
        0.0,
        0.95,
        search=(0.0, 0.5),
        varies=True,
        doc="how often the trunk's last residual block is left out in training, earlier ones less",
    )
    augment: str = hyper(
        "",
        text="SPEC",
        varies=True,
        doc="random changes of pictures, with the labels of pixels: flip+crop:padding=4, zoom, jitter; none for none",
    )
    noise: float = hyper(0.0, 0.0, search=(0.0, 0.3), varies=True, doc="standard deviation of noise on the inputs")
    mixup: float = hyper(
        0.0, 0.0, search=(0.05, 1.0), log=True, varies=True, doc="a of Beta(a, a), how far examples are mixed"
    )
    cutmix: float = hyper(
        0.0,
        0.0,
        search=(0.1, 2.0),
        log=True,
        varies=True,
        doc="a of Beta(a, a), how large a box of pictures is another's",
    )
    label_smoothing: float = hyper(
        0.0, 0.0, 1.0, search=(0.0, 0.3), varies=True, doc="of all classification losses that have none of their own"
    )
    patience: int | None = hyper(None, 1, doc="evaluations without a better validation selection before a run stops")
    evaluate_every: int = hyper(1, 1, doc="epochs from one evaluation on validation data to the next")
    checkpoint_minutes: float | None = hyper(
        None, 0.0, doc="checkpoints are also written when the last one is so old; otherwise at evaluations alone"
    )
    nan_limit: int = hyper(50, 1, doc="steps with a non-finite loss or gradient after which a run counts as diverged")
    model: str = hyper(
        "", text="SPEC", varies=True, doc="trunk, such as mlp:width=64,depth=3; the benchmark's own when empty"
    )
    architecture: str = hyper(
        "",
        text="SPEC",
        varies=True,
        doc="how the tasks share it, such as mmoe:experts=4; the benchmark's own when empty",
    )
    head_weighting: str = hyper(
        "weighted", choices=("weighted", "own"), varies=True, doc="gradient that the heads receive"
    )
    scale: str = hyper("sum_to_k", choices=("sum_to_k", "raw"), varies=True, doc="of the loss weights")
    align_data: str = hyper(
        "validation", choices=("validation", "train"), doc="split whose gradients auto-lambda and its like read"
    )
    threads: int = hyper(1, 1, doc="threads of tensor operations on the CPU")

    def __post_init__(self) -> None:
        validate(self, "training")
        if self.accumulate > self.batch_size:
            raise ValueError(f"training: accumulate={self.accumulate} must be at most batch_size={self.batch_size}")
        if self.ema is not None and self.swa is not None:
            raise ValueError(f"training: ema={self.ema:g} and swa={self.swa:g} are both averages of weights; give one")
        read_schedule(self.schedule)
        read_moves(self.augment)
        self._check_heads()
        optimizer = read_optimizer(self.optimizer)
        decays = {name: getattr(self, name) for name in ("weight_decay", "head_weight_decay")}
        decays |= {f"{HEADS}{task}.weight_decay": own.get("weight_decay") for task, own in self.of_heads.items()}
        for name, decay in decays.items():
            if decay and not optimizer.decays:
                raise ValueError(f"optimizer {self.optimizer!r}: it has no weight decay, and {name} is {decay:g}")
        if optimizer.searches:
            check_settings(self)

    def _check_heads(self) -> None:
        declared = domains(type(self))
        for task, values in self.of_heads.items():
            for key, value in values.items():
                if complaint := declared[f"head_{key}"].complaint(value):
                    raise ValueError(f"training: {HEADS}{task}.{key}={value!r} {complaint}")
        object.__setattr__(self, "heads", write_heads(self.of_heads))  # so that equal ones are written alike

    @property
    def of_heads(self) -> Heads:
        """What tasks' heads have for themselves, by task and key."""
        return read_heads(self.heads)

    def head_dropouts(self, tasks: Iterable[str]) -> dict[str, float]:
        """The dropout of each task's head, of those that have some."""
        own = self.of_heads
        found = {task: own.get(task, {}).get("dropout", self.head_dropout) for task in tasks}
        return {task: rate for task, rate in found.items() if rate}

    def over(self, values: Mapping[str, Any]) -> Settings:
        """These settings with others over them, by name; `heads.TASK.KEY` is one value of a task's head.

        Raises:
            ValueError: an unknown setting, or a value out of range.
        """
        known = [field.name for field in dataclasses.fields(self)]
        own = {name: value for name, value in values.items() if name.startswith(HEADS)}
        plain = {name: value for name, value in values.items() if name not in own}
        for name in plain:
            if name not in known:
                raise ValueError(f"unknown training setting {name!r}: {nearest(name, known)}")
        if own:
            plain["heads"] = write_heads(changed_heads(read_heads(plain.get("heads", self.heads)), own))
        return dataclasses.replace(self, **plain)

    def of_tasks(self, tasks: Collection[str]) -> Settings:
        """The same for a model of these tasks alone."""
        kept = {task: values for task, values in self.of_heads.items() if task in tasks}
        return dataclasses.replace(self, heads=write_heads(kept))

    @classmethod
    def of(cls, *sources: Mapping[str, Any]) -> Settings:
        """Settings from mappings, later ones over earlier ones; None means not given.

        Raises:
            ValueError: an unknown setting or a value out of range.
        """
        known = {field.name for field in dataclasses.fields(cls)}
        merged: dict[str, Any] = {}
        for source in sources:
            for key, value in source.items():
                if key not in known:
                    raise ValueError(f"unknown training setting {key!r}: {nearest(key, known)}")
                if value is not None:
                    merged[key] = value
        if any(source.get("epochs") is not None and source.get("steps") is None for source in sources[-1:]):
            merged.pop("steps", None)  # what was said last decides the length
        return cls(**merged)

    @property
    def averages(self) -> bool:
        """Whether an average of the weights is evaluated and kept in their place."""
        return self.ema is not None or self.swa is not None

    @property
    def of_trunk(self) -> dict[str, float]:
        """Rates that the trunk is to have in place of its own, by name."""
        rates = {"dropout": self.dropout, "stochastic_depth": self.stochastic_depth}
        return {name: rate for name, rate in rates.items() if rate is not None}

    @property
    def changes_trunk(self) -> bool:
        """Whether the trunk is to be another than the benchmark's."""
        return bool(self.model or self.of_trunk)

    @property
    def mixes(self) -> bool:
        """Whether examples are mixed with others of their batch."""
        return self.mixup > 0 or self.cutmix > 0

    def length(self, steps_per_epoch: int) -> int:
        """Optimizer steps of the whole run."""
        return self.steps if self.steps is not None else self.epochs * steps_per_epoch

    def make_optimizer(
        self, parameters: Iterable[torch.nn.Parameter] | Iterable[dict[str, Any]]
    ) -> torch.optim.Optimizer:
        """The optimizer over `parameters`, or over groups of them."""
        return read_optimizer(self.optimizer).make(parameters, self.lr, self.weight_decay, self.momentum)

    def factor(self, step: int, steps: int, falls: int = 0) -> float:
        """What the learning rate is multiplied with at `step` (from 0) of `steps`, after `falls` of a plateau."""
        schedule, rise = read_schedule(self.schedule), min(1.0, (step + 1) / (self.warmup + 1))
        return rise * schedule.at(step, steps) * schedule.fallen(falls)
