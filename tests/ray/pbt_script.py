"""`mtl.ray.PBT` on a trainable that is not ours; prints what became of the trials, JSON of a search a line."""

from __future__ import annotations

import json
import logging
import math
import sys
from pathlib import Path
from typing import Any

import ray
from ray import tune

import mtl.ray


class Climb(tune.Trainable):
    """Rises by its rate a step; NaN from the second step on where the rate is above 1, as stock PBT lets it."""

    def setup(self, config):
        self.rate, self.height, self.made = config["rate"], 0.0, 0

    def reset_config(self, new_config):
        self.setup(new_config)
        return True

    def step(self):
        self.made += 1
        self.height += self.rate if self.rate <= 1 else math.nan
        return {"height": self.height, "done": self.made >= 6}

    def save_checkpoint(self, folder):
        (Path(folder) / "state.json").write_text(json.dumps([self.height, self.made]))

    def load_checkpoint(self, folder):
        self.height, self.made = json.loads((Path(folder) / "state.json").read_text())


def main(folder: str) -> None:
    """Searches that wait for all trials, and that do not."""
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level=logging.CRITICAL)
    for synch in (True, False):
        print(json.dumps({"synch": synch, "trials": search(folder, synch)}))
    ray.shutdown()


def search(folder: str, synch: bool) -> list[dict[str, Any]]:
    """What became of four trials, of which two are broken from the start."""
    starts = [{"rate": rate, "seed": seed} for seed, rate in enumerate([0.5, 0.9, 5.0, 7.0])]
    pbt = mtl.ray.PBT(hyperparam_mutations={"rate": tune.uniform(0.1, 1)}, synch=synch)
    tuner = tune.Tuner(
        Climb,
        param_space=tune.grid_search(starts),
        tune_config=tune.TuneConfig(metric="height", mode="max", scheduler=pbt, reuse_actors=True),
        run_config=tune.RunConfig(name=f"climb-{synch}", storage_path=folder, verbose=0),
    )
    return [{**r.config, **{k: r.metrics[k] for k in ("height", "done")}} for r in tuner.fit()]


if __name__ == "__main__":
    main(sys.argv[1])
