"""Random searches by Ray Tune, drawn from seeds: what `any_search` draws, with more kinds of losses."""

from __future__ import annotations

import random
from pathlib import Path

from mtl.hyperparameters import domains
from mtl.losses import make_loss
from mtl.search.space.grammar import Listed, read_range
from mtl.strategies import make
from tests.losses import user_losses
from tests.search.any_search import FILE, draw_search
from tests.train import any_run

OWN = Path(user_losses.__file__)

#: Losses of one's own, learned before training, and of several parts, by task.
_LOSSES = {
    "kind": (
        "cross-entropy,learned:offline_steps=2,rate=0.001,hidden=3",
        "cross-entropy,learned:start=random,offline_steps=3,inner_steps=2,rate=0,hidden=3",
        "apart:cross-entropy+0.3*focal:gamma=2,apart:cross-entropy+0.5*dice",
    ),
    "amount": (
        f"{OWN}:logistic,{OWN}:Charbonnier:power=1.5",
        f"mse+0.3*{OWN}:logistic,huber",
        f"apart:mse+0.1*{OWN}:Charbonnier",
        "huber,learned:of=mse,offline_steps=2,rate=0.01,hidden=3",
    ),
}
_PARAMETERS = {"width": "0.5:2", "epsilon": "0.01:1:log", "power": "1:2", "delta": "0.2:2", "weight2": "0.1:1"}
_NONE = {"clip": "none,0.1,0.5", "ema": "none,0.5", "head_lr": "none,0.02", "head_weight_decay": "none,0.05"}
#: Options that a scheduler hears of, and those that are left out of others.
_HEARD = {"pbt": ("--quantile", "--burn-in", "--resample"), "none": ()}
_OTHER = ("--method", "--members", "--trials", "--grid-points", *_HEARD["pbt"])


def draw_tune(seed: int) -> tuple[str, list[str]]:
    """A benchmark, and options of `mtl search --engine tune` for it; not every search is allowed.

    Args:
        seed: of the draw.
    """
    draw = random.Random(f"tune {seed}")
    scheduler = draw.choice(("pbt", "pbt", "none"))
    _, words = draw_search(draw.randrange(10**6), "pbt")
    words, ranges = _divided(words)
    made = draw.choice((any_run.Mixed, any_run.One, any_run.Masked, any_run.Own))
    words = [word for word in words if not word.startswith(tuple({*_OTHER} - {*_HEARD[scheduler]}))]
    fixed = {word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")}
    ranges = {name: text for name, text in ranges.items() if name.partition(".")[0] not in ("loss", "heads")}
    ranges |= {name: _NONE[name] for name in draw.sample(sorted(_NONE), 2)}
    tasks = [task.name for task in made.tasks]
    for task in [task for task in tasks if task in _LOSSES]:
        ranges[f"loss.{task}"] = text = draw.choice(_LOSSES[task])
        known = read_range(f"loss.{task}", text)
        assert isinstance(known, Listed)
        having = {key for spec in known.choices for key in domains(make_loss(spec))}
        ranges |= {f"loss.{task}.{key}": _PARAMETERS[key] for key in sorted(having & {*_PARAMETERS})}
    if "ema" in ranges:
        ranges.pop("swa", None)
    if fixed & {"ema", "swa"}:
        ranges.pop("ema", None)
    ranges = {name: text for name, text in ranges.items() if name not in fixed}
    count = sum(2 if ranges.get(f"loss.{task}", "").startswith("apart") else 1 for task in tasks)
    strategies = [any_run.draw_strategy(count, draw, draw) for _ in range(2)]
    for spec in strategies:
        make(spec).check_tasks(count)
    words += ["--strategies", *dict.fromkeys(strategies), "--engine=tune", f"--scheduler={scheduler}"]
    words.append(f"--members={draw.randint(2, 4)}")
    return f"{FILE}:{made.__name__}", [*words, "--search", *(f"{name}={text}" for name, text in ranges.items())]


def _divided(words: list[str]) -> tuple[list[str], dict[str, str]]:
    """The options without strategies, objectives and ranges; and the ranges by name."""
    kept: list[str] = []
    ranges: dict[str, str] = {}
    option = ""
    for word in words:
        option = word if word.startswith("--") else option
        if option == "--search" and word != option:
            name, _, text = word.partition("=")
            ranges[name] = text
        elif option not in ("--search", "--strategies", "--objective"):
            kept.append(word)
    return kept, ranges
