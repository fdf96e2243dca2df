"""Muon for the matrices of a trunk, and AdamW for all other parameters, as one optimizer."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer


class MuonWithAdamW(Optimizer):
    """`torch.optim.Muon` (Jordan et al. 2024) for parameters with two axes, `AdamW` for others and for heads.

    Args:
        parameters: tensors, or groups of them, of which those with a true `head` are left to AdamW.
        lr: of both; Muon's steps are scaled to the size of AdamW's unless `arguments` say otherwise.
        weight_decay: of both.
        arguments: of Muon.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter] | Iterable[dict[str, Any]],
        lr: float,
        weight_decay: float = 0.0,
        **arguments: Any,
    ) -> None:
        given: list[Any] = list(parameters)
        groups = given if given and isinstance(given[0], dict) else [{"params": given}]
        nothing = [nn.Parameter(torch.zeros(1, 1))]
        muon = torch.optim.Muon(
            nothing, lr=lr, weight_decay=weight_decay, **{"adjust_lr_fn": "match_rms_adamw", **arguments}
        )
        self._both: dict[bool, Optimizer] = {True: muon, False: AdamW(nothing, lr=lr, weight_decay=weight_decay)}
        parted = [
            {**self._both[matrices].defaults, **group, "params": some, "matrices": matrices}
            for group in groups
            for matrices in (True, False)
            if (some := [p for p in group["params"] if (p.ndim == 2 and not group.get("head")) == matrices])
        ]
        super().__init__(parted, muon.defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step of both on their groups, as rates and state are now."""
        if closure is not None:
            raise ValueError("a closure: losses are read once a step")
        for matrices, optimizer in self._both.items():
            optimizer.param_groups = [group for group in self.param_groups if group["matrices"] == matrices]
            optimizer.state = self.state
            optimizer.step()
