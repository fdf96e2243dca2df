from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies.combinators import Chain
from mtl.strategies.imtl_g import IMTLG
from mtl.strategies.imtl_l import IMTLL
from mtl.strategies.learned import OPTIMIZERS
from mtl.strategies.strategy import Signals, Strategy


@dataclass(frozen=True)
class IMTL(Strategy):
    """Impartial multi-task learning: IMTL-L's loss scales, then IMTL-G on the scaled gradients (Liu et al., ICLR 2021).

    The same as the chain `imtl-l+imtl-g`: with s from `imtl-l`, IMTL-G sees the gradients exp(s_k) g_k, and the weights
    multiply.
    """

    name: ClassVar[str] = "imtl"
    paper: ClassVar[str] = "Liu et al., Towards Impartial Multi-task Learning, ICLR 2021"
    needs: ClassVar[frozenset[str]] = IMTLL.needs | IMTLG.needs
    domain: ClassVar[str] = "positive"

    lr: float = hyper(0.01, 0.0, search=(1e-4, 1e-1), log=True, doc="step size of the log scales")
    start: float = hyper(0.0, search=(-3.0, 3.0), doc="log scale before the first step")
    optimizer: str = hyper("adam", choices=OPTIMIZERS, doc="optimizer of the log scales")

    _halves: Chain = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        first = IMTLL(lr=self.lr, start=self.start, optimizer=self.optimizer)
        object.__setattr__(self, "_halves", Chain((first, IMTLG())))

    def init(self, losses: Tensor) -> tuple[Any, ...]:
        return self._halves.init(losses)

    def __call__(self, state: tuple[Any, ...], signals: Signals) -> tuple[Tensor, tuple[Any, ...]]:
        return self._halves(state, signals)
