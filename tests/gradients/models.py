"""Models whose tasks share parameters in every way that the engine must get right, and the slow way to measure them."""

import torch
from torch import nn
from torch.nn import functional as F

K = 3


class Case:
    """A model with its shared parameters and, at each call of `losses`, K fresh losses."""

    def __init__(self, shared, losses, modules):
        self.shared, self.losses = list(shared), losses
        self.parameters = [p for module in modules for p in module.parameters() if p.requires_grad]


def heads(size):
    return nn.ModuleList(nn.Linear(size, 1) for _ in range(K))


def targets(rows):
    return torch.randn(rows, K)


def regress(features, outs, y):
    return [(k + 1) * (out(features)[:, 0] - y[:, k]).square().mean() for k, out in enumerate(outs)]


def mlp(rows=16, middle=nn.Tanh):
    trunk, outs = nn.Sequential(nn.Linear(5, 8), middle(), nn.Linear(8, 6), nn.Tanh()), heads(6)
    x, y = torch.randn(rows, 5), targets(rows)
    return Case(trunk.parameters(), lambda: regress(trunk(x), outs, y), [trunk, outs])


def wide():
    """Few rows and wide layers: the Gramian needs no gradients written out."""
    trunk, outs = nn.Sequential(nn.Linear(30, 40), nn.Tanh(), nn.Linear(40, 50), nn.Tanh()), heads(50)
    x, y = torch.randn(4, 30), targets(4)
    return Case(trunk.parameters(), lambda: regress(trunk(x), outs, y), [trunk, outs])


def no_activation():
    trunk, outs = nn.Linear(5, 6), heads(6)
    x, y = torch.randn(7, 5), targets(7)
    return Case(trunk.parameters(), lambda: regress(trunk(x), outs, y), [trunk, outs])


def no_heads():
    trunk, x, y = nn.Linear(5, K), torch.randn(7, 5), targets(7)
    return Case(trunk.parameters(), lambda: list((trunk(x) - y).square().mean(0).unbind()), [trunk])


def cnn():
    layers = [nn.Conv2d(2, 3, 3), nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(27, 6)]
    trunk, outs = nn.Sequential(*layers), heads(6)
    x, y = torch.randn(4, 2, 8, 8), targets(4)
    return Case(trunk.parameters(), lambda: regress(trunk(x), outs, y), [trunk, outs])


def tokens():
    """Three axes, a layer norm, attention, and a linear layer without bias."""
    layer = nn.TransformerEncoderLayer(6, 2, 8, dropout=0.0, batch_first=True)
    last, outs = nn.Linear(6, 6, bias=False), heads(6)
    x, y = torch.randn(4, 3, 6), targets(4)
    shared = [*layer.parameters(), *last.parameters()]
    return Case(shared, lambda: regress(last(layer(x)).mean(1), outs, y), [layer, last, outs])


def lstm():
    trunk, outs = nn.LSTM(5, 6, batch_first=True), heads(6)
    x, y = torch.randn(4, 3, 5), targets(4)
    return Case(trunk.parameters(), lambda: regress(trunk(x)[0][:, -1], outs, y), [trunk, outs])


def tied():
    """One layer used three times, its weight once more by itself."""
    first, layer, outs = nn.Linear(5, 6), nn.Linear(6, 6), heads(6)
    x, y = torch.randn(9, 5), targets(9)

    def losses():
        hidden = layer(torch.tanh(layer(torch.tanh(layer(first(x))))))
        return regress(hidden, outs, y)

    return Case([*first.parameters(), *layer.parameters()], losses, [first, layer, outs])


def tied_otherwise():
    first, layer, outs = nn.Linear(5, 6), nn.Linear(6, 6), heads(6)
    x, y = torch.randn(9, 5), targets(9)

    def losses():
        hidden = torch.tanh(layer(first(x)))
        return regress(hidden @ layer.weight * layer.bias, outs, y)

    return Case([*first.parameters(), *layer.parameters()], losses, [first, layer, outs])


def tied_to_a_head():
    """The first task reads the features with the trunk's own weight."""
    first, layer, outs = nn.Linear(5, 6), nn.Linear(6, 6), heads(6)
    x, y = torch.randn(9, 5), targets(9)

    def losses():
        features = torch.tanh(layer(first(x)))
        return [(features @ layer.weight).square().mean(), *regress(features, outs, y)[1:]]

    return Case([*first.parameters(), *layer.parameters()], losses, [first, layer, outs[1:]])


