"""A learned loss equals the equations of ML3 and AdaLFL in NumPy, which knows neither autograd nor the code.

A network M of two hidden layers with smooth leaky ReLUs; a step of the model, theta' = theta - lr d/dtheta M; a step of
the loss, phi down d/dphi L(theta'), with Adam. Derivatives by predictions are written out, those by phi differences.
The models are linear, with few numbers.
"""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from mtl.losses import LearnedLoss, make_loss
from mtl.losses.loss_network import network_size

pytestmark = pytest.mark.usefixtures("float64")

HIDDEN, RATE = 4, 1e-2
LR = {"numbers": 0.3, "classes": 5.0, "yes or no": 5.0}  # the network reads a tenth of the logarithms of classes
BETA, GAMMA = 10.0, 0.01
OF = {"numbers": "mse", "classes": "cross-entropy", "yes or no": "binary-cross-entropy"}
WIDTH = {"numbers": 1, "classes": 3, "yes or no": 1}
DRAW = np.random.default_rng(5)
PHI = DRAW.normal(0, 0.7, network_size(HIDDEN))
PHI[-HIDDEN - 1 :] = np.abs(
    PHI[-HIDDEN - 1 :]
)  # the last layer, so that the loss is where its slope is not a hundredth
INPUTS = DRAW.normal(size=(6, 2))
LABELS = {
    "numbers": DRAW.normal(size=6),
    "classes": np.array([0, 2, 1, 1, 0, 2]),
    "yes or no": np.array([0.0, 1.0, 1.0, 0.0, 0.3, 1.0]),  # the fifth is partly both
}


def bent(x):
    """The smooth leaky ReLU."""
    return (1 - GAMMA) * np.log(np.exp(BETA * x) + 1) / BETA + GAMMA * x


def slope(x):
    return (1 - GAMMA) / (1 + np.exp(-BETA * x)) + GAMMA


def network(phi, label, predicted):
    """What is summed over classes, for one label and one prediction as the network reads them, and its slope by it."""
    ends = np.cumsum([2 * HIDDEN, HIDDEN, HIDDEN**2, HIDDEN])
    first, first_bias, second, second_bias, last = np.split(phi, ends)
    first, second = first.reshape(2, HIDDEN), second.reshape(HIDDEN, HIDDEN)
    below = label * first[0] + predicted * first[1] + first_bias
    above = bent(below) @ second + second_bias
    steep = slope(above) * ((slope(below) * first[1]) @ second)
    return bent(above) @ last[:HIDDEN] + last[HIDDEN], steep @ last[:HIDDEN]


def learned(phi, kind, outputs, label):
    """M of one example, and its derivative by the outputs of the model."""
    if kind == "numbers":
        value, steep = network(phi, 0.1 * label, outputs[0] - label)
        return bent(value), np.array([slope(value) * steep])
    if kind == "yes or no":
        shares, signs = [label, 1 - label], [1, -1]
        logs = [-np.log(1 + np.exp(-sign * outputs[0])) for sign in signs]
        by_output = [np.array([sign / (1 + np.exp(sign * outputs[0]))]) for sign in signs]
    else:
        probabilities = np.exp(outputs) / np.exp(outputs).sum()
        shares, logs = np.eye(len(outputs))[label], np.log(probabilities)
        by_output = np.eye(len(outputs)) - probabilities
    each = [network(phi, 2 * share, 0.1 * log) for share, log in zip(shares, logs, strict=True)]
    total = sum(value for value, _ in each)
    by = sum(0.1 * steep * row for (_, steep), row in zip(each, by_output, strict=True))
    return bent(total), slope(total) * by


def given(kind, outputs, label):
    """L of one example."""
    if kind == "numbers":
        return (outputs[0] - label) ** 2
    if kind == "yes or no":
        return label * np.log(1 + np.exp(-outputs[0])) + (1 - label) * np.log(1 + np.exp(outputs[0]))
    return np.log(np.exp(outputs).sum()) - outputs[label]


def stepped(phi, kind, theta, rows):
    """theta' = theta - lr d/dtheta mean M, of the model outputs = theta inputs."""
    gradient = np.zeros_like(theta)
    for row in rows:
        _, by_outputs = learned(phi, kind, theta @ INPUTS[row], LABELS[kind][row])
        gradient += np.outer(by_outputs, INPUTS[row]) / len(rows)
    return theta - LR[kind] * gradient


def outer_gradient(phi, kind, theta, batches, ahead):
    """d/dphi of the mean L at what steps on the batches lead to, by differences."""

    def after(at):
        moved = theta
        for rows in batches:
            moved = stepped(at, kind, moved, rows)
        return np.mean([given(kind, moved @ INPUTS[row], LABELS[kind][row]) for row in ahead])

    small = 1e-5
    return np.array(
        [(after(phi + small * unit) - after(phi - small * unit)) / (2 * small) for unit in np.eye(len(phi))]
    )


