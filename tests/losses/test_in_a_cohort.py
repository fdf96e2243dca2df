"""Losses of every origin train in a population as they do alone, and a search names their arguments."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from mtl.benchmarks import load_checked
from mtl.losses import make_loss
from mtl.search.space.build import build_space
from mtl.search.space.grammar import read_options
from mtl.search.space.parameters import Number, Simplex
from mtl.train import Cohort, Member, Settings, train
from tests.tiny import Tiny

FILE = str(Path(__file__).with_name("user_losses.py"))
BRANCHING = f"{FILE}:branching"
SETTINGS = Settings(steps=6, batch_size=32)
LOSSES = [
    {"name": "mae+0.5*huber", "weight2": 0.2, "huber_delta": 0.4},
    {"name": "mae+0.5*huber"},
    {"name": "SmoothL1Loss:beta=0.5"},
    {"name": f"{FILE}:Charbonnier", "epsilon": 0.3},
    {"name": "log-cosh", "width": 0.3},
    {"name": "log-cosh", "width": 3.0},
]


def test_members_with_losses_of_every_origin_equal_single_runs():
    cohort = Cohort(
        Tiny(), load_checked(Tiny()), [Member("equal", 5, losses={"product": each}) for each in LOSSES], SETTINGS
    )
    cohort.advance(6)
    for given, found in zip(LOSSES, cohort.results(), strict=True):
        values = dict(given)
        loss = dataclasses.replace(make_loss(values.pop("name")), **values)

        class Changed(Tiny):
            tasks = (Tiny.tasks[0], dataclasses.replace(Tiny.tasks[1], loss=loss))

        single = train(Changed(), load_checked(Tiny()), "equal", SETTINGS, seed=5)
        assert found.status == single.status == "done"
        assert found.metrics["product"]["mae"] == pytest.approx(single.metrics["product"]["mae"], abs=1e-5)


def test_the_task_whose_loss_cannot_be_vectorised_is_named_once():
    told = []
    members = [
        Member(strategy, 0, losses={"product": {"name": name}})
        for strategy in ("equal", "famo", "uncertainty")
        for name in ("mse", BRANCHING)
    ]
    Cohort(Tiny(), load_checked(Tiny()), members, SETTINGS, tell=told.append)
    (said,) = told
    assert said.startswith("the loss of task 'product' cannot be vectorised, so that members are trained one at a time")
    assert "data-dependent control flow" in said and "issue" not in said


def test_a_member_takes_over_one_whose_loss_cannot_be_vectorised_and_its_loss():
    members = [
        Member("equal", seed, losses={"product": {"name": name}}) for seed, name in enumerate(("mse", BRANCHING))
    ]
    cohort = Cohort(Tiny(), load_checked(Tiny()), members, SETTINGS, tell=lambda _: None)
    cohort.advance(2)
    cohort.exploit({0: 1})
    assert cohort.members[0] == Member("equal", 0, losses=members[1].losses)
    assert cohort.evaluate()[0].metrics == cohort.evaluate()[1].metrics


def by_torch_func(prediction, target):
    """The squared error, by a gradient of its own."""
    slope = torch.func.grad(lambda at: (at.reshape(-1) - target).square().sum() / 2)(prediction)
    return slope.square().mean()


@pytest.mark.parametrize("loss", [by_torch_func, make_loss("mse+0.5*learned:of=mse,rate=0,hidden=6"), "learned"])
def test_members_train_together_the_first_time_too_where_a_loss_takes_gradients_itself(loss):
    if loss == "learned":
        loss = make_loss("learned:of=mse,rate=0,hidden=7")  # a width that no other test has, so that it is made here

    class Own(Tiny):
        tasks = (Tiny.tasks[0], dataclasses.replace(Tiny.tasks[1], loss=loss))

    told = []
    cohort = Cohort(Own(), Own().load(), [Member("equal", seed) for seed in (1, 2)], SETTINGS, tell=told.append)
    cohort.advance(2)
    assert told == [] and all(evaluation.finite for evaluation in cohort.evaluate())


def test_a_search_over_losses_names_their_arguments(monkeypatch):
    monkeypatch.chdir(Path(FILE).parent)
    written = f"loss.product=mae,SmoothL1Loss,huber:delta=0.5,mae+0.1*mse,{Path(FILE).name}:Charbonnier"
    ranges = ["loss.product.beta=0.1:1:log", "loss.product.epsilon=0.01:0.5", "loss.product.weight2=0.05:2"]
    space = build_space(Tiny(), ["equal"], read_options([written, *ranges]))
    losses = space.dimensions["loss.product"].parameter.grid(1)
    assert tuple(losses) == ("mae", "SmoothL1Loss", "huber:delta=0.5", "mae+0.1*mse", f"{FILE}:Charbonnier")
    only = {name: space.dimensions[f"loss.product.{name}"].condition.choices for name in ("beta", "epsilon", "weight2")}
    assert only == {
        "beta": frozenset({"SmoothL1Loss"}),
        "epsilon": frozenset({f"{FILE}:Charbonnier"}),
        "weight2": frozenset({"mae+0.1*mse"}),
    }
    assert "loss.product.delta" not in space.dimensions  # the spec sets it
    with pytest.raises(
        ValueError, match=r"loss\.product=SmothL1Loss: unknown loss 'SmothL1Loss': did you mean SmoothL1Loss"
    ):
        build_space(Tiny(), ["equal"], read_options(["loss.product=SmothL1Loss"]))


def test_class_weights_are_searched_on_the_simplex_or_by_word():
    written = ["loss.sign=cross-entropy,focal", "loss.sign.class_weights=simplex"]
    space = build_space(Tiny(), ["equal"], read_options(written))
    found = space.dimensions["loss.sign.class_weights"]
    assert found.parameter == Simplex(2) and found.condition.choices == {"cross-entropy"}
    members = [
        Member("equal", 5, losses={"sign": {"name": "cross-entropy", "class_weights": weights}})
        for weights in ((0.2, 0.8), (0.7, 0.3), "none", "inverse")
    ]
    cohort = Cohort(Tiny(), load_checked(Tiny()), members, SETTINGS)
    cohort.advance(6)
    first = [result.history["train_loss"][0][0] for result in cohort.results()]
    assert len({round(value, 6) for value in first}) == 4
    alone = build_space(Tiny(), ["equal"], read_options(["loss.sign.class_weights=none,inverse,0.3/0.7"]))
    assert list(alone.dimensions["loss.sign.class_weights"].parameter.grid(1)) == ["none", "inverse", (0.3, 0.7)]
    with pytest.raises(ValueError, match="it is not a number, so no range"):
        build_space(Tiny(), ["equal"], read_options(["loss.sign.class_weights=0.1:0.9"]))


def test_class_weights_of_torchs_losses_are_searched_on_the_simplex_and_are_ours():
    for name, spec in (("weight", "CrossEntropyLoss,NLLLoss"), ("CrossEntropyLoss_weight", "CrossEntropyLoss+mse")):
        written = [f"loss.sign={spec}", f"loss.sign.{name}=simplex"]
        space = build_space(Tiny(), ["equal"], read_options(written))
        assert space.dimensions[f"loss.sign.{name}"].parameter == Simplex(2)
    named = (("CrossEntropyLoss", "weight"), ("cross-entropy", "class_weights"))
    members = [
        Member("equal", 5, losses={"sign": {"name": name, key: weights}})
        for name, key in named
        for weights in ((0.2, 0.8), (0.7, 0.3))
    ]
    cohort = Cohort(Tiny(), load_checked(Tiny()), members, SETTINGS)
    cohort.advance(6)
    theirs, ours = np.array([result.history["train_loss"] for result in cohort.results()]).reshape(2, 2, -1)
    np.testing.assert_allclose(theirs, ours, rtol=1e-5)
    assert abs(theirs[0] - theirs[1]).max() > 1e-3


@pytest.mark.parametrize(
    ("loss", "key"),
    [("multi-label", "positive_weights"), ("BCEWithLogitsLoss", "pos_weight"), ("MultiMarginLoss", "weight")],
)
def test_weights_of_which_the_size_counts_are_not_searched_on_the_simplex(loss, key):
    written = [f"loss.sign={loss}", f"loss.sign.{key}=simplex"]
    with pytest.raises(ValueError, match="each of its numbers counts by itself: values joined by commas, such as 1/2"):
        build_space(Tiny(), ["equal"], read_options(written))
    with pytest.raises(ValueError, match="it is not a number, so no range; list its values"):
        build_space(Tiny(), ["equal"], read_options([written[0], f"loss.sign.{key}=0.5:2"]))
    listed = build_space(Tiny(), ["equal"], read_options([written[0], f"loss.sign.{key}=1/2,2/1"]))
    assert listed.dimensions[f"loss.sign.{key}"].parameter.grid(1) == [(1.0, 2.0), (2.0, 1.0)]


@pytest.mark.parametrize("specs", ["CrossEntropyLoss,MultiMarginLoss", "MultiMarginLoss,CrossEntropyLoss"])
def test_losses_that_share_a_parameter_judge_each_by_itself_what_is_searched_of_it(specs):
    """Whichever stands last: of one the ratios count, of the other the size of each number too."""
    written = [f"loss.sign={specs}", "loss.sign.weight=simplex"]
    with pytest.raises(ValueError, match=r"weight=simplex: .* \(it is a parameter of MultiMarginLoss\)$"):
        build_space(Tiny(), ["equal"], read_options(written))
    listed = build_space(Tiny(), ["equal"], read_options([written[0], "loss.sign.weight=1/2,2/1"]))
    assert listed.dimensions["loss.sign.weight"].parameter.grid(1) == [(1.0, 2.0), (2.0, 1.0)]


def test_a_range_that_two_losses_read_otherwise_is_refused_and_one_that_both_read_alike_is_searched():
    written = [f"loss.product={FILE}:Fourth,{FILE}:Sixth"]

    def read(*more):
        return (
            build_space(Tiny(), ["equal"], read_options([*written, *more])).dimensions["loss.product.scale"].parameter
        )

    with pytest.raises(
        ValueError, match=r"^loss\.product\.scale is searched unasked in unlike ways \(0\.5:2 of .*Fourth"
    ):
        read()
    assert read("loss.product.scale=0.5:3") == Number(0.5, 3.0, False, False)
    with pytest.raises(
        ValueError, match=r"scale=0\.05:2: 0\.05 must be at least 0\.1 \(it is a parameter of .*:Fourth\)$"
    ):
        read("loss.product.scale=0.05:2")
