from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies._gramian import inverse
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class NTKMTL(Strategy):
    """Equal convergence rates in the neural tangent kernel: w_k = (mean_j lambda_j / lambda_k)^p (Qin et al., NeurIPS
    2025).

    lambda_k is the largest eigenvalue of task k's kernel over n parts of the batch. This is n = 1, the paper's main
    variant, where the kernel is the number |g_k|^2. p = 1/2 in the paper; the authors' code names it ntk_exp and found
    0.75 to work better at times. That code has the sum over tasks in place of the mean, which makes all weights larger
    by the same factor K^p. A gradient of zero gets weight 0.
    """

    name: ClassVar[str] = "ntkmtl"
    paper: ClassVar[str] = "Qin et al., NTKMTL: Mitigating Task Imbalance from the NTK Perspective, NeurIPS 2025"
    needs: ClassVar[frozenset[str]] = frozenset({"losses", "gramian"})

    power: float = hyper(0.5, 0.0, search=(0.25, 1.0), doc="p; 0 is equal weighting, 1/2 makes all gradients as long")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        squares = signals["gramian"].diagonal().clamp(min=0)
        ratio = squares.mean() * inverse(squares)
        return ratio**self.power * (squares > 0), state
