"""Strategies made of strategies: chains, and wrappers that hold, smooth, normalise or clip the weights."""

from mtl.strategies.combinators.chain import Chain, chain
from mtl.strategies.combinators.clip import Clip
from mtl.strategies.combinators.ema import EMA, ema
from mtl.strategies.combinators.every import Every, every
from mtl.strategies.combinators.normalize import Normalize
from mtl.strategies.combinators.wrapper import Wrapper

#: Wrappers by the name that a spec uses; each wraps everything to its left.
COMBINATORS: dict[str, type[Wrapper]] = {cls.name: cls for cls in (Every, EMA, Normalize, Clip)}

__all__ = ["COMBINATORS", "EMA", "Chain", "Clip", "Every", "Normalize", "Wrapper", "chain", "ema", "every"]
