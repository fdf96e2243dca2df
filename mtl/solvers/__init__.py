"""Small dense problems on K x K Gramians: batched, exact, of fixed cost, without host synchronisation.

Every function takes leading batch dimensions, computes in float64, and works under `torch.func.vmap`.
"""

from mtl.solvers.cagrad import cagrad
from mtl.solvers.cone import nonnegative_qp, project_cone
from mtl.solvers.fair import fair
from mtl.solvers.nash import nash
from mtl.solvers.simplex import min_norm, project_simplex, simplex_qp

__all__ = ["cagrad", "fair", "min_norm", "nash", "nonnegative_qp", "project_cone", "project_simplex", "simplex_qp"]
