from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import identity, raised
from mtl.strategies._objectives import on_simplex
from mtl.strategies.solvers.simplex import min_norm
from mtl.strategies.strategy import Signals, Strategy


class ParetoMTLState(NamedTuple):
    """1 once the losses have been inside the sector, 0 before ()."""

    inside: Tensor


@dataclass(frozen=True)
class ParetoMTL(Strategy):
    """MGDA restricted to the sector of loss space around one preference vector (Lin et al., NeurIPS 2019).

    u is the unit preference and the u_j are unit vectors of other preferences; constraint j is active where (u_j - u) .
    L >= 0, that is, where the losses are nearer to u_j. The update is the shortest vector in the convex hull of the
    task gradients and those of the active constraints, sum_k (u_j - u)_k g_k; until the losses first lie inside the
    sector, of the active constraints alone. Weights may be negative. The losses head for the ray of u, so a large entry
    of the preference means a large loss. Without `others` the u_j are the axes; for the paper's sectors give its other
    preference vectors one after another.
    """

    name: ClassVar[str] = "pareto-mtl"
    paper: ClassVar[str] = "Lin et al., Pareto Multi-Task Learning, NeurIPS 2019"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    preference: tuple[float, ...] = hyper((), 0.0, tasks="ratios", doc="u, direction of the losses; equal when empty")
    others: tuple[float, ...] = hyper((), 0.0, doc="the other preferences, K numbers each; the axes when empty")

    def check_tasks(self, num_tasks: int) -> None:
        super().check_tasks(num_tasks)
        if len(self.others) % num_tasks:
            raise ValueError(f"pareto-mtl: others has {len(self.others)} numbers, expected a multiple of {num_tasks}")

    def init(self, losses: Tensor) -> ParetoMTLState:
        return ParetoMTLState(losses.new_zeros(()))

    def __call__(self, state: ParetoMTLState, signals: Signals) -> tuple[Tensor, ParetoMTLState]:
        gramian, losses = raised(signals["gramian"], signals["gramian"].dtype), signals["losses"].double()
        eye = identity(gramian)
        given = isinstance(self.others, Tensor) or self.others
        others = torch.as_tensor(self.others, dtype=eye.dtype, device=eye.device).view(-1, len(eye)) if given else eye
        ahead = _unit(others) - _unit(on_simplex(self.preference, losses))
        excess = ahead @ losses
        active = excess >= 0
        searching = (state.inside == 0) & active.any()
        # A row that takes no part repeats one that does, which leaves the convex hull as it is.
        worst = (ahead * (excess == excess.amax())[:, None]).sum(0) / (excess == excess.amax()).sum()
        tasks = torch.where(searching, worst, eye)
        constraints = torch.where(active[:, None], ahead, torch.where(searching, worst, eye[0]))
        rows = torch.cat([tasks, constraints])
        weights = min_norm(rows @ gramian @ rows.T) @ rows
        inside = torch.where(searching, state.inside, torch.ones_like(state.inside))
        return weights.to(signals["gramian"].dtype), ParetoMTLState(inside)


def _unit(rows: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(rows, dim=-1, keepdim=True)
    return rows / norms
