"""The bargaining solution of Nash-MTL."""

from __future__ import annotations

import torch
from torch import Tensor

from mtl.strategies.solvers._early import settled
from mtl.strategies.solvers._scaling import equilibrate

#: Relative change of a Newton step after which the next, which squares it, is lost in rounding.
CONVERGED = 1e-9


def nash(gramian: Tensor, rounds: int = 20) -> Tensor:
    """Solve `(G alpha)_i = 1 / alpha_i` for alpha > 0 (Navon et al., ICML 2022, eq. 2).

    The equation says that alpha is the stationary point of the convex `a^T G a / 2 - sum_i log a_i`. With alpha_i = b_i
    / |g_i| it becomes `b_i (C b)_i = 1` for the matrix C of cosines, which no longer knows the scales of the gradients.
    Newton's method for the relative change of b has the matrix `diag(b) C diag(b) + I`, never smaller than the
    identity; the step 1 / (1 + m), m being the largest relative decrease, lowers the objective and keeps b positive
    without a search. The authors' convex-concave procedure calls a general solver up to 20 times for the same root, and
    stops at a residual of 1e-3. Two tasks have a closed form.

    Where no solution exists (opposed gradients) the objective falls forever: the result is finite, large in the tasks
    at odds, and leaves their sum near zero. A row of zeros is treated as orthogonal to the others and as long as the
    longest, since the limit of its weight is infinite; it has no say in the direction.

    Args:
        gramian: (..., K, K) symmetric positive semidefinite.
        rounds: Newton steps.

    Returns:
        (..., K) positive alpha in the dtype of `gramian`; proportional to c^(-1/2) under G -> c G.
    """
    unit, length, eye = equilibrate(gramian, zero_row=1.0, ridge=0.0)
    size = unit.shape[-1]
    if size <= 2:
        b = unit[..., 0, :].sum(-1, keepdim=True).rsqrt()
        return (b / length).to(gramian.dtype)
    # The best of all multiples of equal entries.
    b = (size / unit.sum((-2, -1))).sqrt()[..., None].expand_as(length)
    for _ in range(rounds):
        pull = b.unsqueeze(-1) * unit * b.unsqueeze(-2)
        factor, failed = torch.linalg.cholesky_ex(pull + eye)
        change = torch.cholesky_solve(1.0 - pull.sum(-1, keepdim=True), factor).squeeze(-1)
        # Rounding at the far end of an unbounded problem: stay.
        change = torch.where(failed.unsqueeze(-1) == 0, change, 0.0)
        length_of_step = 1.0 / (1.0 + (-change).amax(-1, keepdim=True).clamp(min=0))
        b = torch.addcmul(b, b, change * length_of_step)
        if settled(change.abs() <= CONVERGED):
            break
    return (b / length).to(gramian.dtype)
