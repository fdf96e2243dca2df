"""Small dense problems on K x K Gramians: batched, exact, of fixed cost, without host synchronisation.

Every function takes leading batch dimensions, computes in float64, and works under `torch.func.vmap`.
"""

from mtl.strategies.solvers.cagrad import cagrad
from mtl.strategies.solvers.cone import nonnegative_qp, project_cone
from mtl.strategies.solvers.fair import fair
from mtl.strategies.solvers.nash import nash
from mtl.strategies.solvers.simplex import min_norm, project_simplex, simplex_qp

__all__ = ["cagrad", "fair", "min_norm", "nash", "nonnegative_qp", "project_cone", "project_simplex", "simplex_qp"]
