"""Statistics of a comparison over seeds: intervals, delta m, mean ranks, paired tests.

None stands for a number that cannot be given (no run, one seed, an undefined metric); nothing here returns NaN.
"""

from mtl.stats.delta_m import comparable_metrics, delta_m_over_metrics, delta_m_over_tasks, relative_gains
from mtl.stats.examples import paired_over_examples
from mtl.stats.intervals import Interval, interval_against, mean_interval
from mtl.stats.ranking import mean_ranks, ranks
from mtl.stats.significance import Paired, holm, paired
from mtl.stats.values import Directions, Metrics, finite

__all__ = [
    "Directions",
    "Interval",
    "Metrics",
    "Paired",
    "comparable_metrics",
    "delta_m_over_metrics",
    "delta_m_over_tasks",
    "finite",
    "holm",
    "interval_against",
    "mean_interval",
    "mean_ranks",
    "paired",
    "paired_over_examples",
    "ranks",
    "relative_gains",
]
