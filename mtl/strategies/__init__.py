"""Every weighting strategy by name, and the specs that name them: `gradnorm:alpha=0.12`, `uncertainty+mgda`."""

from mtl.strategies._registry import REGISTRY
from mtl.strategies._spec import hyperparameters_said, make, units
from mtl.strategies._torchjd import from_torchjd

__all__ = ["REGISTRY", "from_torchjd", "hyperparameters_said", "make", "units"]
