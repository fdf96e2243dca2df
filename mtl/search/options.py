"""How a search is run: the options of all methods, declared once; the command line reads them without torch."""

from __future__ import annotations

from dataclasses import dataclass

from mtl.hyperparameters import domains, hyper, validate


@dataclass(frozen=True)
class MethodOptions:
    """How a search is run."""

    members: int = hyper(16, 1, doc="runs trained side by side")
    trials: int | None = hyper(
        None,
        1,
        doc="runs started in all; by default as many as members, four times as many of a method that learns from "
        "finished runs, or one of each bracket",
    )
    interval: int | None = hyper(None, 1, doc="steps from one decision to the next; by default a twentieth of the run")
    quantile: float = hyper(0.25, 0.0, 0.5, doc="share of the population that is replaced, of pbt and pb2")
    burn_in: int = hyper(0, 0, doc="first steps in which none is replaced unless it broke, of pbt, pb2 and epbt")
    resample: float = hyper(0.25, 0.0, 1.0, doc="probability that explore draws a value anew, of pbt and pb2")
    eta: float = hyper(3.0, 1.1, doc="one in so many survives a rung, of asha, hyperband and bohb")
    asynchronous: bool = hyper(False, doc="shards of --engine ray do not wait for each other, of pbt")
    grid_points: int = hyper(3, 1, doc="values of each number, of grid")

    def __post_init__(self) -> None:
        validate(self, "search")


#: Options that mean something to some methods alone.
SPECIAL = frozenset({"quantile", "burn_in", "resample", "eta", "grid_points"})
OPTIONS = tuple(domains(MethodOptions))
