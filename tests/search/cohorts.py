"""Cohorts for tests: a toy in closed form, and the trainer one member at a time."""

from __future__ import annotations

import copy
import dataclasses
import math
from dataclasses import dataclass
from types import SimpleNamespace

import torch

from mtl.losses import LOSSES
from mtl.strategies import make
from mtl.train import Result
from mtl.train.evaluate import evaluate, selection
from mtl.train.trainer import _Run


class ToyCohort:
    """Each member descends theta^2 with its learning rate: theta <- (1 - 2 lr) theta, from 1 + seed / 100.

    The score is -theta^2; above lr = 1 it diverges. A member with weight decay of 0.0123 turns NaN after 10 steps.
    """

    def __init__(self, members):
        self.members, self.rows = [], []
        self.add(members)

    def add(self, members):
        self.members += members
        self.rows += [{"theta": 1 + member.seed / 100, "step": 0} for member in members]

    def advance(self, steps):
        for member, row in zip(self.members, self.rows, strict=True):
            row["theta"] *= (1 - 2 * member.settings["lr"]) ** steps
            row["step"] += steps
            if member.settings.get("weight_decay") == 0.0123 and row["step"] >= 10:
                row["theta"] = math.nan

    def evaluate(self):
        return [self._evaluation(row) for row in self.rows]

    @staticmethod
    def _evaluation(row):
        score = -(row["theta"] ** 2)
        metrics = {"sign": {"accuracy": 1 + score}, "product": {"mae": -score, "r2": score}}
        finite = math.isfinite(score)
        return SimpleNamespace(selection=score if finite else -math.inf, metrics=metrics, finite=finite)

    def exploit(self, sources):
        taken = {target: dict(self.rows[source]) for target, source in sources.items()}
        for target, row in taken.items():
            self.rows[target] = row

    def replace(self, changes):
        for index, member in changes.items():
            self.members[index] = member

    def keep(self, indices):
        self.members = [self.members[index] for index in indices]
        self.rows = [self.rows[index] for index in indices]

    def results(self):
        found = []
        for row in self.rows:
            evaluation = self._evaluation(row)
            status = "done" if evaluation.finite else "diverged"
            cost = {"steps": row["step"], "forwards": row["step"], "backwards": row["step"], "seconds": 0.0}
            found.append(
                Result(status, evaluation.metrics, evaluation.metrics, evaluation.selection, row["step"], cost, {})
            )
        return found

    def state_dict(self):
        return {"rows": copy.deepcopy(self.rows)}

    def load_state_dict(self, saved):
        self.rows = copy.deepcopy(saved["rows"])


@dataclass
class _Evaluation:
    selection: float
    metrics: dict
    finite: bool


class OneByOne:
    """The trainer's own runs, one after another: what a population must equal."""

    def __init__(self, benchmark, splits, members, settings):
        self.benchmark, self.splits, self.settings = benchmark, splits, settings
        self.members, self.runs = [], []
        self.add(members)

    def add(self, members):
        self.members += members
        self.runs += [self._run(member) for member in members]

    def _run(self, member):
        tasks = []
        for task in self.benchmark.tasks:
            given = dict(member.losses.get(task.name, {}))
            cls = LOSSES[given.pop("name")] if "name" in given else type(task.loss)
            kept = (
                {}
                if cls is not type(task.loss)
                else {f.name: getattr(task.loss, f.name) for f in dataclasses.fields(cls)}
            )
            tasks.append(dataclasses.replace(task, loss=cls(**{**kept, **given})))
        settings = dataclasses.replace(self.settings, **member.settings)
        return _Run(self.benchmark, self.splits, make(member.strategy), settings, member.seed, tasks, "cpu")

    def advance(self, steps):
        for run in self.runs:
            for _ in range(steps):
                run.step()
                if run.at_evaluation():
                    run.evaluate()

    def evaluate(self):
        found = []
        for run in self.runs:
            _, metrics = evaluate(run.model, run.tasks, self.splits.validation)
            finite = all(bool(p.isfinite().all()) for p in run.model.parameters())
            score = selection(run.tasks, metrics, run.reference)
            found.append(_Evaluation(score if finite else -math.inf, metrics, finite))
        return found

    def exploit(self, sources):
        states = {target: copy.deepcopy(self.runs[source].state()) for target, source in sources.items()}
        for target, state in states.items():
            own = self.runs[target].balancer._noise.get_state()
            state["balancer"]["strategy"] = str(self.runs[target].balancer.strategy)
            self.runs[target].load(state)
            self.runs[target].balancer._noise.set_state(own)

    def replace(self, changes):
        for index, member in changes.items():
            state = copy.deepcopy(self.runs[index].state())
            fresh = self._run(member)
            if str(make(self.members[index].strategy).name) != make(member.strategy).name:
                state["balancer"] = fresh.balancer.state_dict()
            state["balancer"]["strategy"] = str(fresh.balancer.strategy)
            groups = fresh.optimizer.state_dict()["param_groups"]
            fresh.load(state)
            for group, values in zip(fresh.optimizer.param_groups, groups, strict=True):
                group.update({key: value for key, value in values.items() if key != "params"})
            self.members[index], self.runs[index] = member, fresh

    def keep(self, indices):
        self.members = [self.members[index] for index in indices]
        self.runs = [self.runs[index] for index in indices]

    def results(self):
        found = []
        for run in self.runs:
            kept = {name: value.clone() for name, value in run.model.state_dict().items()}
            found.append(run.result())
            run.model.load_state_dict(kept)
        return found

    def state_dict(self):
        return {"runs": [copy.deepcopy(run.state()) for run in self.runs]}

    def load_state_dict(self, saved):
        for run, state in zip(self.runs, saved["runs"], strict=True):
            run.load(state)
        torch.set_num_threads(1)
