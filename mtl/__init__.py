"""Weigh the losses of multi-task training: strategies, a balancer for any loop, a search and a fair comparison."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mtl.version import VERSION

if TYPE_CHECKING:
    from mtl.balancer import Balancer
    from mtl.strategies import make
    from mtl.strategies.combinators import chain, ema, every
    from mtl.strategies.strategy import Strategy

__version__ = VERSION
__all__ = ["Balancer", "Strategy", "chain", "ema", "every", "load", "make"]

# What `import mtl` gives is imported when it is first asked for, so that `mtl --help` does not wait for torch.
_NAMES = {
    "Balancer": "balancer",
    "Strategy": "strategies.strategy",
    "chain": "strategies.combinators",
    "ema": "strategies.combinators",
    "every": "strategies.combinators",
    "make": "strategies",
}
_PACKAGES = (
    *("balancer", "benchmarks", "hyperparameters", "losses", "metrics", "models"),
    *("population", "ray", "search", "stats", "strategies", "train"),
)


def load(directory: Any, run: str = "best") -> Any:
    """The model that a study has left, in evaluation mode on the CPU; see `mtl.study.models.load_model`.

    Args:
        directory: the `--out` of `mtl train`, `compare` or `search`.
        run: a run's name, of a study with `--keep-models all`.

    Raises:
        ValueError: the directory is not that of a study, or does not hold the run's weights.
    """
    return import_module("mtl.study.models").load_model(directory, run)


def __getattr__(name: str) -> Any:
    if name in _NAMES:
        return getattr(import_module(f"mtl.{_NAMES[name]}"), name)
    if name in _PACKAGES:
        return import_module(f"mtl.{name}")
    raise AttributeError(f"module 'mtl' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_NAMES, *_PACKAGES})
