"""Uncertainty weighting recovers the noise of the data, which is what its parameters stand for."""

from __future__ import annotations

import torch

from mtl.balancer import Balancer


def test_log_variances_converge_to_the_noise_of_each_task() -> None:
    """y_k = f_k(x) + sigma_k eps: after convergence exp(s_k) is within 10 % of sigma_k^2 for every task."""
    generator = torch.Generator().manual_seed(0)
    sigma = torch.tensor([0.1, 0.5, 1.0, 3.0])
    x = torch.randn(4000, 8, generator=generator)
    teacher = torch.randn(8, 6, generator=generator) @ torch.randn(6, 4, generator=generator) / 6
    y = torch.tanh(x @ teacher) + sigma * torch.randn(4000, 4, generator=generator)

    torch.manual_seed(0)
    trunk = torch.nn.Linear(8, 16)
    heads = torch.nn.Linear(16, 4)
    model = torch.nn.Sequential(trunk, torch.nn.Tanh(), heads)
    optimizer = torch.optim.Adam(model.parameters(), 0.02)
    balancer = Balancer("uncertainty", shared=trunk.parameters(), lr=0.02)
    for _ in range(700):
        optimizer.zero_grad()
        balancer.backward((model(x) - y).square().mean(0))
        optimizer.step()
    variance = balancer.state.log_variance.exp()
    assert float((variance / sigma**2 - 1).abs().max()) < 0.1, variance
