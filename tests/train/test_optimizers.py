"""Optimizers are read by torch's names and arguments, and training uses them."""

import dataclasses
import sys
import types

import pytest
import torch

from mtl.train import Cohort, Member, Settings, train
from mtl.train.optimizers import SIDE_BY_SIDE, read_optimizer
from tests.population.problem import Three, assert_is_the_single_run


def made(text, **settings):
    return Settings(optimizer=text, **settings).make_optimizer([torch.nn.Parameter(torch.ones(2, 2))])


@pytest.mark.parametrize("name", ["Adadelta", "Adafactor", "Adamax", "ASGD", "NAdam", "RAdam", "Rprop"])
def test_every_class_of_torch_in_either_spelling(name):
    cls = getattr(torch.optim, name)
    for text in (name, name.lower()):
        assert type(made(text)) is cls and made(text).defaults["lr"] == 1e-3


def test_every_class_of_torch_is_made_or_refused_in_one_line():
    classes = [each for each in vars(torch.optim).values() if isinstance(each, type)]
    refused = set()
    for name in {cls.__name__ for cls in classes} - {"Optimizer"}:
        try:
            made(name)
        except ValueError as error:
            assert "\n" not in str(error)
            refused.add(name)
    assert refused == {"SparseAdam"}


def test_arguments_are_those_of_the_class():
    adamw, sgd = made("adamw:betas=0.9/0.95,eps=1e-7").defaults, made("sgd:momentum=0.5,nesterov=true").defaults
    assert (adamw["betas"], adamw["eps"]) == ((0.9, 0.95), 1e-7)
    assert (sgd["momentum"], sgd["nesterov"]) == (0.5, True)
    assert made("adafactor:eps=none/1e-2").defaults["eps"] == (None, 1e-2)
    assert made("muon:adjust_lr_fn=match_rms_adamw,ns_steps=3").defaults["ns_steps"] == 3


def test_a_spec_leaves_the_rest_to_the_settings():
    sgd = made("SGD:nesterov=true", momentum=0.7, lr=0.2, weight_decay=0.3).defaults
    assert (sgd["momentum"], sgd["lr"], sgd["weight_decay"]) == (0.7, 0.2, 0.3)
    assert made("NAdam").defaults["weight_decay"] == 0.0 and made("adamw").defaults["weight_decay"] == 0.0


class Halved(torch.optim.SGD):
    """A class of a user's own."""

    def __init__(self, params, lr=1e-3, half=True):
        super().__init__(params, lr=lr / 2 if half else lr)


def test_a_class_of_any_package(monkeypatch):
    module = types.ModuleType("halved")
    module.Halved = Halved
    monkeypatch.setitem(sys.modules, "halved", module)
    assert made("halved:Halved", lr=0.5).defaults["lr"] == 0.25
    assert made("halved:Halved:half=false", lr=0.5).defaults["lr"] == 0.5
    with pytest.raises(ValueError, match="no argument 'hlaf': did you mean half"):
        made("halved:Halved:hlaf=false")
    with pytest.raises(ValueError, match="has no weight decay, and weight_decay is"):
        made("halved:Halved", weight_decay=0.1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("adamm", "unknown optimizer 'adamm': did you mean adam"),
        ("sgd:momentun=0.9", "sgd has no argument 'momentun': did you mean momentum"),
        ("sgd:", "optimizer 'sgd:': nothing stands behind its colon, where KEY=VALUE is wanted"),
        ("sgd:momentum", "'momentum' is not KEY=VALUE"),
        ("sgd:momentum=fast", "momentum='fast' cannot be read as a number"),
        ("sgd:momentum=0.1,momentum=0.2", "momentum stands there twice"),
        ("sgd:nesterov=1", "nesterov='1' cannot be read as true or false"),
        ("sgd:momentum=0,nesterov=true", "Nesterov momentum requires a momentum"),
        ("adam:betas=0.9", "cannot be read as 2 numbers joined by /"),
        ("adam:betas=0.9/1.5", "Invalid beta parameter at index 1"),
        ("adam:lr=0.1", "lr is a training setting of its own, --lr"),
        ("adam:weight_decay=0.1", "weight_decay is a training setting of its own, --weight-decay"),
        ("torch.optim:Adm", "torch.optim has no optimizer 'Adm': did you mean Adam"),
        ("no_such_package:Adam", "'no_such_package' cannot be imported"),
    ],
)
def test_a_bad_spec_is_one_line(text, message):
    with pytest.raises(ValueError, match=message) as caught:
        Settings(optimizer=text)
    assert "\n" not in str(caught.value)


