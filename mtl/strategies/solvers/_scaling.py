"""What the solvers share: bringing a Gramian to unit rows, and solving on given sets of free variables."""

from __future__ import annotations

import torch
from torch import Tensor

from mtl.strategies.solvers._early import may_look, settled

#: Beyond doubt is a variable above this, or its gradient; interior points go on to where these are 1e-9.
CLEAR = 1e-7


def equilibrate(gramian: Tensor, zero_row: float, ridge: float) -> tuple[Tensor, Tensor, Tensor]:
    """Split G into `diag(length) C diag(length)`, where C has a unit diagonal.

    Rows of 1e-8 and 1e8 then weigh the same in every tolerance and factorisation. The diagonal of C is raised by
    `ridge` or, if that is more, by a few rounding units of the dtype in which G arrived, so that what rounding took
    from its smallest eigenvalues is put back.

    Args:
        gramian: (..., K, K) symmetric positive semidefinite, any float dtype.
        zero_row: the length that a row of zeros is given, as a multiple of the longest row; such a row counts as
            orthogonal to all others.
        ridge: what to add to the unit diagonal at least.

    Returns:
        C (..., K, K) and length (..., K) in float64, and the identity (K, K).
    """
    g = gramian.double()
    size = g.shape[-1]
    squares = g.diagonal(dim1=-2, dim2=-1)
    longest = squares.amax(-1, keepdim=True)
    # 1e-100 times the longest is no gradient but an underflow; an all-zero Gramian falls through to length one.
    empty = squares <= 1e-100 * longest
    length = torch.where(empty, zero_row**2 * longest, squares)
    length = torch.where(length > 0, length, 1.0).sqrt()
    unit = g / length.unsqueeze(-1) / length.unsqueeze(-2)
    eye = torch.eye(size, dtype=g.dtype, device=g.device)
    raised = 1.0 + max(ridge, 4 * torch.finfo(gramian.dtype).eps)
    return torch.where(eye > 0, raised, unit.clamp(-1.0, 1.0)), length, eye


def solve_free(quadratic: Tensor, linear: Tensor, free: Tensor, eye: Tensor) -> tuple[Tensor, Tensor]:
    """Minimise `x^T Q x / 2 + c^T x` over the variables marked in `free`, the others held at zero.

    Args:
        quadratic: (..., K, K) positive definite.
        linear: (..., K), or (..., R, K) for R problems that share `quadratic`: with as many dimensions as that.
        free: booleans of the shape of `linear`.
        eye: (K, K), whose rows replace those of the variables held at zero.

    Returns:
        x and the gradient `Q x + c`, both of the shape of `linear`.
    """
    rows = linear.dim() >= quadratic.dim()
    pairs = free.unsqueeze(-1) & free.unsqueeze(-2)
    factor = torch.linalg.cholesky_ex(torch.where(pairs, quadratic.unsqueeze(-3) if rows else quadratic, eye))[0]
    column = torch.cholesky_solve(torch.where(free, -linear, 0.0).unsqueeze(-1), factor)
    x = column.squeeze(-1)
    # Q is symmetric; as many products with one matrix are one product with it.
    return x, (x @ quadratic if rows else (quadratic @ column).squeeze(-1)) + linear


def pivot(quadratic: Tensor, linear: Tensor, eye: Tensor, rounds: int = 8) -> Tensor | None:
    """The active-set method of `polish` by itself, from the variables that the objective wants to leave zero.

    It ends in a few rounds for most problems and need not end at all. Its result is taken only where it is beyond doubt
    which variables are free, so that it is the one that a method with a guarantee finds.

    Args:
        quadratic, linear, eye: as of `polish`.
        rounds: solves at most.

    Returns:
        Of the shape of `linear`; None where it did not end, leaves doubt, or the host may not look.
    """
    if not may_look(linear) or not may_look(quadratic):
        return None
    free = linear < 0
    for _ in range(rounds):
        x, gradient = solve_free(quadratic, linear, free, eye)
        better = torch.where(free, x, -gradient) > 0
        if bool((better == free).all()):
            return x.clamp(min=0) if bool(torch.maximum(x, gradient).amin() > CLEAR) else None
        free = better
    return None


def polish(quadratic: Tensor, linear: Tensor, free: Tensor, eye: Tensor, rounds: int, otherwise: Tensor) -> Tensor:
    """The primal-dual active-set method (Hintermueller, Ito & Kunisch 2003) for `x >= 0`, from a good guess.

    Each round solves on the free variables, holds those that came out negative, and frees those whose gradient is
    negative. Near the solution that ends in one or two rounds, with the accuracy of a direct solve. On a singular,
    degenerate problem it need not end: where the last round violates a sign, the result is `otherwise`.

    Args:
        quadratic: (..., K, K) positive definite, of unit diagonal.
        linear: (..., K) of order one at most, or (..., R, K) as in `solve_free`.
        free: booleans, the guess.
        eye: (K, K).
        rounds: solves.
        otherwise: of the shape of `linear`.

    Returns:
        Nonnegative, of the shape of `linear`.
    """
    x, gradient = solve_free(quadratic, linear, free, eye)
    for _ in range(rounds - 1):
        better = torch.where(free, x, -gradient) > 0
        if settled(better == free):
            break
        free = better
        x, gradient = solve_free(quadratic, linear, free, eye)
    right = torch.minimum(x, gradient).amin(-1, keepdim=True) > -1e-9
    return torch.where(right, x, otherwise).clamp(min=0)
