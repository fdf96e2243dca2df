from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.strategies._gramian import inverse, lengths
from mtl.strategies._objectives import positive
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class DBMTL(Strategy):
    """Dual balancing: gradients of the log losses, each scaled to the longest of them (Lin et al., arXiv:2308.12029).

    With u_k = |g_k| / L_k, the length of grad log L_k, the update sum_k (max_j u_j / u_k) grad log L_k is linear in the
    task gradients with w_k = max_j u_j / |g_k|. Deviation: this is the paper's method without its moving average of the
    gradients (beta = 0); that needs a buffer of K x P numbers, which no weight on this step's gradients can express.
    A task whose loss is not positive has no say in the length, and a gradient of zero gets weight 0.
    """

    name: ClassVar[str] = "db-mtl"
    paper: ClassVar[str] = "Lin et al., Dual-Balancing for Multi-Task Learning, 2023"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})
    domain: ClassVar[str] = "positive"

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        norms = lengths(signals["gramian"])
        losses, counts = positive(signals["losses"])
        return torch.where(counts, norms / losses, 0).amax() * inverse(norms), state
