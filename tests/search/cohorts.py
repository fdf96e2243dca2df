"""A population in closed form, for tests of whatever drives one."""

from __future__ import annotations

import copy
import math
from types import SimpleNamespace

from mtl.train import Result


class ToyCohort:
    """Each member descends theta^2 with its learning rate: theta <- (1 - 2 lr) theta, from 1 + seed / 100.

    The score is -theta^2; above lr = 1 it diverges. A member with weight decay of 0.0123 turns NaN after 10 steps.
    """

    def __init__(self, members):
        self.members, self.rows = [], []
        self.add(members)

    def add(self, members):
        self.members += members
        self.rows += [{"theta": 1 + m.seed / 100, "step": 0, "best": 1 + m.seed / 100, "at": 0} for m in members]

    def advance(self, steps, should_stop=None):  # noqa: ARG002
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
        return SimpleNamespace(
            selection=score if finite else -math.inf, metrics=metrics, finite=finite, curves={}, failure=""
        )

    def remember(self, numbers):
        for number in numbers:
            self.rows[number] |= {"best": self.rows[number]["theta"], "at": self.rows[number]["step"]}

    def exploit(self, sources, keeping=()):
        taken = {target: dict(self.rows[source]) for target, source in sources.items()}
        for target, row in taken.items():
            own = {name: self.rows[target][name] for name in ("best", "at")} if target in keeping else {}
            self.rows[target] = row | own

    def replace(self, changes):
        for index, member in changes.items():
            self.members[index] = member

    def keep(self, indices):
        self.members = [self.members[index] for index in indices]
        self.rows = [self.rows[index] for index in indices]

    def results(self, folds=0):  # noqa: ARG002
        found = []
        for row in self.rows:
            evaluation = self._evaluation({"theta": row["best"]})
            status = "done" if math.isfinite(row["theta"]) else "diverged"
            cost = {"steps": row["step"], "forwards": row["step"], "backwards": row["step"], "seconds": 0.0}
            found.append(
                Result(status, evaluation.metrics, evaluation.metrics, evaluation.selection, row["at"], cost, {})
            )
        return found

    def state_dict(self):
        return {"rows": copy.deepcopy(self.rows)}

    def load_state_dict(self, saved):
        self.rows = copy.deepcopy(saved["rows"])
