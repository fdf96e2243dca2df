"""Populations: many runs of one model trained together in one process."""

from mtl.population.population import Population

__all__ = ["Population"]
