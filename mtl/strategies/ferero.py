from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import decompose, factor, identity
from mtl.strategies._objectives import on_simplex
from mtl.strategies.solvers.simplex import simplex_qp
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class FERERO(Strategy):
    """MGDA under the constraint that the losses approach the ray of a preference (Chen et al., NeurIPS 2024).

    With B an orthonormal basis of the complement of the preference, the constraint is H = B L = 0 and the update d is
    the shortest one in `hull of the gradients + span of B J` under which H falls at a fixed rate, B G w = rate H. The
    weights are w = a + B^T m: a on the simplex and m free minimise w^T G w / 2 - rate m^T H, of which m is eliminated
    here in closed form. Weights may be negative. The preference cone is the nonnegative orthant (A = I), as in the
    paper's experiments; where gradients depend on each other, what part of the constraint can be met is met. The paper
    also has an algorithm with one step of the dual variables an iteration.
    """

    name: ClassVar[str] = "ferero"
    paper: ClassVar[str] = "Chen et al., FERERO: Preference-Guided Multi-Objective Learning, NeurIPS 2024"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    rate: float = hyper(0.5, 0.0, search=(0.05, 5.0), log=True, doc="how fast the distance from the ray falls")
    preference: tuple[float, ...] = hyper((), 0.0, tasks="ratios", doc="direction of the losses; equal when empty")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        root, losses = factor(signals["gramian"]), signals["losses"].double()
        direction = on_simplex(self.preference, losses)
        direction = direction / torch.linalg.vector_norm(direction)
        across = identity(root) - direction[:, None] * direction  # B^T B
        aside = self.rate * (across @ losses)
        # m = M^+ B (rate L - G a) with M = B G B^T = A^T A for A = F B^T, kept in task coordinates.
        left, values, right, kept = decompose(root @ across)
        inverted = torch.where(kept, 1 / torch.where(kept, values, 1), 0)
        reached = left * kept
        onto = (right.mT * inverted) @ (reached.mT @ root)  # M^+ B G
        shift = (right.mT * inverted**2) @ (right @ aside)
        rest = root - reached @ (reached.mT @ root)
        mixture = simplex_qp(rest.mT @ rest, onto.mT @ aside)
        return (mixture + across @ (shift - onto @ mixture)).to(signals["gramian"].dtype), state
