"""Small problems and helpers that several tests share."""

import torch
from torch import nn

from mtl.strategies import make
from mtl.strategies.strategy import Strategy


def random_signals(tasks: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> dict[str, torch.Tensor]:
    """Every signal of a step, drawn at random."""
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(tasks, 7, generator=generator, dtype=dtype)
    return {
        "losses": torch.rand(tasks, generator=generator, dtype=dtype) + 0.5,
        "gramian": rows @ rows.T,
        "jacobian": rows,
        "after": torch.rand(tasks, generator=generator, dtype=dtype) + 0.5,
        "align": torch.randn(tasks, tasks, generator=generator, dtype=dtype),
        "noise": torch.randn(tasks, tasks, generator=generator, dtype=dtype),
        "epoch": torch.tensor(seed // 2),
        "cross": rows @ torch.randn(tasks, 7, generator=generator, dtype=dtype).T,
        "implicit": torch.randn(tasks, tasks, generator=generator, dtype=dtype),
        "dither": torch.rand(7, generator=generator, dtype=dtype),
    }


def run(strategy: Strategy, steps: list[dict[str, torch.Tensor]]) -> list[torch.Tensor]:
    """The weights of a strategy over several steps."""
    first = steps[0]
    state = strategy.init_sized(first["losses"], first["jacobian"].shape[-1] if "jacobian" in first else 0)
    weights = []
    for signals in steps:
        current, state = strategy(state, signals)
        weights.append(current)
    return weights


class TwoLayers(nn.Module):
    """A trunk and one head a task, for regression on a fixed batch."""

    def __init__(self, tasks: int = 3, dtype: torch.dtype = torch.float64, dropout: float = 0.0, norm: bool = False):
        super().__init__()
        torch.manual_seed(1)
        middle = [nn.BatchNorm1d(8)] if norm else []
        self.trunk = nn.Sequential(nn.Linear(5, 8), *middle, nn.Tanh(), nn.Dropout(dropout)).to(dtype)
        self.heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(tasks)).to(dtype)
        generator = torch.Generator().manual_seed(2)
        self.x = torch.randn(16, 5, generator=generator, dtype=dtype)
        self.y = torch.randn(16, tasks, generator=generator, dtype=dtype)

    def each(self) -> list[torch.Tensor]:
        features = self.trunk(self.x)
        return [(k + 1) * (head(features)[:, 0] - self.y[:, k]).square().mean() for k, head in enumerate(self.heads)]

    def losses(self) -> torch.Tensor:
        return torch.stack(self.each())


def rows_of(losses, parameters):
    """Task gradients by one plain backward pass each; (K, D), zeros where a task does not reach."""
    rows = []
    for loss in losses:
        grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        pairs = zip(grads, parameters, strict=True)
        rows.append(torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for g, p in pairs]))
    return torch.stack(rows)


def spy(spec):
    """The strategy, and the signals that it is called with."""
    kind, seen = type(make(spec)), []

    class Spy(kind):
        def __call__(self, state, signals):
            seen.append(dict(signals))
            return super().__call__(state, signals)

    return Spy(**make(spec).hyperparameters), seen
