"""Writes run directories as `mtl compare` does, with made-up but plausible numbers."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

NINE = ("equal", "uncertainty", "gradnorm", "famo", "mgda", "pcgrad", "cagrad", "nash", "rlw")
TASKS: dict[str, dict[str, Any]] = {
    "left": {"metrics": {"accuracy": {"higher_is_better": True}}, "primary": "accuracy"},
    "right": {"metrics": {"accuracy": {"higher_is_better": True}}, "primary": "accuracy"},
    "sum": {"metrics": {"mae": {"higher_is_better": False}, "r2": {"higher_is_better": True}}, "primary": "mae"},
}
PERFECT = {"accuracy": 0.93, "r2": 0.86, "mae": 0.62}


def write_study(
    directory: Path,
    strategies: Sequence[str] = NINE,
    seeds: Sequence[int] = (0, 1, 2),
    tasks: Mapping[str, dict[str, Any]] = TASKS,
    *,
    single: bool = True,
    diverged: Mapping[str, Sequence[int]] | None = None,
    config: Mapping[str, Any] | None = None,
    histories: bool = True,
) -> Path:
    """A finished comparison in `directory`."""
    (directory / "history").mkdir(parents=True, exist_ok=True)
    settings = {
        "command": "compare", "benchmark": "multidigits", "tasks": dict(tasks), "strategies": list(strategies),
        "seeds": list(seeds), "steps": 940, "epochs": 20, "reference": strategies[0], "head_weighting": "weighted",
        "scale": "sum_to_k", "optimizer": {"name": "adam", "lr": 0.001}, "batch_size": 64,
        "versions": {"python": "3.11.2", "torch": "2.13.0", "mtl": "0.1.0"},
        "machine": {"cpu_count": 2, "device": "cpu"},
    }  # fmt: skip
    (directory / "config.yaml").write_text(yaml.safe_dump({**settings, **(config or {})}, sort_keys=False))
    lines = []
    for seed in seeds:
        lines += [
            _run(directory, "single_task", "equal", seed, {task: about}, "done", False, task)
            for task, about in tasks.items()
            if single
        ]
        for spec in strategies:
            status = "diverged" if seed in (diverged or {}).get(spec, ()) else "done"
            lines.append(_run(directory, "final", spec, seed, tasks, status, histories))
    (directory / "results.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return directory


def _run(
    directory: Path,
    phase: str,
    spec: str,
    seed: int,
    tasks: Mapping[str, dict[str, Any]],
    status: str,
    histories: bool,
    task: str | None = None,
) -> dict[str, Any]:
    rng = random.Random(f"{phase}{spec}{task}{seed}")
    skill = random.Random(spec).gauss(0, 1) if phase == "final" else 0.3
    run = f"{phase}-{''.join(c if c.isalnum() else '-' for c in task or spec)}-{seed}"
    metrics: dict[str, dict[str, float | None]] = {}
    for name, about in tasks.items():
        shift = random.Random(f"{spec}{name}").gauss(skill, 0.7) + rng.gauss(0, 0.4)
        metrics[name] = {
            metric: None
            if status != "done"
            else PERFECT[metric] * (1 + (0.008 if entry["higher_is_better"] else -0.03) * shift)
            for metric, entry in about["metrics"].items()
        }
    gramian = spec.split(":")[0] in ("gradnorm", "mgda", "pcgrad", "cagrad", "nash")
    steps = 940 if status == "done" else 310
    passes = len(tasks) if gramian else 1
    if histories:
        (directory / "history" / f"{run}.json").write_text(json.dumps(_history(rng, spec, list(tasks), steps, skill)))
    return {
        "run": run, "benchmark": "multidigits", "strategy": spec, "hyperparameters": {}, "seed": seed, "phase": phase,
        "task": task, "metrics": metrics, "validation": metrics,
        "cost": {"steps": steps, "forwards": steps, "backwards": steps * passes,
                 "seconds": round(steps * 0.0031 * (1 + 0.55 * (passes - 1)) * rng.uniform(0.96, 1.06), 3),
                 "peak_memory_mb": 412.5 + 6 * passes},
        "status": status, "skipped": {} if status == "done" else {"nonfinite_loss": 21}, "best_step": steps - 47,
        "selection": 0.91, "history": f"history/{run}.json" if histories else None, "error": None,
    }  # fmt: skip


def _history(rng: random.Random, spec: str, tasks: list[str], steps: int, skill: float) -> dict[str, Any]:
    logged, evaluated = list(range(0, steps, max(1, steps // 200))), list(range(47, steps + 1, 47))
    targets = [1.0 if spec == "equal" else random.Random(f"{spec}{t}").uniform(0.2, 2.0) for t in tasks]
    noise = 0.3 if spec == "rlw" else 0.0 if spec == "equal" else 0.03
    weights = []
    for step in logged:
        raw = [max(0.01, 1 + (w - 1) * (1 - math.exp(-step / 200)) + rng.gauss(0, noise)) for w in targets]
        weights.append([len(tasks) * w / sum(raw) for w in raw])

    def losses(step: int) -> list[float]:
        return [
            (0.2 + 0.1 * k) + 2.2 * math.exp(-step / (150 + 30 * k)) - 0.01 * skill + rng.gauss(0, 0.01)
            for k in range(len(tasks))
        ]

    return {
        "tasks": tasks, "step": logged, "weights": weights, "train_loss": [losses(step) for step in logged],
        "eval_step": evaluated, "validation_loss": [losses(step) for step in evaluated],
        "validation_selection": [1 - math.exp(-step / 200) for step in evaluated],
    }  # fmt: skip
