"""Benchmarks whose splits are data sets that read one example at a time."""

import random

import numpy as np
import torch
from torch.utils.data import Dataset, IterableDataset

from mtl.benchmarks import Splits
from tests.benchmarks.nested import Text


class Pairs(Dataset):
    """The examples of a split one by one; with `draws` noise is added that three generators draw."""

    def __init__(self, split, draws=False, broken=None):
        self.split, self.draws, self.broken, self.read = split, draws, broken, []

    def __len__(self):
        return len(self.split)

    def __getitem__(self, number):
        if number == self.broken:
            raise OSError("no such picture\nhere")
        self.read.append(number)
        inputs = {name: leaf[number] for name, leaf in self.split.inputs.items()}
        if self.draws:
            drawn = float(torch.rand(())) + np.random.rand() + random.random()
            inputs["numbers"] = inputs["numbers"] + 0.1 * drawn
        return inputs, {task: target[number] for task, target in self.split.targets.items()}


class OnDisk(Text):
    """The text benchmark, read from data sets."""

    name = "on-disk"
    options = {}  # noqa: RUF012
    draws = True

    def load(self):
        return Splits(*(Pairs(split, self.draws) for _, split in super().load().items()), **self.options)


class OnDiskWithWorkers(OnDisk):
    """The same, read by two processes."""

    options = {"workers": 2}  # noqa: RUF012


class Endless(IterableDataset):
    """Examples without numbers."""

    def __iter__(self):
        return iter(())
