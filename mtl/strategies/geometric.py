from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from mtl.strategies._objectives import positive
from mtl.strategy import Signals, Strategy


@dataclass(frozen=True)
class Geometric(Strategy):
    """Geometric loss strategy: descends on (prod_k L_k)^(1/K), so w_k = (prod_j L_j)^(1/K) / (K L_k) (Chennupati et
    al., CVPRW 2019).

    Every weighted loss w_k L_k is the same. Deviation: losses are kept above 1e-20; the product is formed in
    logarithms, as it would underflow for many tasks.
    """

    name: ClassVar[str] = "geometric"
    paper: ClassVar[str] = "Chennupati et al., MultiNet++, CVPR Workshops 2019"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})

    def __call__(self, state: tuple[()], signals: Signals) -> tuple[Tensor, tuple[()]]:
        logs = positive(signals["losses"]).log()
        return (logs.mean() - logs).exp() / logs.shape[-1], state
