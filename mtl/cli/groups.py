"""The strategies in groups by what they look at, with a line for each group that says which one to use."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from mtl.strategies.combinators import COMBINATORS
from mtl.strategies.strategy import Strategy

# What the signals that a strategy needs do not tell.
_NORMS = ("db-mtl", "gradnorm", "ntkmtl")
_PREFERENCE = ("cosmos", "epo", "ferero", "pareto-mtl", "pbi", "pmgda", "tchebycheff", "wc-mgda")
_MAIN_TASK = ("auxilearn", "gcs", "metabalance", "ol-aux", "pcd")

#: Groups by name, each with which of its strategies to use; names are in backticks.
GROUPS: Mapping[str, str] = MappingProxyType(
    {
        "losses only": "Begin here: a step costs what training costs. `equal` is what all others have to beat and "
        "`static` what a search of weights finds; `uncertainty` or `famo` if the losses have different scales.",
        "gradient norms": "If some tasks train faster than others: `gradnorm` with a tuned alpha, or `db-mtl`, which "
        "has nothing to tune.",
        "Gramian": "If the tasks' gradients conflict: `nash`, `fairgrad` or `imtl-g` where tasks differ in scale, "
        "`upgrad` or `cagrad` where their scales are right as they are. K backward passes, so try a few with "
        "`+every:n=10` too.",
        "more than the Gramian": "If losses on training data mislead: `auto-lambda` and `moml` read the validation "
        "data. If batches are small and gradients noisy: `moco`, `sdmgrad` or `modo`. `graddrop` decides in each "
        "coordinate.",
        "preference": "If you know the trade-off that you want: `tchebycheff` or `cosmos` cost no more than `equal`; "
        "`epo` and `pmgda` follow the preference more closely for K backward passes.",
        "one main task": "If only one task counts and the others are to help it: `gcs` leaves out what disagrees, "
        "`metabalance` evens the norms, `auxilearn` reads the validation data.",
        "combinators": "These change what stands to their left in a spec: `nash+every:n=10` makes it cheaper, "
        "`rlw+ema` steadier.",
    }
)


def group_of(cls: type[Strategy]) -> str:
    """The group of a strategy or combinator, a key of `GROUPS`."""
    if cls.name in COMBINATORS:
        return "combinators"
    for group, names in (("gradient norms", _NORMS), ("preference", _PREFERENCE), ("one main task", _MAIN_TASK)):
        if cls.name in names:
            return group
    if cls.needs & {"jacobian", "cross", "align", "implicit"}:
        return "more than the Gramian"
    return "Gramian" if "gramian" in cls.needs else "losses only"
