"""A primal-dual interior-point method for small quadratic programs."""

from __future__ import annotations

import torch
from torch import Tensor

#: Complementarity products are driven down to this and held there: below, z / x would leave the range of float64.
FLOOR = 1e-18


def interior_point(quadratic: Tensor, linear: Tensor, eye: Tensor, equality: Tensor | None, rounds: int) -> Tensor:
    """Minimise `x^T Q x / 2 + c^T x` over `x >= 0` and, if `equality` is given, `a^T x = 1`.

    Mehrotra's predictor and corrector (Nocedal & Wright 2006, ch. 16.6) with one step length for both sides. The number
    of rounds to a given accuracy hardly depends on the data, so a fixed number of them needs no stopping test.

    Args:
        quadratic: (..., K, K) positive definite, entries of order one.
        linear: (..., K).
        eye: (K, K).
        equality: (..., K), nonnegative.
        rounds: Newton steps.

    Returns:
        (..., 2, K): x and the multipliers z of `x >= 0`.
    """
    c = linear.unsqueeze(-1)
    a = None if equality is None else equality.unsqueeze(-1)
    z = torch.ones_like(c)
    x = z if a is None else z / a.sum(-2, keepdim=True)
    for _ in range(rounds):
        x, z = advance(quadratic, c, eye, a, x, z)
    return torch.stack([x.squeeze(-1), z.squeeze(-1)], -2)


def advance(quadratic: Tensor, c: Tensor, eye: Tensor, a: Tensor | None, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """One round from any positive x and z; every vector is a column (..., K, 1).

    Each round solves for the new x itself and not for a change, so that `c` may differ from round to round.
    """
    ratio = z / x
    factor = torch.linalg.cholesky_ex(torch.addcmul(quadratic, eye, ratio))[0]
    # Where the step towards x z = 0 leads: to `ahead` and z - ratio * ahead, relative to x and z to r and 1 - r.
    if a is None:
        ahead = torch.cholesky_solve(z - c, factor)
    else:
        ahead, lift = torch.cholesky_solve(torch.cat([z - c, a], -1), factor).split(1, -1)
        lift = lift / (a.mT @ lift)
        ahead = ahead + (1.0 - a.mT @ ahead) * lift
    r = ahead / x
    length = 1.0 / ((r - 0.5).abs().amax(-2, keepdim=True) + 0.5).clamp(min=1.0)
    product = x * z
    target = (product.mean(-2, keepdim=True) * (1.0 - length) ** 3).clamp(min=FLOOR)
    # Towards x z = target, with what the first step leaves out of second order.
    push = (target - product * torch.addcmul(r, r, r, value=-1.0)) / x
    correction = torch.cholesky_solve(push, factor)
    if a is not None:
        correction = correction - (a.mT @ correction) * lift
    new_x = ahead + correction
    new_z = torch.addcmul(z + push, ratio, new_x, value=-1.0)
    fall = 1.0 - torch.minimum(new_x / x, new_z / z).amin(-2, keepdim=True)
    length = 0.995 / fall.clamp(min=0.995)
    return x.lerp(new_x, length), z.lerp(new_z, length)
