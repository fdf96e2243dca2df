from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor

from mtl.hyperparameters import hyper
from mtl.strategies.strategy import Signals, Strategy

_SECTIONS = 128


class BanditMTLState(NamedTuple):
    """Logarithms of the adversarial weights (K,)."""

    log_weights: Tensor


@dataclass(frozen=True)
class BanditMTL(Strategy):
    """Adversarial weights in a ball around the uniform ones: min over theta, max over p of sum_k p_k L_k subject to
    KL(p || 1/K) <= rho (Mao et al., ACL 2021).

    The player p makes a mirror ascent step, p_k <- p_k exp(eta L_k), and is projected back onto the ball in the same
    divergence, which raises every p_k to a common power 1 / (1 + lambda) <= 1 and normalises; the multiplier lambda, 0
    inside the ball, is found by repeated sectioning. To first order in rho this penalises the variance of the task
    losses. The weights sum to 1 and are those before the step that uses this batch's losses. For rho >= log K the ball
    is the whole simplex. Deviation: the paper tunes rho and eta for each data set, the defaults here are our choice.
    """

    name: ClassVar[str] = "banditmtl"
    paper: ClassVar[str] = "Mao et al., BanditMTL: Bandit-based Multi-task Learning for Text Classification, ACL 2021"
    needs: ClassVar[frozenset[str]] = frozenset({"losses"})

    lr: float = hyper(0.1, 0.0, search=(1e-3, 1.0), log=True, doc="eta, step size of the adversary")
    rho: float = hyper(0.1, 1e-6, search=(1e-3, 2.0), log=True, doc="radius of the ball around uniform weights")

    def init(self, losses: Tensor) -> BanditMTLState:
        return BanditMTLState(torch.log_softmax(torch.zeros_like(losses), -1))

    def __call__(self, state: BanditMTLState, signals: Signals) -> tuple[Tensor, BanditMTLState]:
        # In float64: of losses in the thousands the power is a thousandth, with as many digits fewer.
        logits = state.log_weights.double() + self.lr * signals["losses"].double()
        logits = logits - logits.amax()
        # The divergence grows with the power: find the largest one in [0, 1] whose weights stay inside the ball.
        low, width = logits.new_zeros(()), 1.0
        parts = torch.arange(1, _SECTIONS + 1, dtype=logits.dtype, device=logits.device) / _SECTIONS
        rounds = math.ceil(-math.log(torch.finfo(logits.dtype).eps) / math.log(_SECTIONS))
        for _ in range(rounds):
            powers = (low + width * parts).clamp(max=1)
            tried = torch.log_softmax(powers[:, None] * logits, -1)
            divergence = (tried.exp() * tried).sum(-1) + math.log(logits.shape[-1])
            low = (low + width * (divergence <= self.rho).sum() / _SECTIONS).clamp(max=1)
            width /= _SECTIONS
        following = torch.log_softmax(low * logits, -1).to(state.log_weights.dtype)
        return state.log_weights.exp(), BanditMTLState(following)
