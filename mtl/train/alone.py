"""A member by itself, trained by the plain trainer: for what `vmap` cannot do. It behaves as a `Shard` of one."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from mtl.train import checkpoint
from mtl.train.evaluate import measure_model, selection
from mtl.train.member import Evaluation, Resolved
from mtl.train.record import Record
from mtl.train.shard import Setting
from mtl.train.trainer import Result, Run


class Alone:
    """One run with the random state of its own.

    Args:
        setting: benchmark, data and device.
        members: exactly one.
    """

    vmapped = False

    def __init__(self, setting: Setting, members: Sequence[Resolved]) -> None:
        (self.who,) = members
        self.setting = setting
        with torch.random.fork_rng(self._devices()):
            self.run = Run(
                setting.benchmark,
                setting.splits,
                self.who.strategy,
                self.who.settings,
                self.who.member.seed,
                self.who.tasks,
                setting.device,
            )
            self.run.reference = setting.reference
            self._random = checkpoint.random_state()

    def _devices(self) -> list[torch.device]:
        return [self.setting.device] if self.setting.device.type == "cuda" else []

    @property
    def record(self) -> Record:
        """The run's curves and best evaluation."""
        return self.run.record

    def step(self) -> None:
        """One optimizer step; `conclude` is to follow."""
        with torch.random.fork_rng(self._devices()):
            checkpoint.restore_random_state(self._random)
            self.run.step()
            self._random = checkpoint.random_state()

    def conclude(self) -> None:
        """Make the evaluation that falls on the end of the step just made."""
        if self.run.at_evaluation() and not self.setting.told:
            with torch.random.fork_rng(self._devices()):
                checkpoint.restore_random_state(self._random)
                self.run.evaluate()
                self._random = checkpoint.random_state()

    def finished(self, row: int) -> bool:  # noqa: ARG002
        """Whether there is nothing left to do."""
        return self.run.finished()

    def fail(self, reason: str) -> None:
        """The run cannot go on."""
        self.record.failure = reason

    def evaluations(self) -> list[Evaluation]:
        """The run at its present parameters, on validation data."""
        found = measure_model(self.run.model, self.who.tasks, self.setting.splits.validation)
        score = selection(self.setting.tasks, found.metrics, self.setting.reference)
        self.record.failure = failure = self.record.failure or found.failure
        if self.setting.told:
            self.record.note(found.losses, found.metrics, score)
        finite = self.run.sound() and not failure
        return [Evaluation(score, found.metrics, finite, self.record.newest(), failure)]

    def remember(self, row: int) -> None:  # noqa: ARG002
        """The present parameters, evaluated just now, are the best."""
        self.record.remember(self.record.history["validation_selection"][-1])
        self.run.best_model = {name: value.detach().clone() for name, value in self.run.model.state_dict().items()}

    def results(self) -> list[Result]:
        """The run's result; it can go on afterwards."""
        present = {name: value.clone() for name, value in self.run.model.state_dict().items()}
        found = self.run.result()
        self.run.model.load_state_dict(present)
        return [found]

    def copy(self) -> Alone:
        """Another run in the same state."""
        copied = Alone(self.setting, [self.who])
        copied.load_state_dict(copy.deepcopy(self.state_dict()))
        return copied

    def exploit(self, source: Alone, *, best: bool) -> None:
        """Take over the state of a run of the same structure, but for its random numbers, settings and cost.

        With `best` its best evaluation too.
        """
        saved, own = source.run.state(), self.run.balancer.state_dict()
        self.run.model.load_state_dict(saved["model"])
        self._load_optimizer(saved["optimizer"])
        self._load_balancer(saved["balancer"], own)
        self.run.last_losses = saved["last_losses"]
        self.record.go_on_from(source.record)
        if best:
            self.run.best_model = saved["best_model"]
            self.record.follow(source.record)

    def restructured(self, who: Resolved) -> Alone:
        """The same run with other settings: same parameters, and what else of its state still has its form."""
        moved = Alone(self.setting, [who])
        saved = self.run.state()
        try:
            moved.run.model.load_state_dict(saved["model"])
        except RuntimeError as error:
            raise ValueError("a member cannot keep its parameters: the model of its new settings has others") from error
        if self.who.settings.optimizer == who.settings.optimizer:
            moved._load_optimizer(saved["optimizer"])
        if type(self.who.strategy) is type(who.strategy):
            moved._load_balancer(saved["balancer"], saved["balancer"])
        total, patience = moved.record.total, moved.record.patience
        moved.run.record, moved.run.best_model, moved._random = self.record, self.run.best_model, self._random
        moved.run.last_losses = self.run.last_losses
        moved.record.total, moved.record.patience = total, patience
        moved.run.schedule.last_epoch = self.run.schedule.last_epoch
        for group in moved.run.optimizer.param_groups:
            group["lr"] = who.settings.lr * who.settings.factor(self.record.step, total)
        return moved

    def _load_optimizer(self, saved: Mapping[str, Any]) -> None:
        groups = [
            {**group, "params": old["params"]}
            for group, old in zip(self.run.optimizer.state_dict()["param_groups"], saved["param_groups"], strict=True)
        ]
        self.run.optimizer.load_state_dict({"state": saved["state"], "param_groups": groups})

    def _load_balancer(self, saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
        kept = {name: own[name] for name in ("noise", "steps", "passes")}
        self.run.balancer.load_state_dict({**saved, **kept, "strategy": str(self.who.strategy)})

    def state_dict(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {**self.run.state(), "random": self._random}

    def load_state_dict(self, saved: dict[str, Any]) -> None:
        """Continue from `state_dict()`."""
        with torch.random.fork_rng(self._devices()):
            self.run.load(saved)
        self._random = saved["random"]
