"""What somebody who wrote an unknown name may have meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_FEW = 12  # names that are read in a line
#: Words that other libraries and papers use, and our names for the same thing.
_SYNONYMS = {
    "bayes": ("tpe", "gp"),
    "bayesian": ("tpe", "gp"),
    "bayesian-optimization": ("tpe", "gp"),
    "bce": ("binary-cross-entropy",),
    "ce": ("cross-entropy",),
    "constantlr": ("constant",),
    "cosineannealinglr": ("cosine",),
    "cma-es": ("cmaes",),
    "cosine-similarity": ("cosine",),
    "dssim": ("ssim",),
    "distillation": ("kl",),
    "edges": ("gradient",),
    "exponentiallr": ("exponential",),
    "evolutionary": ("evolution", "cmaes"),
    "genetic": ("evolution", "nsga2"),
    "genetic-algorithm": ("evolution", "nsga2"),
    "grad-clip": ("clip",),
    "gradient-clipping": ("clip",),
    "iou": ("lovasz", "tversky"),
    "jaccard": ("lovasz", "tversky"),
    "l1": ("mae", "l1"),
    "l2": ("weight-decay",),
    "learning-rate": ("lr",),
    "linearlr": ("linear",),
    "max-epochs": ("epochs",),
    "max-steps": ("steps",),
    "multisteplr": ("step",),
    "nb": ("negative-binomial",),
    "normals": ("cosine",),
    "num-epochs": ("epochs",),
    "num-seeds": ("seeds",),
    "onecyclelr": ("one-cycle",),
    "optuna": ("tpe", "gp"),
    "pinball": ("quantile",),
    "polynomiallr": ("polynomial",),
    "reducelronplateau": ("plateau",),
    "scheduler": ("schedule",),
    "silog": ("scale-invariant",),
    "softmax": ("cross-entropy",),
    "squared": ("mse",),
    "steplr": ("step",),
    "successive-halving": ("asha", "hyperband"),
    "uniform": ("equal",),
    "unweighted": ("equal",),
    "uw": ("uncertainty", "uw-so"),
    "wd": ("weight-decay",),
    "weighted-cross-entropy": ("cross-entropy",),
}


def nearest(word: str, known: Iterable[str], otherwise: str = "", *, before: str = "") -> str:
    """A hint for a message: the known names most like `word` or of its meaning, or all of them if they are few.

    Names that begin with the word come first.

    Args:
        word: what was written.
        known: what there is.
        otherwise: said where none is alike and there are many, in place of the first of them.
        before: what each name is written with, such as the dashes of an option.
    """
    names = list(known)
    meant = _SYNONYMS.get(word.lower().replace("_", "-"), ())
    alike = [name for name in names if name.rpartition(".")[2].replace("_", "-") in meant]
    if not alike:
        begun = [name for name in names if word and name.startswith(word)]
        alike = [*dict.fromkeys([*begun, *difflib.get_close_matches(word, names, n=3, cutoff=0.5)])]
    if alike:
        return f"did you mean {', '.join(before + name for name in alike[:3])}?"
    more = len(names) - _FEW
    if more > 0 and otherwise:
        return otherwise
    said = ", ".join(before + name for name in names[:_FEW])
    return f"known are {said or 'none'}" + (f" and {more} more" if more > 0 else "")


def listed(what: str) -> str:
    """Where all of `what` are shown, which `mtl list` has."""
    return f"`mtl list {what}` shows all"
