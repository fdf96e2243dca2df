"""Messages name the kind of a thing with its article, wherever something else was wanted."""

import pytest
import torch
from torch import nn

import mtl
from mtl.metrics import torchmetric


class UNet(nn.Module):
    """A class whose name begins with a letter that is named."""


class Hour:
    """Neither a tensor nor anything else that is wanted."""


def balanced(losses):
    weight = torch.ones(3, requires_grad=True)
    mtl.Balancer("equal", shared=[weight], num_tasks=2).backward(losses)


@pytest.mark.parametrize(
    ("value", "kind"),
    [(3, "an int"), (3.0, "a float"), ("text", "a str"), (object(), "an object"), (Hour(), "a Hour")],
)
def test_what_stands_in_place_of_a_loss(value, kind):
    with pytest.raises(TypeError, match=rf"{kind} and no tensor that depends on the model"):
        balanced([value, torch.ones((), requires_grad=True)])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        (3, "an int"),
        (None, "None"),
        (nn.MSELoss(), "an MSELoss"),
        (UNet(), "a UNet"),
        (nn.L1Loss(), "an L1Loss"),
        (torch.ones(2).numpy(), "an ndarray"),
        (torch.ones(2).char().numpy()[0], "an int8"),
        (torch.ones(2).byte().numpy()[0], "a uint8"),
        (UnboundLocalError(), "an UnboundLocalError"),
    ],
)
def test_what_stands_in_place_of_a_metric(value, kind):
    pytest.importorskip("torchmetrics")
    with pytest.raises(ValueError, match=rf"is {kind}, not a torchmetrics.Metric"):
        torchmetric(value)
