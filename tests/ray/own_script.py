"""A Ray Tune script as a user writes it, with the three changes that docs/ray.md shows; run by a test."""

from __future__ import annotations

import sys

from ray import tune

import mtl.ray

SPEC, STRATEGIES = "tests/tiny.py:Tiny", ["equal", "gradnorm"]


def main(folder: str) -> None:
    """Search, and write a run directory."""
    space = mtl.ray.space_of(SPEC, STRATEGIES)
    tuner = tune.Tuner(
        mtl.ray.trainable(SPEC, settings={"epochs": 3}),
        param_space=mtl.ray.param_space(SPEC, STRATEGIES) | {"interval": 8},
        tune_config=tune.TuneConfig(
            metric="selection",
            mode="max",
            num_samples=4,
            reuse_actors=True,
            scheduler=mtl.ray.PBT(hyperparam_mutations=mtl.ray.mutations(space)),
        ),
        run_config=tune.RunConfig(
            name="mine", storage_path=f"{folder}/ray", callbacks=[mtl.ray.callback("offline")], verbose=0
        ),
    )
    mtl.ray.result_dir(tuner.fit(), f"{folder}/run")


if __name__ == "__main__":
    main(sys.argv[1])
