"""Models whose tasks share parameters in every way that the gradient engine must get right."""

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

K, BATCH = 3, 6


class Problem(nn.Module):
    """A trunk, a head a task, and the losses of a fixed batch."""

    shape: tuple[int, ...] = (5,)

    def __init__(self, trunk, width=4, seed=0):
        super().__init__()
        torch.manual_seed(seed)
        self.trunk = trunk()
        self.heads = nn.ModuleList(nn.Linear(width, 1) for _ in range(K))
        self.inputs = torch.randn(BATCH, *self.shape)
        self.targets = torch.randn(BATCH, K)
        self.double()
        self.inputs, self.targets = self.inputs.double(), self.targets.double()

    def features(self):
        return self.trunk(self.inputs)

    def losses(self):
        features = self.features()
        outputs = torch.cat([head(features) for head in self.heads], 1)
        return (outputs - self.targets).square().mean(0)

    def shared(self):
        return list(self.trunk.parameters())


class Separate(Problem):
    """Losses that have graphs of their own above the features."""

    def losses(self):
        features = self.features()
        return torch.stack(
            [(head(features)[:, 0] - self.targets[:, k]).square().mean() for k, head in enumerate(self.heads)]
        )


class Images(Separate):
    shape = (1, 6, 6)


class Sequences(Separate):
    shape = (7, 5)

    def features(self):
        return self.trunk(self.inputs)[0][:, -1]


class Tokens(Separate):
    """A transformer encoder."""

    shape = (4, 4)

    def features(self):
        return self.trunk(self.inputs).mean(1)


class Scales(Separate):
    """Heads that read layers of different depth."""

    def losses(self):
        first = self.trunk[1](self.trunk[0](self.inputs))
        second = self.trunk[3](self.trunk[2](first))
        read = [first, second, first + second]
        return torch.stack(
            [(head(read[k])[:, 0] - self.targets[:, k]).square().mean() for k, head in enumerate(self.heads)]
        )


class Tied(Separate):
    """A head that uses the trunk's weights once more."""

    def losses(self):
        losses = super().losses()
        return torch.stack([losses[0], losses[1], losses[2] + self.trunk[2].weight.square().mean()])


class Inputs(Separate):
    """One input a task, of different sizes."""

    def losses(self):
        parts = [self.inputs[:2], self.inputs[2:], self.inputs]
        targets = [self.targets[:2], self.targets[2:], self.targets]
        return torch.stack(
            [
                (head(self.trunk(part))[:, 0] - target[:, k]).square().mean()
                for k, (head, part, target) in enumerate(zip(self.heads, parts, targets, strict=True))
            ]
        )


class Adapted(Separate):
    """Parameters between trunk and heads that all tasks use and that are not counted as shared."""

    def __init__(self, trunk):
        super().__init__(trunk)
        self.adapter = nn.Linear(4, 4).double()

    def features(self):
        return self.adapter(self.trunk(self.inputs)).tanh()


class Headless(Separate):
    """Every parameter is shared."""

    def shared(self):
        return list(self.parameters())


class Tripled(Separate):
    """A layer that is applied three times."""

    def features(self):
        hidden = self.trunk[0](self.inputs)
        for _ in range(3):
            hidden = self.trunk[2](hidden).tanh()
        return hidden


class Otherwise(Tripled):
    """A layer whose weight and bias serve once more, as no layer."""

    def features(self):
        return super().features() @ self.trunk[2].weight * self.trunk[2].bias


class CrossStitch(Separate):
    """A column a task, mixed after each layer (Misra et al., CVPR 2016)."""

    def __init__(self, trunk):
        super().__init__(trunk)
        self.columns = nn.ModuleList(nn.ModuleList(nn.Linear(size, 4) for _ in range(K)) for size in (5, 4)).double()
        self.mixing = nn.ParameterList(nn.Parameter(torch.eye(K).double() + 0.1) for _ in range(2))

    def losses(self):
        hidden = [self.inputs] * K
        for layers, mix in zip(self.columns, self.mixing, strict=True):
            own = torch.stack([layer(h).tanh() for layer, h in zip(layers, hidden, strict=True)])
            hidden = list(torch.einsum("kj,jbn->kbn", mix, own).unbind())
        return torch.stack(
            [(head(hidden[k])[:, 0] - self.targets[:, k]).square().mean() for k, head in enumerate(self.heads)]
        )

    def shared(self):
        return [*self.columns.parameters(), *self.mixing]


