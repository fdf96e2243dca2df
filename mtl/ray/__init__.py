"""Searches on many devices and nodes, and Ray Tune. Ray is loaded when it is needed.

The names for those who write a Ray Tune script of their own:

    tuner = tune.Tuner(
        mtl.ray.trainable("multidigits", settings={"epochs": 5}),
        param_space=mtl.ray.param_space("multidigits", ["equal", "gradnorm"]),
        tune_config=tune.TuneConfig(num_samples=8, metric="selection", mode="max"),
    )
    mtl.ray.result_dir(tuner.fit(), "runs/mine")
"""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from mtl.extras import install

#: The module of each name, and what it is called there where that is another name.
_WHERE = {
    "trainable": "mtl.ray.tune.trainable",
    "param_space": "mtl.ray.tune.space",
    "space_of": "mtl.ray.tune.space",
    "mutations": "mtl.ray.tune.space",
    "PBT": "mtl.ray.tune.pbt:TunePBT",
    "result_dir": "mtl.ray.tune.results",
    "callback": "mtl.ray.tune.logging",
}
__all__ = [*_WHERE]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'mtl.ray' has no attribute {name!r}")
    if importlib.util.find_spec("ray") is None:
        raise ImportError(f"mtl.ray.{name} needs Ray Tune, which is not installed: {install('ray')}")
    module, _, attribute = _WHERE[name].partition(":")
    return getattr(importlib.import_module(module), attribute or name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_WHERE])
