"""Benchmarks whose tasks have examples of their own, in memory and read one by one."""

import torch
from torch.utils.data import Dataset

from mtl.benchmarks import Benchmark, Split, Splits, Task
from mtl.losses import MSE, CrossEntropy
from mtl.metrics import accuracy, mae

SIZES = {"train": {"shop": 50, "web": 24, "lens": 7}, "validation": {"shop": 16, "web": 12, "lens": 9}}


class Domains(Benchmark):
    """Three kinds of numbers with unlike many examples; two tasks of classes, and one of numbers, some missing."""

    name = "domains"
    trunk = "mlp:width=12,depth=2"
    recipe = {"epochs": 3, "batch_size": 8, "lr": 0.02}  # noqa: RUF012
    tasks = (
        Task("shop", CrossEntropy(), (accuracy,), 3),
        Task("web", MSE(), (mae,)),
        Task("lens", CrossEntropy(), (accuracy,), 2),
    )

    def load(self) -> Splits:
        generator = torch.Generator().manual_seed(0)
        return Splits(*(self.split(SIZES.get(name, SIZES["validation"]), generator) for name in ("train", "", "test")))

    def split(self, sizes: dict[str, int], generator: torch.Generator) -> dict[str, Split]:
        inputs = {
            task: torch.randn(size, 5, generator=generator) + number
            for number, (task, size) in enumerate(sizes.items())
        }
        web = inputs["web"].sum(1)
        web[::5] = torch.nan
        return {
            "shop": Split(inputs["shop"], inputs["shop"][:, :3].argmax(1)),
            "web": Split(inputs["web"], {"web": web}),
            "lens": Split(inputs["lens"], (inputs["lens"].sum(1) > 10).long()),
        }


class OneByOne(Dataset):
    """The examples of a split, with what was read."""

    def __init__(self, split: Split, task: str) -> None:
        self.inputs, self.labels, self.read = split.inputs, split.targets, []
        if isinstance(self.labels, dict):
            self.labels = self.labels[task]

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index):
        self.read.append(index)
        return self.inputs[index], self.labels[index]


class DomainsOnDisk(Domains):
    """The same, read one example at a time."""

    name = "domains-on-disk"
    workers = 0

    def load(self) -> Splits:
        generator = torch.Generator().manual_seed(0)
        every = [self.split(SIZES.get(name, SIZES["validation"]), generator) for name in ("train", "", "test")]
        parts = ({task: OneByOne(split, task) for task, split in each.items()} for each in every)
        return Splits(*parts, workers=self.workers)