def depths():
    """The tasks leave the trunk at three depths."""
    layers, outs = nn.ModuleList(nn.Linear(6, 6) for _ in range(K)), heads(6)
    x, y = torch.randn(9, 6), targets(9)

    def losses():
        hidden, found = x, []
        for k in range(K):
            hidden = torch.tanh(layers[k](hidden)) + hidden
            found.append((outs[k](hidden)[:, 0] - y[:, k]).square().mean())
        return found

    return Case(layers.parameters(), losses, [layers, outs])


def cross_stitch():
    """One column a task, mixed after each layer (Misra et al., CVPR 2016)."""
    columns = nn.ModuleList(nn.ModuleList(nn.Linear(5, 5) for _ in range(K)) for _ in range(2))
    mixing = nn.ParameterList(nn.Parameter(torch.eye(K) + 0.1) for _ in range(2))
    outs = heads(5)
    x, y = torch.randn(9, 5), targets(9)

    def losses():
        hidden = [x] * K
        for layers, mix in zip(columns, mixing, strict=True):
            own = torch.stack([torch.tanh(layer(h)) for layer, h in zip(layers, hidden, strict=True)])
            hidden = list(torch.einsum("kj,jbn->kbn", mix, own).unbind())
        return [(outs[k](hidden[k])[:, 0] - y[:, k]).square().mean() for k in range(K)]

    return Case([*columns.parameters(), *mixing], losses, [columns, mixing, outs])


def several_features():
    """An encoder whose tasks read features of all its levels."""
    levels, outs = nn.ModuleList(nn.Linear(6, 6) for _ in range(3)), heads(18)
    x, y = torch.randn(9, 6), targets(9)

    def losses():
        hidden, found = x, []
        for level in levels:
            hidden = torch.tanh(level(hidden))
            found.append(hidden)
        return [(out(torch.cat(found, 1))[:, 0] - y[:, k]).square().mean() for k, out in enumerate(outs)]

    return Case(levels.parameters(), losses, [levels, outs])


def own_inputs():
    """One input a task, in batches of different sizes (Office-31 style)."""
    trunk, outs = nn.Sequential(nn.Linear(5, 8), nn.Tanh()), heads(8)
    xs = [torch.randn(3 + 2 * k, 5) for k in range(K)]
    ys = [torch.randn(len(x)) for x in xs]

    def losses():
        return [(out(trunk(x))[:, 0] - y).square().mean() for out, x, y in zip(outs, xs, ys, strict=True)]

    return Case(trunk.parameters(), losses, [trunk, outs])


def frozen():
    case = mlp()
    case.shared[0].requires_grad_(False)
    case.parameters = [p for p in case.parameters if p.requires_grad]
    return case


def a_part_is_shared():
    """Parameters of the trunk that are not called shared: they belong to all tasks and not to the Gramian."""
    case = mlp()
    case.shared = case.shared[:2]
    return case


def a_shared_weight_of_one_task():
    case = depths()
    case.shared = [*case.shared, case.parameters[-1]]
    return case


def own_node():
    class Double(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # noqa: ARG004
            return 2 * x

        @staticmethod
        def backward(ctx, gradient):  # noqa: ARG004
            return 2 * gradient

    trunk, outs = nn.Linear(5, 6), heads(6)
    x, y = torch.randn(7, 5), targets(7)
    return Case(trunk.parameters(), lambda: regress(Double.apply(trunk(x)), outs, y), [trunk, outs])


def hooked():
    case = wide()
    case.shared[0].register_hook(lambda gradient: 3 * gradient)
    return case


def checkpointed():
    trunk, outs = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Linear(8, 6)), heads(6)
    x, y = torch.randn(7, 5), targets(7)

    def losses():
        return regress(torch.utils.checkpoint.checkpoint(trunk, x, use_reentrant=False), outs, y)

    return Case(trunk.parameters(), losses, [trunk, outs])


def embedding():
    trunk, outs = nn.Embedding(10, 6), heads(6)
    x, y = torch.randint(10, (7,)), targets(7)
    return Case(trunk.parameters(), lambda: regress(F.relu(trunk(x)), outs, y), [trunk, outs])


CASES = {
    build.__name__: build
    for build in (
        mlp,
        wide,
        no_activation,
        no_heads,
        cnn,
        tokens,
        lstm,
        tied,
        tied_otherwise,
        tied_to_a_head,
        depths,
        cross_stitch,
        several_features,
        own_inputs,
        frozen,
        a_part_is_shared,
        a_shared_weight_of_one_task,
        own_node,
        hooked,
        checkpointed,
        embedding,
    )
}


def build(name):
    """The case of that name in float64, the same at every call."""
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    try:
        return CASES[name]()
    finally:
        torch.set_default_dtype(torch.float32)


def flat_grads(parameters):
    """`.grad` of all of them as one vector."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in parameters])
