"""The alpha-fair weights of FairGrad."""

from __future__ import annotations

import torch
from torch import Tensor

from mtl.strategies.solvers._early import settled
from mtl.strategies.solvers._scaling import equilibrate

#: Relative change of a Newton step after which the next, which squares it, is lost in rounding.
CONVERGED = 1e-9


def fair(gramian: Tensor, alpha: float | Tensor = 1.0, rounds: int | None = None) -> Tensor:
    """Solve `(G w)_i = w_i^(-1 / alpha)` for w > 0 (Ban & Ji, ICML 2024, eq. 4).

    With p = 1 / alpha the equation says that w is the stationary point of `w^T G w / 2 - sum_i w_i^(1-p) / (1-p)` (of
    the logarithm for p = 1, which is `nash`), convex for every alpha > 0: the root is unique, and Newton's method
    reaches it where the authors' general least-squares solver needs bounds and a start. In b_i = w_i |g_i|^(2/(1+p)),
    which is one for a lone task, the change relative to b has, up to a scaling, a matrix no smaller than p I. The step
    1 / (1 + max(1, (1+p)/2) m), m being the largest relative decrease, lowers the objective without a search. It starts
    from the best multiple of equal b, each task then set right for the others as they are.

    alpha between 0.5 and 2 is exact for norms that differ by 1e16; beyond, weights themselves leave any range (the
    smallest goes like a ratio of norms to the power alpha), and moderate ratios are meant. Opposed gradients and rows
    of zeros: as for `nash`.

    Args:
        gramian: (..., K, K) symmetric positive semidefinite.
        alpha: positive, a float or a tensor that broadcasts against (..., 1), such as one of no dimensions.
        rounds: Newton steps; by default 10 for two tasks, 16 up to ten, then 20.

    Returns:
        (..., K) positive weights in the dtype of `gramian`, proportional to c^(-alpha / (1 + alpha)) under G -> c G.
    """
    unit, length, eye = equilibrate(gramian, zero_row=1.0, ridge=0.0)
    p = 1.0 / torch.as_tensor(alpha, dtype=unit.dtype, device=unit.device)
    longest = length.amax(-1, keepdim=True)
    relative = length / longest
    # The equation for b: sum_j C_ij t_j b_j = t_i b_i^(-p). Columns, so that products need no reshaping.
    t = (relative ** ((p - 1) / (p + 1))).unsqueeze(-1)
    column = p.unsqueeze(-1)
    square, inverse, power = t * t, 1 / (1 + column), 1 - column
    damping, least = -((1 + column) / 2).clamp(min=1.0), column * eye
    b = (square.sum(-2, keepdim=True) / (t.mT @ unit @ t).clamp(min=1e-30)) ** inverse
    # (b^(-p) / pull)^(1 / (1 + p)) is what multiplies b; a pull near or below zero says little.
    pull = (unit @ t) * (b / t)
    wanted = b**-column
    b = b * (wanted / torch.maximum(pull, 0.1 * wanted)) ** inverse
    size = unit.shape[-1]
    for _ in range(rounds or (10 if size <= 2 else 16 if size <= 10 else 20)):
        # Both sides times t_i b_i: then the matrix is symmetric.
        right, scaled = square * b**power, t * b
        pulls = unit * scaled * scaled.mT
        factor, failed = torch.linalg.cholesky_ex(torch.addcmul(pulls, least, right))
        change = torch.cholesky_solve(right - pulls.sum(-1, keepdim=True), factor)
        # Rounding at the far end of an unbounded problem: stay.
        change = torch.where((failed == 0)[..., None, None], change, 0.0)
        length_of_step = 1.0 / (1.0 + damping * change.amin(-2, keepdim=True).clamp(max=0))
        b = torch.addcmul(b, b, change * length_of_step)
        if settled(change.abs() <= CONVERGED):
            break
    return (b.squeeze(-1) * (relative * longest) ** (-2.0 / (1 + p))).to(gramian.dtype)
