"""What users write: losses as functions, classes, modules, instances, and losses of ours."""

from dataclasses import dataclass

import torch
from torch import nn

from mtl.hyperparameters import hyper
from mtl.losses.one_each import Regression


def logistic(prediction, target, width: float = 1.0):
    """Log-cosh of a width."""
    return (width * torch.log(torch.cosh((prediction - target) / width))).mean()


def branching(prediction, target):
    """Another loss where errors are large, which cannot be vectorised."""
    error = (prediction - target).abs()
    return error.mean() if error.mean() > 1 else error.square().mean()


def fire(prediction, target, width: float = 1.0):
    """Its name between colons is that of a picture to some terminals."""
    return ((prediction - target) / width).square().mean()


def total(prediction, target):
    return (prediction - target).square().sum()


def backwards(prediction, target):
    return -(prediction - target).square().mean()


def slopeless(prediction, target):
    return (prediction - target.detach()).detach().square().mean() + 0 * prediction.sum()


def noisy(prediction, target):
    return (prediction - target + torch.randn_like(prediction)).square().mean()


def crossed(prediction, target):
    return nn.functional.cross_entropy(prediction, target)


def root(prediction, target):
    return (prediction - target).square().mean().sqrt() + prediction.exp().mean() * 0


def picky(prediction, target):
    if not bool(prediction.abs().max() < 100):
        raise ValueError("too far")
    return (prediction - target).square().mean()


class Charbonnier(nn.Module):
    """Square root of the squared error and a constant."""

    def __init__(self, epsilon=0.1, power: float = 1, weights: torch.Tensor | None = None, other=None):
        super().__init__()
        self.epsilon, self.power, self.weights, self.other = epsilon, power, weights, other

    def forward(self, prediction, target):
        each = ((prediction - target) ** 2 + self.epsilon**2) ** (self.power / 2)
        return (each if self.weights is None else each * self.weights).mean()


class Edges(nn.Module):
    """Differences of neighbours by a filter that is a buffer."""

    def __init__(self, strength: float = 0.5):
        super().__init__()
        self.strength = strength
        self.register_buffer("kernel", torch.tensor([[[-1.0, 1.0]]]))

    def forward(self, prediction, target):
        error = prediction - target
        rows = error.reshape(-1, 1, error.shape[-1])
        return error.square().mean() + self.strength * nn.functional.conv1d(rows, self.kernel).square().mean()


class Moving(nn.Module):
    """Divides by a mean that it keeps, which nothing here would keep for it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))

    def forward(self, prediction, target):
        error = (prediction - target).square().mean()
        self.scale.mul_(0.9).add_(0.1 * error.detach())
        return error / self.scale


class Counting:
    """Counts its calls, but every batch has one of its own."""

    def __init__(self):
        self.calls = 0

    def __call__(self, prediction, target):
        self.calls += 1
        return (prediction - target).square().mean() * min(1.0, self.calls / 20)


seen = []


def remembers(prediction, target):
    """The same, in the whole module."""
    seen.append(prediction)
    return (prediction - target).square().mean() * len(seen)


class Projected(nn.Module):
    """Compares along directions that are drawn anew with every module."""

    def __init__(self, directions: int = 3):
        super().__init__()
        self.register_buffer("directions", torch.randn(1, directions))

    def forward(self, prediction, target):
        return ((prediction - target).reshape(-1, 1) @ self.directions).square().mean()


class Perceptual(nn.Module):
    """Compares what a network that is frozen makes of both."""

    def __init__(self):
        super().__init__()
        weight = torch.linspace(-1.0, 1.0, 4).reshape(4, 1)
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, prediction, target):
        seen, wanted = (torch.tanh(each.reshape(-1, 1) @ self.weight.T) for each in (prediction, target))
        return (seen - wanted).square().mean()


class Learning(nn.Module):
    """Has a width that it would learn."""

    def __init__(self):
        super().__init__()
        self.width = nn.Parameter(torch.ones(()))

    def forward(self, prediction, target):
        return ((prediction - target) / self.width).square().mean() + self.width.log()


class Unreduced(nn.Module):
    """As in some libraries, it is not the mean unless asked for."""

    def __init__(self, power: float = 2.0, reduction: str = "none"):
        super().__init__()
        self.power, self.reduction = power, reduction

    def forward(self, prediction, target):
        each = (prediction - target).abs() ** self.power
        return each if self.reduction == "none" else each.mean()


def summed(prediction, target, reduction="sum"):
    each = (prediction - target).square()
    return each.sum() if reduction == "sum" else each.mean()


class Needs:
    """A loss with an argument that has no default."""

    def __init__(self, factor):
        self.factor = factor

    def __call__(self, prediction, target):
        return self.factor * (prediction - target).abs().mean()


def spoils_predictions(prediction, target):
    prediction -= target
    return prediction.square().mean()


def spoils_labels(prediction, target):
    target.clamp_(min=0)
    return (prediction - target).square().mean()


def spoils_classes(prediction, target):
    target[target == 2] = 0
    return nn.functional.cross_entropy(prediction, target)


def unreduced(prediction, target):
    return (prediction - target).square()


class Named:
    """A loss whose arguments are called as what every loss of ours has."""

    def __init__(self, kind="square", name="any", terms: float = 1.0):
        self.kind, self.name, self.terms = kind, name, terms

    def __call__(self, prediction, target):
        error = prediction - target
        return self.terms * (error.abs() if self.kind == "absolute" else error.square()).mean()


class Trains(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(1, 1)


class Overlap(nn.Module):
    """As segmentation libraries have it: predictions (N, C, H, W), labels (N, H, W)."""

    def __init__(self, mode: str, classes=None):
        super().__init__()
        self.mode, self.classes = mode, classes

    def forward(self, prediction, target):
        truth = nn.functional.one_hot(target, prediction.shape[1]).movedim(-1, 1)
        return 1 - (prediction.softmax(1) * truth).sum((2, 3)).mean() / truth[0, 0].numel()


learning, counting = Learning(), Counting()
crossed_instance = nn.CrossEntropyLoss()
made = nn.HuberLoss(delta=3.0)
number = 3


@dataclass(frozen=True)
class Fourth(Regression):
    """Fourth power of the error."""

    name = "fourth"
    scale: float = hyper(1.0, 0.1, search=(0.5, 2.0), doc="divides the error")

    def of_error(self, error):
        return (error / self.scale) ** 4


@dataclass(frozen=True)
class Sixth(Fourth):
    """Sixth power, of which a search tries other scales unless it is told."""

    name = "sixth"
    scale: float = hyper(1.0, 0.01, search=(1.0, 10.0), doc="divides the error")

    def of_error(self, error):
        return (error / self.scale) ** 6


def distance(prediction, target):
    return (prediction - target).square().mean().sqrt()


class Fussy(nn.Module):
    def __init__(self, mode: str = "multiclass"):
        super().__init__()
        assert mode in {"binary", "multiclass"}

    def forward(self, prediction, target):
        return (prediction - target).abs().mean()
