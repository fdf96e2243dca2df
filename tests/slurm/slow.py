"""A benchmark of a user's own that takes its time at every step, without using the processor."""

from __future__ import annotations

import os
import time

import torch

from mtl.benchmarks import Task
from mtl.losses import MSE
from mtl.metrics import mae
from tests.tiny import TinyWithDropout


class _Slow:
    def __call__(self, prediction, target):
        if torch.is_grad_enabled():
            time.sleep(float(os.environ.get("SLEEP", "0")))
        return MSE()(prediction, target)

    def __str__(self):
        return "slow"


class Slow(TinyWithDropout):
    """Steps take `SLEEP` seconds, of the environment, more than they need."""

    name = "slow"
    tasks = (TinyWithDropout.tasks[0], Task("product", _Slow(), (mae,)))

    def load(self):
        print("GPU", os.environ.get("CUDA_VISIBLE_DEVICES"))
        return super().load()
