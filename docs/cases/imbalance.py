"""Who earns more than 50,000 dollars? Two classes, of which one has 6 % of the examples."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch

from mtl.benchmarks import Benchmark, Split, Splits, Task, find_benchmark
from mtl.losses import make_loss
from mtl.metrics import accuracy, balanced_accuracy, macro_f1


class Income(Benchmark):
    """Income of `census` alone, from 20,000 of its persons; 10,000 to select by, and the whole original test."""

    name = "income"
    trunk = "table:codes=498,width=64"
    recipe: ClassVar[Mapping[str, Any]] = {"steps": 400, "batch_size": 256, "lr": 2e-3}
    tasks = (Task("income", make_loss("cross-entropy"), (macro_f1, balanced_accuracy, accuracy), outputs=2),)

    def load(self) -> Splits:
        census = find_benchmark("census").load()

        def first(split: Split, number: int | None) -> Split:
            inputs = {name: values[:number] for name, values in split.inputs.items()}
            return Split(inputs, {"income": split.targets["income"][:number].to(torch.int64)})

        return Splits(first(census.train, 20_000), first(census.validation, 10_000), first(census.test, None))
