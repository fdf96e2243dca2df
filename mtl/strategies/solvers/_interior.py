"""A primal-dual interior-point method for small quadratic programs."""

from __future__ import annotations

import torch
from torch import Tensor

from mtl.strategies.solvers._early import settled

#: Each round aims at this share of the complementarity that it found.
CENTRING = 0.05
#: Complementarity products are driven down to this and held there: below, z / x would leave the range of float64.
FLOOR = 1e-18


def interior_point(
    quadratic: Tensor, linear: Tensor, eye: Tensor, equality: Tensor | None, rounds: int
) -> tuple[Tensor, Tensor]:
    """Minimise `x^T Q x / 2 + c^T x` over `x >= 0` and, if `equality` is given, `a^T x = 1`.

    Newton's method on the conditions of optimality with a fixed centring (Nocedal & Wright 2006, ch. 16.6) and a step
    length for each side. A predictor would save a few rounds and double the operations of each, which is what a
    small problem costs. The number of rounds to a given accuracy hardly depends on the data.

    Args:
        quadratic: (..., K, K) positive definite, entries of order one.
        linear: (..., K).
        eye: (K, K).
        equality: (..., K), nonnegative.
        rounds: Newton steps at most.

    Returns:
        x and the multipliers z of `x >= 0`, (..., K) each.
    """
    # Columns, so that products with matrices need no reshaping.
    c = linear.unsqueeze(-1)
    x = z = torch.ones_like(c)
    a = None
    if equality is not None:
        a = equality.unsqueeze(-1)
        x = x / a.sum(-2, keepdim=True)
    for _ in range(rounds):
        target = (CENTRING * (x * z).mean(-2, keepdim=True)).clamp(min=FLOOR)
        push, ratio = target / x, z / x
        factor = torch.linalg.cholesky_ex(torch.addcmul(quadratic, eye, ratio))[0]
        down = push - c - quadratic @ x
        if a is None:
            dx = torch.cholesky_solve(down, factor)
        else:
            dx, along = torch.cholesky_solve(torch.cat([down, a], -1), factor).split(1, -1)
            dx = dx + (1.0 - a.mT @ (x + dx)) / (a.mT @ along) * along
        new_z = torch.addcmul(push, ratio, dx, value=-1.0)
        reach = 0.995 / (-(dx / x).amin(-2, keepdim=True)).clamp(min=0.995)
        reach_z = 0.995 / (1.0 - (new_z / z).amin(-2, keepdim=True)).clamp(min=0.995)
        x = torch.addcmul(x, reach, dx)
        z = z.lerp(new_z, reach_z)
        if settled(target <= FLOOR):
            break
    return x.squeeze(-1), z.squeeze(-1)
