"""The alpha-fair weights of FairGrad."""

from __future__ import annotations

import torch
from torch import Tensor

from mtl.solvers._scaling import equilibrate


def fair(gramian: Tensor, alpha: float | Tensor = 1.0, rounds: int | None = None) -> Tensor:
    """Solve `(G w)_i = w_i^(-1 / alpha)` for w > 0 (Ban & Ji, ICML 2024, eq. 4).

    With p = 1 / alpha the equation says that w is the stationary point of `w^T G w / 2 - sum_i w_i^(1-p) / (1-p)` (of
    the logarithm for p = 1, which is `nash`), convex for every alpha > 0: the root is unique, and Newton's method
    reaches it where the authors' general least-squares solver needs bounds and a start. In b_i = w_i |g_i|^(2/(1+p)),
    which is one for a lone task, the change relative to b has a matrix no smaller than p I. The step
    1 / (1 + max(1, (1+p)/2) m), m being the largest relative decrease, lowers the objective without a search.

    alpha between 0.5 and 2 is exact for norms that differ by 1e16; beyond, weights themselves leave any range (the
    smallest goes like a ratio of norms to the power alpha), and moderate ratios are meant. Opposed gradients and rows
    of zeros: as for `nash`.

    Args:
        gramian: (..., K, K) symmetric positive semidefinite.
        alpha: positive, a float or a tensor that broadcasts against (..., 1), such as one of no dimensions.
        rounds: Newton steps; by default 16 for two tasks, 19 up to ten, then 26.

    Returns:
        (..., K) positive weights in the dtype of `gramian`, proportional to c^(-alpha / (1 + alpha)) under G -> c G.
    """
    unit, length, eye = equilibrate(gramian, zero_row=1.0, ridge=0.0)
    p = 1.0 / torch.as_tensor(alpha, dtype=unit.dtype, device=unit.device)
    longest = length.amax(-1, keepdim=True)
    relative = length / longest
    # The equation for b: sum_j C_ij t_j b_j = t_i b_i^(-p).
    t = relative ** ((p - 1) / (p + 1))
    half = ((1 + p) / 2).unsqueeze(-1)
    damping, least = half.clamp(min=1.0), p.unsqueeze(-1) * eye
    size = unit.shape[-1]
    pushed = (1 + p) * t
    # What the equation says if the terms of its sum were orthogonal, times the best multiple.
    start = (t / torch.linalg.vecdot(unit * unit, (t * t).unsqueeze(-2)).sqrt()) ** (1 / p)
    pull = t * start
    total = torch.linalg.vecdot(pull, (unit @ pull.unsqueeze(-1)).squeeze(-1)).clamp(min=1e-12)
    b = start * ((t * t * start ** (1 - p)).sum(-1) / total).unsqueeze(-1) ** (1 / (1 + p))
    b, pushed = b.unsqueeze(-1), pushed.unsqueeze(-1)
    for _ in range(rounds or (16 if size <= 2 else 19 if size <= 10 else 26)):
        q = b**half
        root = pushed * (b / q)
        factor, failed = torch.linalg.cholesky_ex(torch.addcmul(least, unit, q * q.mT))
        # One plus the relative change of b, from M = diag(q) C diag(q) + p I, whose first part needs no product then.
        grown = torch.cholesky_solve(root, factor) / root * (2 * half)
        grown = torch.where(failed[..., None, None] == 0, grown, 1.0)
        decrease = 1.0 - grown.amin(-2, keepdim=True).clamp(max=1.0)
        b = b.lerp(b * grown, 1.0 / (1.0 + damping * decrease))
    weights: Tensor = b.squeeze(-1) * (relative * longest) ** (-2.0 / (1 + p))
    return weights.to(gramian.dtype)
