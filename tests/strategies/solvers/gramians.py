"""Jacobians that break solvers: low rank, opposed, duplicated, missing and badly scaled rows."""

from __future__ import annotations

import torch
from torch import Tensor


def difficult(tasks: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, Tensor]:
    """Named (tasks, parameters) Jacobians; everything is drawn from `seed` in float64 and cast to `dtype`."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    base = normal(tasks, 2 * tasks + 3)
    common = normal(1, base.shape[1])
    column = normal(tasks, 1)
    shuffled = torch.randperm(tasks, generator=generator)
    scales = torch.logspace(-8, 8, tasks, dtype=torch.float64)[shuffled, None]
    half = max(tasks // 2, 1)
    cases = {
        "random": base,
        "aligned": base.abs(),
        "conflicting": base - base.mean(0) + 0.02 * common,
        "stationary": base - base.mean(0),
        "rank_one": column.abs() * common,
        "rank_one_mixed_signs": column * common,
        "half_rank": normal(tasks, half) @ normal(half, base.shape[1]),
        "half_rank_aligned": normal(tasks, half).abs() @ (normal(half, base.shape[1]) + common),
        "duplicated": base[torch.arange(tasks) // 2],
        "opposed": torch.cat([-base[-1:], base[1:]]),
        "nearly_opposed": torch.cat([-base[-1:] + 1e-3 * base[:1], base[1:]]),
        "zero_row": torch.cat([torch.zeros_like(base[:1]), base[1:]]),
        "all_zero": torch.zeros_like(base),
        "identical": common.expand(tasks, -1).clone(),
        "hundredfold": base * torch.logspace(0, 2, tasks, dtype=torch.float64)[shuffled, None],
        "badly_scaled": base * scales,
        "badly_scaled_aligned": base.abs() * scales,
        "dominant": torch.cat([1e4 * base[:1], base[1:]]),
    }
    return {name: jacobian.to(dtype) for name, jacobian in cases.items()}
