"""Random searches, drawn from seeds: the options of `mtl search` on a tiny benchmark of random runs."""

from __future__ import annotations

import random
from pathlib import Path

from mtl.hyperparameters import domains
from mtl.losses import make_loss
from mtl.search.options import SPECIAL
from mtl.train import Settings
from tests.train import any_run

FILE = Path(any_run.__file__)
STEPS = 12

#: Methods, and the options that each hears of.
_METHODS: dict[str, tuple[str, ...]] = {
    "random": (),
    "grid": ("grid_points",),
    "pbt": ("quantile", "burn_in", "resample"),
    "pb2": ("quantile", "burn_in", "resample"),
    "epbt": ("burn_in",),
    "asha": ("eta",),
    "hyperband": ("eta",),
    "bohb": ("eta",),
    "tpe": (),
    "gp": (),
    "nsga2": (),
    "cmaes": (),
    "evolution": (),
}
_SEVERAL = ("grid", "random", "tpe", "gp", "nsga2")
_COPYING = ("pbt", "pb2", "epbt")

#: Ranges of numbers.
_NUMBERS = {
    "lr": "1e-3:1e-1:log",
    "weight_decay": "1e-4:0.1",
    "momentum": "0:0.95",
    "warmup": "0:5",
    "clip": "0.05:1",
    "clip_value": "0.01:0.3",
    "ema": "0.3:0.99",
    "swa": "0.1:0.9",
    "l1": "0:0.01",
    "l2": "1e-6:0.01",
    "spectral": "0.001:0.1",
    "orthogonal": "0:0.01",
    "head_lr": "1e-3:1e-1",
    "head_weight_decay": "0:0.1",
    "head_l1": "0:0.01",
    "head_l2": "0:0.01",
    "head_dropout": "0.1:0.5",
    "dropout": "0.1:0.5",
    "noise": "0:0.3",
    "mixup": "0.1:1",
    "label_smoothing": "0:0.3",
    "batch_size": "4:10",
}
_PLACES = {"lr": "1e-3:1e-1:log", "weight_decay": "0:0.1", "l1": "0:0.01", "l2": "0:0.01", "dropout": "0:0.5"}
_CHOICES = {
    "schedule": ("constant", "cosine", "linear", "step:every=0.3", "exponential", "one-cycle", "plateau:patience=0"),
    "batch_size": ("4", "8", "30"),
    "head_weighting": ("own", "weighted"),
    "scale": ("raw", "sum_to_k"),
    "clip": ("none", "0.1", "0.5"),
    "ema": ("none", "0.5"),
    "swa": ("none", "0.5"),
    "mixup": ("0", "0.4"),
    "model": ("mlp:width=4,depth=2", "mlp:width=6,depth=1"),
    "architecture": ("hard-sharing", "cross-stitch", "mmoe:experts=2", "cgc", "mtan:norm=none"),
    "dropout": ("none", "0.3"),
    "head_lr": ("none", "0.02"),
}
_FIXED = {
    "lr": "0.02",
    "weight_decay": "0.01",
    "batch_size": "7",
    "schedule": "cosine",
    "warmup": "3",
    "ema": "0.8",
    "swa": "0.5",
    "clip": "0.3",
    "head_weighting": "own",
    "scale": "raw",
    "mixup": "0.3",
    "head_lr": "0.03",
    "noise": "0.1",
    "label_smoothing": "0.1",
    "optimizer": "sgd:nesterov=true",
    "accumulate": "2",
    "nan_limit": "3",
}


def _some(draw: random.Random, names: list[str], most: int) -> list[str]:
    return draw.sample(names, min(len(names), draw.randint(0, most)))


def _loss_ranges(benchmark: any_run.Mixed, draw: random.Random) -> dict[str, str]:
    """Losses to choose among, some with a parameter that is searched."""
    found: dict[str, str] = {}
    for task in benchmark.tasks:
        if draw.random() < 0.5:
            continue
        apart = task.name != "yes" and draw.random() < 0.1
        known = [spec for spec in any_run.LOSSES[task.name] if spec.startswith("apart") == apart]
        specs = [any_run.filled(spec, draw) for spec in draw.sample(known, min(len(known), draw.randint(1, 3)))]
        if draw.random() < 0.3:
            specs = [
                spec.partition(":")[0] if spec[0].isalpha() and "+" not in spec and not apart else spec
                for spec in specs
            ]
        found[f"loss.{task.name}"] = ",".join(dict.fromkeys(specs))
        keys = sorted(
            {
                key: domain
                for spec in specs
                for key, domain in domains(make_loss(spec)).items()
                if domain.search and not domain.choices
            }.items()
        )
        for key, domain in keys:
            if draw.random() < 0.2:
                low, high = domain.search
                found[f"loss.{task.name}.{key}"] = draw.choice((f"{low}:{high}", "default", f"{high}"))
    return found


