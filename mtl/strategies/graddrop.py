from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class GradDrop(Strategy):
    """At each coordinate, keep the gradients of one randomly picked sign (Chen et al., NeurIPS 2020, eqs. 1-2, alg. 1).

    With the positive sign purity P = (1 + sum_k g_k / sum_k |g_k|) / 2 and uniform draws U, the update is the sum over
    tasks of (l_k + (1 - l_k) M_k) g_k with M_k = [f(P) > U][g_k > 0] + [f(P) < U][g_k < 0], leaks l_k, and
    f(p) = slope (p - 1/2) + 1/2. Deviation: the paper drops the gradients on a layer's activations, multiplied by the
    activations' signs and summed over the batch; here, as in TorchJD, it is those on the shared parameters.
    """

    name: ClassVar[str] = "graddrop"
    paper: ClassVar[str] = "Chen et al., Just Pick a Sign: Gradient Sign Dropout, NeurIPS 2020"
    needs: ClassVar[frozenset[str]] = frozenset({"jacobian", "dither"})
    elementwise: ClassVar[bool] = True

    leak: tuple[float, ...] = hyper(
        (0.0,), 0.0, 1.0, tasks="each", doc="share of each task that is never dropped; one serves all"
    )
    slope: float = hyper(1.0, 0.0, search=(0.25, 4.0), log=True, doc="0 picks signs evenly, large values by majority")

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        rows, draw = signals["jacobian"], signals["dither"]
        total = rows.abs().sum(0)
        purity = 0.5 + 0.5 * torch.where(total > 0, rows.sum(0) / torch.where(total > 0, total, 1), 0)
        threshold = self.slope * (purity - 0.5) + 0.5
        kept = (threshold > draw) & (rows > 0) | (threshold < draw) & (rows < 0)
        leak = torch.as_tensor(self.leak, dtype=rows.dtype, device=rows.device).reshape(-1, 1)
        return leak + (1 - leak) * kept, state
