"""Populations: many runs of one model trained together in one process."""

from mtl.population.cohort import Cohort
from mtl.population.member import Evaluation, Member
from mtl.population.population import Population

__all__ = ["Cohort", "Evaluation", "Member", "Population"]
