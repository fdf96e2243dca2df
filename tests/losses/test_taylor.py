"""Losses that are searched: they equal the polynomial of the paper, and each member and task has its own."""

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch.func import grad, jacrev

from mtl.benchmarks import load_checked
from mtl.hyperparameters import domains
from mtl.losses import make_loss
from mtl.losses.examples import example
from mtl.search.space import make_member
from mtl.search.space.build import build_space
from mtl.search.space.grammar import read_options
from mtl.train import Cohort, Settings, train
from tests.tiny import Tiny

NAMES = tuple(f"theta{place}" for place in range(8))
FOUND = (0.3, -0.4, 1.7, -2.2, 3.1, 2.9, -1.3, 0.8)
KINDS = {"taylor": ("classes", "yes or no"), "taylor-numbers": ("numbers",)}


def polynomial(theta, x, y):
    """The expansion as the paper writes it, of numbers."""
    t = theta
    total = t[2] * (y - t[1]) + t[3] * (y - t[1]) ** 2 / 2 + t[4] * (y - t[1]) ** 3 / 6
    total = total + t[5] * (x - t[0]) * (y - t[1]) + t[6] * (x - t[0]) * (y - t[1]) ** 2 / 2
    return -(total + t[7] * (x - t[0]) ** 2 * (y - t[1]) / 2)


def pairs(kind, prediction, target):
    """Of each label the (label, prediction) pairs that it is summed over."""
    if kind == "classes":
        return F.one_hot(target, prediction.shape[-1]).double(), prediction.softmax(-1)
    if kind == "yes or no":
        return torch.stack([1 - target, target], -1), torch.stack([-prediction, prediction], -1).sigmoid()
    return target[:, None], prediction


def brute_force(theta, kind, prediction, target, less):
    labels, outputs = pairs(kind, prediction, target)
    each = [
        polynomial(theta, x, y) - (polynomial(theta, x, x) if less else 0)
        for x, y in zip(labels.flatten(), outputs.flatten(), strict=True)
    ]
    return sum(each) / target.numel()


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in KINDS.items() for kind in kinds])
def test_value_and_gradient_are_those_of_the_written_polynomial(name, kind):
    prediction, target = example(kind)
    loss = dataclasses.replace(make_loss(name), **dict(zip(NAMES, FOUND, strict=True)))
    torch.testing.assert_close(loss(prediction, target), brute_force(FOUND, kind, prediction, target, less=True))
    slope = grad(lambda p: loss(p, target))(prediction)
    written = grad(lambda p: brute_force(FOUND, kind, p, target, less=False))(prediction)
    torch.testing.assert_close(slope, written)
    assert torch.autograd.gradcheck(lambda p: loss(p, target), prediction.requires_grad_())


@pytest.mark.parametrize("key", NAMES)
@pytest.mark.parametrize("name", KINDS)
def test_every_coefficient_that_is_searched_changes_the_gradient(name, key):
    prediction, target = example(KINDS[name][0])
    loss = dataclasses.replace(make_loss(name), **dict(zip(NAMES, FOUND, strict=True)))
    moved = dataclasses.replace(loss, **{key: getattr(loss, key) + 0.5})
    slopes = [grad(lambda p, each=each: each(p, target))(prediction) for each in (loss, moved)]
    change = float((slopes[0] - slopes[1]).norm() / slopes[0].norm())
    assert change > 1e-3 if domains(loss)[key].search else change < 1e-9


@pytest.mark.parametrize(
    ("name", "usual", "centre"),
    [
        ("taylor", lambda point: -point[0] * point[1].log(), (0.0, 0.5)),
        ("taylor-numbers", lambda point: (point[1] - point[0]) ** 2, (0.0, 0.0)),
    ],
)
def test_the_start_is_an_expansion_of_the_usual_loss(name, usual, centre):
    loss = make_loss(name)
    at = torch.tensor(centre, dtype=torch.float64)
    first, second = -grad(usual)(at), -jacrev(grad(usual))(at)
    third = -jacrev(jacrev(grad(usual)))(at)
    expected = (*centre, first[1], second[1, 1], third[1, 1, 1], second[0, 1], third[0, 1, 1], third[0, 0, 1])
    assert [getattr(loss, name) for name in NAMES] == pytest.approx([float(each) for each in expected])


def test_untuned_losses_are_known_ones():
    prediction, target = example("numbers")
    torch.testing.assert_close(make_loss("taylor-numbers")(prediction, target), make_loss("mse")(prediction, target))
    prediction, target = example("classes")
    true = prediction.softmax(-1)[range(len(target)), target]
    torch.testing.assert_close(make_loss("taylor")(prediction, target), (2 * (1 - true) ** 2).mean())
    two = make_loss("taylor:theta0=0.2")(torch.stack([0 * prediction[:, 0], prediction[:, 0]], -1), target % 2)
    torch.testing.assert_close(make_loss("taylor:theta0=0.2")(prediction[:, :1], target % 2), two)


@pytest.mark.parametrize(
    ("spec", "written"),
    [
        ("taylor", "-(2 x (y - 0.5) - 2 x (y - 0.5)^2)"),
        ("taylor-numbers", "-(-y^2 + 2 x y)"),
        ("taylor:theta0=-1,theta4=9,theta5=0,theta6=0,theta7=-0.5", "-(1.5 (y - 0.5)^3 - 0.25 (x + 1)^2 (y - 0.5))"),
        ("taylor:theta5=0,theta6=0", "-(0)"),
    ],
)
def test_a_loss_is_written_as_an_equation(spec, written):
    assert make_loss(spec).equation() == written
    assert str(make_loss(spec)) == spec


def test_members_with_losses_of_their_own_in_each_task_equal_single_runs():
    ranges = ["loss.sign=taylor", "loss.product=taylor-numbers", "loss.product.theta4=-0.1:0.1"]
    space = build_space(Tiny(), ["equal"], read_options(ranges))
    searched = {name for name in space.varied if name.startswith("loss.")}
    every = {f"loss.{task}.{key}" for task in ("sign", "product") for key in NAMES}
    assert searched == every - {"loss.sign.theta2"}
    drawn = [space.sample(np.random.default_rng(seed)) for seed in range(4)]
    settings = Settings(steps=6, batch_size=32)
    cohort = Cohort(Tiny(), load_checked(Tiny()), [make_member(values, 5) for values in drawn], settings)
    cohort.advance(6)
    seen = set()
    for values, found in zip(drawn, cohort.results(), strict=True):
        tasks = []
        for task, name in zip(Tiny.tasks, ("taylor", "taylor-numbers"), strict=True):
            own = {key: value for key in NAMES if (value := values.get(f"loss.{task.name}.{key}")) is not None}
            tasks.append(dataclasses.replace(task, loss=dataclasses.replace(make_loss(name), **own)))

        class Changed(Tiny):
            pass

        Changed.tasks = tuple(tasks)
        own_settings = dataclasses.replace(settings, lr=values["lr"], weight_decay=values["weight_decay"])
        single = train(Changed(), load_checked(Tiny()), "equal", own_settings, seed=5)
        np.testing.assert_allclose(found.history["train_loss"], single.history["train_loss"], atol=1e-5, rtol=1e-5)
        for task in ("sign", "product"):
            assert found.metrics[task] == pytest.approx(single.metrics[task], abs=1e-5)
        seen.add(str(found.history["train_loss"]))
    assert len(seen) == len(drawn)