def _optimizers(draw: random.Random, *, alike: bool) -> str:
    known = [text for text in any_run.OPTIMIZERS if not (alike and text.startswith("muon"))]
    return ",".join(any_run.filled(text, draw) for text in draw.sample(known, draw.randint(1, 3)))


def draw_search(seed: int, method: str = "") -> tuple[str, list[str]]:
    """A benchmark, and options of `mtl search` for it; not every search is allowed.

    Args:
        seed: of the draw.
        method: the method; drawn too where it is empty.
    """
    draw = random.Random(f"search {seed}")
    method = method or draw.choice(sorted(_METHODS))
    made = draw.choice(any_run.BENCHMARKS)
    benchmark = made()
    ranges = _loss_ranges(benchmark, draw)
    weighed = sum(2 if ranges.get(f"loss.{task.name}", "").startswith("apart") else 1 for task in benchmark.tasks)
    strategies = {any_run.draw_strategy(weighed, draw, draw) for _ in range(draw.randint(1, 3))}
    if draw.random() < 0.6:
        ranges["optimizer"] = _optimizers(draw, alike=method in _COPYING)
    own_model, pictures = made is any_run.Normed, made is any_run.Pictures
    modelled = {"model", "architecture", "dropout", "head_dropout"}
    left_out = modelled if own_model else {"model", "architecture", "dropout"} if pictures else set()
    left_out |= {"model", "architecture"} if method in _COPYING else set()
    for name in _some(draw, sorted({*_NUMBERS} - left_out), 5):
        ranges[name] = _NUMBERS[name]
    for name in _some(draw, sorted({*_CHOICES} - left_out), 3):
        kept = draw.sample(_CHOICES[name], draw.randint(1, min(3, len(_CHOICES[name]))))
        ranges[name] = ",".join(kept)
    if draw.random() < 0.2 and not own_model:
        key = draw.choice(sorted(_PLACES))
        ranges[f"heads.{draw.choice(benchmark.tasks).name}.{key}"] = _PLACES[key]
    words = ["--strategies", *sorted(strategies), f"--method={method}", f"--steps={STEPS}", f"--seed={seed % 5}"]
    if draw.random() < 0.3:
        words += ["--objective", *_objectives(benchmark, draw, several=method in _SEVERAL)]
    if method != "grid":
        words.append(f"--members={draw.randint(4 if method in ('cmaes', 'gp') else 2, 5)}")
        if method not in _COPYING and draw.random() < 0.7:
            words.append(f"--trials={draw.randint(4, 9)}")
    else:
        words.append("--members=3")
    words.append(f"--interval={draw.choice((2, 3, 4, 5)) if method != 'asha' else draw.choice((2, 3, 4))}")
    values = {
        "quantile": f"{draw.uniform(0.1, 0.5):.2f}",
        "burn_in": str(draw.randint(0, 6)),
        "resample": f"{draw.uniform(0, 1):.2f}",
        "eta": draw.choice(("1.5", "2", "3")),
        "grid_points": "1",
    }
    assert {*values} == SPECIAL
    for name in _METHODS[method]:
        if name == "grid_points" or draw.random() < 0.5:
            words.append(f"--{name.replace('_', '-')}={values[name]}")
    for name in _some(draw, sorted({*_FIXED} - {*ranges}), 3):
        words.append(f"--{name.replace('_', '-')}={_FIXED[name]}")
    assert {*_NUMBERS, *_CHOICES, *_FIXED} <= {*domains(Settings)}
    if ranges:
        words += ["--search", *(f"{name}={text}" for name, text in ranges.items())]
    return f"{FILE}:{made.__name__}", words


def draw_shards(seed: int, words: list[str]) -> list[str]:
    """Options of `mtl search --engine ray` for a search that was drawn; those that do not wait for each other or not.

    Args:
        seed: of the draw.
        words: the options of the search.
    """
    draw = random.Random(f"shards {seed}")
    alone = ["--asynchronous"] if "--method=pbt" in words and draw.random() < 0.5 else []
    if alone and (interval := next(word for word in words if word.startswith("--interval"))) == "--interval=5":
        words[words.index(interval)] = "--interval=4"  # a divisor of the steps is wanted
    return ["--engine=ray", f"--shards={draw.randint(2, 4)}", *alone]


def _objectives(benchmark: any_run.Mixed, draw: random.Random, *, several: bool) -> list[str]:
    known = ["selection", *(f"{task.name}/{metric.name}" for task in benchmark.tasks for metric in task.metrics)]
    known += ["delta_m"] if draw.random() < 0.3 else []
    return draw.sample(known, draw.randint(1, min(3, len(known))) if several else 1)