def adam(phi, gradients, rate):
    """phi after steps of Adam; each gradient is asked for where phi is then."""
    first, second = np.zeros_like(phi), np.zeros_like(phi)
    for number, gradient in enumerate(gradients, 1):
        found = gradient(phi)
        first, second = 0.9 * first + 0.1 * found, 0.999 * second + 0.001 * found**2
        phi = phi - rate * (first / (1 - 0.9**number)) / (np.sqrt(second / (1 - 0.999**number)) + 1e-8)
    return phi


def starting(tmp_path: Path, kind, **settings):
    """A learned loss whose weights are PHI."""
    loss = LearnedLoss(OF[kind], hidden=HIDDEN)
    loss.weights.copy_(torch.from_numpy(PHI))
    loss.save(tmp_path / "loss.json")
    return LearnedLoss(OF[kind], hidden=HIDDEN, start=str(tmp_path / "loss.json"), **settings)


def linear(theta):
    model = nn.Linear(2, len(theta), bias=False)
    model.weight.data.copy_(torch.from_numpy(theta))
    return model


def batch(kind, rows):
    return torch.from_numpy(INPUTS[rows]), torch.from_numpy(LABELS[kind][rows])


THETA = {kind: np.random.default_rng(7).normal(size=(width, 2)) for kind, width in WIDTH.items()}
EVERY, SOME, OTHERS = [*range(6)], [0, 1, 2], [3, 4, 5]


@pytest.mark.parametrize("kind", OF)
def test_the_network_is_the_papers_equation(kind, tmp_path):
    loss, (inputs, labels) = starting(tmp_path, kind), batch(kind, EVERY)
    prediction = linear(THETA[kind])(inputs).detach().requires_grad_()
    value = loss(prediction, labels)
    (found,) = torch.autograd.grad(value, prediction)
    each = [
        learned(PHI, kind, row, label) for row, label in zip(prediction.detach().numpy(), labels.numpy(), strict=True)
    ]
    assert value.item() == pytest.approx(np.mean([value for value, _ in each]), rel=1e-9)
    assert found.numpy() == pytest.approx(np.stack([by for _, by in each]) / 6, rel=1e-9)
    spec = make_loss(f"learned:of={OF[kind]},hidden={HIDDEN},rate=0,start={tmp_path / 'loss.json'}")
    assert spec(prediction, labels).item() == pytest.approx(value.item(), rel=1e-9)


@pytest.mark.parametrize("on", ["train", "validation"])
@pytest.mark.parametrize("kind", OF)
def test_a_step_of_the_loss_is_the_papers(kind, on, tmp_path):
    loss, model = starting(tmp_path, kind, rate=RATE, on=on), linear(THETA[kind])
    ahead = OTHERS if on == "validation" else SOME
    expected = outer_gradient(PHI, kind, THETA[kind], [SOME], ahead)
    other = batch(kind, OTHERS) if on == "validation" else None
    loss.meta_step(model, *batch(kind, SOME), lr=LR[kind], validation=other)
    # The first moment of Adam is a tenth of its first gradient.
    assert np.abs(expected).max() > 1e-3
    assert 10 * loss.first.numpy() == pytest.approx(expected, rel=1e-6, abs=1e-9)
    assert np.array_equal(model.weight.detach().numpy(), THETA[kind])
    loss.meta_step(model, *batch(kind, SOME), lr=LR[kind], validation=other)

    def gradient(phi):
        return outer_gradient(phi, kind, THETA[kind], [SOME], ahead)

    large = np.abs(expected) > 1e-4  # where Adam divides by nothing that rounding decides
    assert loss.weights.numpy()[large] == pytest.approx(adam(PHI, [gradient] * 2, RATE)[large], abs=1e-6 * RATE)


@pytest.mark.parametrize("kind", OF)
def test_what_is_learned_before_training_goes_through_several_steps_of_new_models(kind, tmp_path):
    thetas = [np.random.default_rng(seed).normal(size=THETA[kind].shape) for seed in (1, 2)]
    loss = starting(tmp_path, kind, offline_steps=2, inner_steps=2, offline_rate=RATE)
    loss.begin(
        map(linear, thetas).__next__, itertools.cycle([batch(kind, SOME), batch(kind, OTHERS)]), lr=LR[kind]
    )  # each of the two steps takes two batches, and its loss is read on the second

    def after(theta):
        return lambda phi: outer_gradient(phi, kind, theta, [SOME, OTHERS], OTHERS)

    large = np.min([np.abs(after(theta)(PHI)) for theta in thetas], 0) > 1e-4
    assert large.sum() >= 10 and not loss.waiting.any()
    assert loss.weights.numpy()[large] == pytest.approx(adam(PHI, map(after, thetas), RATE)[large], abs=1e-4 * RATE)
