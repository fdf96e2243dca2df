"""The peer of `mtl bench search`: Ray Tune's PBT, each member training with the balancer.

The trainable is reset in place (`reuse_actors`), which is the fastest that Ray offers; with the argument `fresh`, as by
default, every exploit and every change of turn starts a process. As many members run at once as there are cores.
"""

from __future__ import annotations

import logging
import os
import random
import sys
import warnings
from pathlib import Path
from typing import Any

os.environ |= {"RAY_AIR_NEW_OUTPUT": "0", "RAY_USAGE_STATS_ENABLED": "0", "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1"}
os.environ |= {"RAY_DEDUP_LOGS": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}

import numpy as np
import ray
import torch
from ray import tune
from ray.tune.schedulers import PopulationBasedTraining

from mtl.balancer import Balancer
from mtl.bench.search_problem import RANGES, STRATEGY, Size, SmallProblem
from mtl.losses import loss_of
from mtl.train.batches import Batches
from mtl.train.evaluate import constant_metrics, evaluate, selection


class TuneMember(tune.Trainable):
    """One run; a step of Tune is one interval of training."""

    def setup(self, config: dict[str, Any]) -> None:
        torch.set_num_threads(1)
        self.benchmark = SmallProblem()
        self.splits = self.benchmark.load()
        self.tasks = self.benchmark.tasks
        self.reference = constant_metrics(self.tasks, self.splits.train, self.splits.validation)
        self._begin(config)

    def _begin(self, config: dict[str, Any]) -> None:
        torch.manual_seed(config["seed"])
        self.model = self.benchmark.model(self.tasks, self.splits.train.first(2))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config["lr"], weight_decay=config["weight_decay"])
        self.batches = Batches(self.splits.train, 64, config["seed"])
        self.balancer = Balancer(
            STRATEGY,
            self.model.shared_parameters(),  # type: ignore[operator]
            lr=config["strategy.uncertainty.lr"],
        )
        self.made = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._begin(new_config)
        return True

    def step(self) -> dict[str, Any]:
        for _ in range(self.config["interval"]):
            batch = self.batches[self.made]
            self.optimizer.zero_grad(set_to_none=True)
            predicted, labels = self.model(batch.inputs), batch.targets
            self.balancer.backward({t.name: loss_of(t.loss, predicted[t.name], labels[t.name]) for t in self.tasks})
            self.optimizer.step()
            self.made += 1
        _, metrics = evaluate(self.model, self.tasks, self.splits.validation)
        score = selection(self.tasks, metrics, self.reference)
        return {"score": score, "made": self.made, "done": self.made >= self.config["steps"]}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        state = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict(), "made": self.made}
        torch.save({**state, "balancer": self.balancer.state_dict()}, Path(checkpoint_dir) / "state.pt")

    def load_checkpoint(self, checkpoint_dir: str) -> None:  # type: ignore[override]
        saved = torch.load(Path(checkpoint_dir) / "state.pt", weights_only=True)
        self.model.load_state_dict(saved["model"])
        self.optimizer.load_state_dict(saved["optimizer"])
        for group in self.optimizer.param_groups:  # the values are this member's, the rest is the other's
            group["lr"], group["weight_decay"] = self.config["lr"], self.config["weight_decay"]
        saved["balancer"]["strategy"] = str(self.balancer.strategy)
        self.balancer.load_state_dict(saved["balancer"])
        self.made = saved["made"]


def main(size: Size, *, reuse: bool) -> None:
    """Carry out the search and print the best score."""
    warnings.simplefilter("ignore")
    random.seed(0)
    rng = np.random.default_rng(0)
    ray.init(
        address="local",  # not that of somebody else on this machine
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=200 * 2**20,
    )
    starts = [
        {name: float(np.exp(rng.uniform(np.log(low), np.log(high)))) for name, (low, high) in RANGES.items()}
        for _ in range(size.members)
    ]
    members = [
        {**start, "seed": seed, "steps": size.steps, "interval": size.interval} for seed, start in enumerate(starts)
    ]
    scheduler = PopulationBasedTraining(
        time_attr="training_iteration",
        metric="score",
        mode="max",
        perturbation_interval=1,
        quantile_fraction=0.25,
        resample_probability=0.25,
        hyperparam_mutations={name: tune.loguniform(low, high) for name, (low, high) in RANGES.items()},
        log_config=False,
    )
    tuner = tune.Tuner(
        tune.with_resources(TuneMember, {"cpu": 1}),
        param_space=tune.grid_search(members),
        tune_config=tune.TuneConfig(scheduler=scheduler, reuse_actors=reuse),
        run_config=tune.RunConfig(
            name="bench",
            storage_path=str(Path(size.folder).resolve()),
            verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1),
        ),
    )
    results = tuner.fit()
    made = sorted((results[number].metrics or {}).get("made", 0) for number in range(len(results)))
    if made[0] < size.steps or len(made) < size.members:
        raise RuntimeError(f"Ray left runs unfinished: {made[:5]} ... of {len(made)}")
    print((results.get_best_result("score", "max").metrics or {}).get("score"))
    ray.shutdown()


if __name__ == "__main__":
    main(Size.read(sys.argv[1]), reuse="fresh" not in sys.argv[2:])
