"""Weigh the losses of multi-task training: strategies, a balancer for any loop, a search and a fair comparison."""

from mtl.balancer import Balancer
from mtl.combinators import chain, ema, every
from mtl.strategies import make
from mtl.strategy import Strategy

__version__ = "0.1.0"
__all__ = ["Balancer", "Strategy", "chain", "ema", "every", "make"]
