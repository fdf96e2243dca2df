"""Many runs as one program."""

from mtl.population.member import Member

__all__ = ["Member"]