class Levels(Separate):
    """Heads that read the features of all levels."""

    def __init__(self, trunk):
        super().__init__(trunk, width=8)

    def features(self):
        first = self.trunk[1](self.trunk[0](self.inputs))
        return torch.cat([first, self.trunk[3](self.trunk[2](first))], 1)


class Part(Separate):
    """The trunk's second layer is not called shared."""

    def shared(self):
        return list(self.trunk[0].parameters())


class Doubled(Separate):
    """A node of a user's own in the trunk."""

    class Double(torch.autograd.Function):
        @staticmethod
        def forward(_context, x):
            return 2 * x

        @staticmethod
        def backward(_context, gradient):
            return 2 * gradient

    def features(self):
        return self.Double.apply(super().features())


class Hooked(Separate):
    """A weight whose gradient is changed on its way."""

    def __init__(self, trunk):
        super().__init__(trunk)
        self.trunk[0].weight.register_hook(lambda gradient: 3 * gradient)


class Checkpointed(Separate):
    """A trunk whose activations are computed again on the way back."""

    def features(self):
        return checkpoint(self.trunk, self.inputs, use_reentrant=False)


class Words(Separate):
    """An embedding."""

    def features(self):
        return self.trunk(torch.arange(BATCH) % 5).tanh()


def mlp(middle=nn.Tanh):
    return nn.Sequential(nn.Linear(5, 4), middle(), nn.Linear(4, 4), nn.Tanh())


def wide():
    return nn.Sequential(nn.Linear(5, 30), nn.Tanh(), nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 4))


def cnn():
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.Tanh(), nn.Flatten(), nn.Linear(32, 4))


def frozen():
    trunk = mlp()
    trunk[0].weight.requires_grad_(False)
    return trunk


PROBLEMS = {
    "joint output": lambda: Problem(mlp),
    "separate heads": lambda: Separate(mlp),
    "convolution and batch norm": lambda: Images(cnn),
    "batch norm": lambda: Separate(lambda: nn.Sequential(mlp(), nn.BatchNorm1d(4))),
    "gru": lambda: Sequences(lambda: nn.GRU(5, 4, batch_first=True)),
    "lstm": lambda: Sequences(lambda: nn.LSTM(5, 4, num_layers=2, batch_first=True)),
    "transformer": lambda: Tokens(lambda: nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True)),
    "several depths": lambda: Scales(mlp),
    "tied weights": lambda: Tied(mlp),
    "an input a task": lambda: Inputs(mlp),
    "an adapter": lambda: Adapted(mlp),
    "no heads": lambda: Headless(mlp),
    "frozen": lambda: Separate(frozen),
    "one linear layer": lambda: Separate(lambda: nn.Linear(5, 4)),
    "no bias": lambda: Separate(lambda: nn.Sequential(nn.Linear(5, 4, bias=False), nn.Tanh(), nn.Linear(4, 4))),
    "few examples and wide layers": lambda: Separate(wide),
    "a layer applied three times": lambda: Tripled(mlp),
    "a layer's weights used otherwise": lambda: Otherwise(mlp),
    "cross-stitch": lambda: CrossStitch(mlp),
    "all levels": lambda: Levels(mlp),
    "a part is shared": lambda: Part(mlp),
    "a node of one's own": lambda: Doubled(mlp),
    "a hook": lambda: Hooked(mlp),
    "checkpointed": lambda: Checkpointed(mlp),
    "embedding": lambda: Words(lambda: nn.Embedding(5, 4)),
}
