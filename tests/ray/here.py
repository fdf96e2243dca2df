"""Hosts of shards without processes."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

from mtl.train import Cohort, Member, Settings
from tests.tiny import Tiny


@dataclass
class Call:
    """What it returns, and when it is over."""

    returned: Any
    due: float = 0.0


class Here:
    """Each segment of shard k takes `paces[k]` of its clock; nothing else takes time."""

    def __init__(self, shards, paces=None, benchmark=Tiny, steps=40):
        self.shards, self.cohorts = shards, {}
        self.paces, self.now = paces or [1.0] * shards, 0.0
        self.benchmark, self.splits = benchmark(), benchmark().load()
        self.settings = Settings(steps=steps, batch_size=32)

    def _cohort(self, members, saved):
        cohort = Cohort(self.benchmark, self.splits, members, self.settings, told=True)
        if saved is not None:
            cohort.load_state_dict(copy.deepcopy(saved))
        return cohort

    def make(self, shard, members, saved=None):
        self.cohorts[shard] = self._cohort(members, saved)
        return Call(None)

    def drop(self, shard):
        del self.cohorts[shard]
        return Call(None)

    def call(self, shard, method, *arguments, **options):
        return Call(copy.deepcopy(getattr(self.cohorts[shard], method)(*arguments, **options)))

    def train(self, shard, steps):
        self.cohorts[shard].advance(steps)
        return Call(self.cohorts[shard].evaluate(), self.now + self.paces[shard])

    def extracted(self, shard, saved, number):
        assert shard in self.cohorts
        return Call(self._cohort([Member(**saved["members"][number])], saved).extract(number))

    def gather(self, calls):
        return [call.returned for call in calls]

    def done(self, calls):
        first = min(call.due for call in calls)
        self.now = max(self.now, first)
        return [place for place, call in enumerate(calls) if call.due == first]

    def where(self, shard):
        return f"node {shard}"
