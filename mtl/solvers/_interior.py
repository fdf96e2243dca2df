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
    a = torch.zeros_like(linear) if equality is None else equality
    start = torch.ones_like(linear)
    point = torch.stack([start if equality is None else start / a.sum(-1, keepdim=True), start], -2)
    y = torch.zeros_like(linear[..., :1])
    for _ in range(rounds):
        x, z = point.unbind(-2)
        ratio = z / x
        factor = torch.linalg.cholesky_ex(torch.addcmul(quadratic, eye, ratio.unsqueeze(-1)))[0]
        gradient = (quadratic @ x.unsqueeze(-1)).squeeze(-1) + linear
        # `step` is the Newton step towards x z = 0, `correction` what aims it at the central path instead.
        if equality is None:
            dx = torch.cholesky_solve(-gradient.unsqueeze(-1), factor).squeeze(-1)
        else:
            gradient = gradient - y * a
            dx, lift = torch.cholesky_solve(torch.stack([-gradient, a], -1), factor).unbind(-1)
            dual = (a * lift).sum(-1, keepdim=True)
            dy = (1.0 - (a * (x + dx)).sum(-1, keepdim=True)) / dual
            dx = dx + dy * lift
        step = torch.stack([dx, -z - ratio * dx], -2)
        length = 1.0 / (-(step / point).amin((-2, -1), keepdim=True)).clamp(min=1.0)
        gap = (x * z).mean(-1, keepdim=True)
        ahead = (point + length * step).prod(-2).mean(-1, keepdim=True)
        target = (gap * (ahead / gap) ** 3).clamp(min=FLOOR)
        push = (target - step.prod(-2)) / x
        correction = torch.cholesky_solve(push.unsqueeze(-1), factor).squeeze(-1)
        if equality is not None:
            shift = -(a * correction).sum(-1, keepdim=True) / dual
            correction, dy = correction + shift * lift, dy + shift
        dx = dx + correction
        step = torch.stack([dx, push - z - ratio * dx], -2)
        length = 0.995 / (-(step / point).amin((-2, -1), keepdim=True)).clamp(min=0.995)
        point = point + length * step
        if equality is not None:
            y = y + length.squeeze(-1) * dy
    return point
