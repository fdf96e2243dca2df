from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mtl.strategies._objectives import neutral, positive
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class Geometric(Strategy):
    """Geometric loss strategy: descends on (prod_k L_k)^(1/K), so w_k = (prod_j L_j)^(1/K) / (K L_k) (Chennupati et
    al., CVPRW 2019).

    Every weighted loss w_k L_k is the same. The product is formed in logarithms, as it would underflow for many tasks.
    A loss that is not positive is left out of the product, and its task has the mean weight of the others.
    """

    name: ClassVar[str] = "geometric"
    paper: ClassVar[str] = "Chennupati et al., MultiNet++, CVPR Workshops 2019"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})
    domain: ClassVar[str] = "positive"

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        losses, counts = positive(signals["losses"])
        logs = losses.log()  # 0 for a task that does not count
        return neutral((logs.sum(-1) / counts.sum(-1) - logs).exp(), counts) / logs.shape[-1], state
