"""What a search varies: parameters, when they exist, how they are written, and how they are drawn."""

from mtl.search.space.dimension import Condition, Dimension
from mtl.search.space.space import Space
from mtl.train.values import Values, make_member

__all__ = ["Condition", "Dimension", "Space", "Values", "make_member"]