def test_trying_a_class_draws_no_random_numbers_of_the_run():
    read_optimizer.cache_clear()
    torch.manual_seed(0)
    wanted = torch.rand(2)
    torch.manual_seed(0)
    Settings(optimizer="ASGD")
    assert torch.equal(torch.rand(2), wanted)


@pytest.mark.parametrize("name", SIDE_BY_SIDE)
def test_what_a_population_steps_side_by_side(name):
    assert read_optimizer(name).side_by_side
    at_default = {"adam": "amsgrad=false", "adamw": "amsgrad=false", "rmsprop": "centered=false"}.get(name, "eps=1e-3")
    if name != "sgd":
        assert read_optimizer(f"{name}:{at_default}").side_by_side
    assert not read_optimizer(f"{name}:maximize=true").side_by_side


@pytest.mark.usefixtures("float64")
def test_members_with_other_arguments_are_one_program_and_the_single_runs():
    texts = ["sgd:momentum=0.9,nesterov=true", "sgd:momentum=0.3,dampening=0.1", "sgd"]
    _check([Member("equal", seed, {"optimizer": text, "lr": 1e-2}) for seed, text in enumerate(texts)], programs=1)
    texts = ["adamw:betas=0.9/0.95,eps=1e-7", "adamw:amsgrad=false", "adamw:betas=0.5/0.9"]
    _check([Member("uncertainty", seed, {"optimizer": text}) for seed, text in enumerate(texts)], programs=1)


@pytest.mark.usefixtures("float64")
def test_other_optimizers_are_stepped_one_at_a_time_which_is_said():
    members = [Member("equal", seed, {"optimizer": "ASGD:t0=10"}) for seed in range(2)]
    told = _check(members, programs=2)
    assert told == ["optimizer ASGD:t0=10 is stepped one member at a time"]


def _check(members, programs):
    """Every member is the run by itself; the lines that were told."""
    benchmark, told = Three(), []
    splits, settings = benchmark.load(), Settings.of(benchmark.recipe, {"steps": 20})
    cohort = Cohort(benchmark, splits, members, settings, tell=told.append)
    assert len(cohort._groups.all) == programs
    cohort.advance(100)
    for member, result in zip(members, cohort.results(), strict=True):
        assert_is_the_single_run(result, benchmark, splits, member, settings)
    return told


@pytest.mark.usefixtures("float64")
def test_arguments_change_within_a_program():
    """As a member's number does: the velocity stays, the momentum is the new one."""
    benchmark = Three()
    settings = Settings.of(benchmark.recipe, {"steps": 20, "optimizer": "sgd:momentum=0.5"})
    cohort = Cohort(benchmark, benchmark.load(), [Member("equal", 0), Member("equal", 1)], settings)
    cohort.advance(5)
    cohort.replace({1: Member("equal", 1, {"optimizer": "sgd:momentum=0.1"})})
    (group,) = cohort._groups.all
    assert group.stepper.population.values["momentum"].flatten().tolist() == [0.5, 0.1]


@pytest.mark.usefixtures("float64")
def test_an_optimizer_that_refuses_the_model_says_so():
    benchmark = Three()
    settings = dataclasses.replace(Settings.of(benchmark.recipe), optimizer="torch.optim:Muon")
    with pytest.raises(ValueError, match=r"optimizer 'torch\.optim:Muon': Muon only supports 2D parameters"):
        train(benchmark, benchmark.load(), "equal", settings, seed=0)
