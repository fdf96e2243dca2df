"""Penalties on weights as matrices: against torch and a plain loop, in a population, after a resume and in moves."""

import copy

import pytest
import torch
from torch import nn

from mtl.population import Population
from mtl.population.penalties import directions, orthogonal_pull, spectral_pull, turned
from mtl.train import Cohort, Member, Settings, train
from tests.population.problem import Pictures, Three, assert_is_the_single_run
from tests.train.plain_loop import trained

pytestmark = pytest.mark.usefixtures("float64")

STEPS = {"steps": 12, "batch_size": 16, "lr": 0.05, "optimizer": "sgd", "momentum": 0.5}
SHAPES = [(5, 3), (3, 5), (1, 4), (4, 4)]


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.5)


def matrices(model):
    return {name: p.flatten(1) for name, p in model.named_parameters() if p.ndim > 1}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_pulls_are_gradients_of_what_they_say(shape):
    matrix = torch.randn(2, *shape, requires_grad=True)
    direction = torch.stack(directions({"one": shape[1], "other": shape[1]}, 7, matrix.detach()))
    for _ in range(3000):
        direction = turned(matrix.detach(), direction)
    largest = torch.linalg.svdvals(matrix)[:, 0].square().sum()
    (wanted,) = torch.autograd.grad(largest, matrix)
    torch.testing.assert_close(spectral_pull(matrix.detach(), direction), wanted, atol=1e-6, rtol=0)
    (wanted,) = torch.autograd.grad((matrix @ matrix.mT - torch.eye(shape[0])).square().sum(), matrix)
    torch.testing.assert_close(orthogonal_pull(matrix.detach()), wanted, atol=1e-10, rtol=0)


def test_a_direction_stays_where_the_matrix_is_zero():
    direction = torch.tensor([0.6, 0.8])
    assert torch.equal(turned(torch.zeros(3, 2), direction), direction)


class Spectral:
    """The penalty as one would write it: a power iteration without gradient, and autograd through the product."""

    def __init__(self, weight, seed):
        self.weight, self.seed, self.vectors = weight, seed, None

    def __call__(self, model):
        found = matrices(model)
        if self.vectors is None:
            starts = directions({name: w.shape[1] for name, w in found.items()}, self.seed, torch.zeros(()))
            self.vectors = dict(zip(found, starts, strict=True))
        total = 0.0
        for name, weight in found.items():
            with torch.no_grad():
                self.vectors[name] = nn.functional.normalize(weight.T @ (weight @ self.vectors[name]), dim=0)
            total = total + (weight @ self.vectors[name]).square().sum()
        return self.weight * total


def orthogonal(model):
    return 0.02 * sum((w @ w.T - torch.eye(len(w))).square().sum() for w in matrices(model).values())


@pytest.mark.parametrize(
    ("given", "penalty"), [({"spectral": 0.1}, Spectral(0.1, 4)), ({"orthogonal": 0.02}, orthogonal)]
)
@pytest.mark.parametrize("benchmark", [Three(), Pictures()], ids=lambda benchmark: benchmark.name)
def test_equal_to_a_plain_loop(given, penalty, benchmark):
    splits, settings, penalty = benchmark.load(), Settings(**STEPS, **given), copy.deepcopy(penalty)
    found = train(benchmark, splits, "equal", settings, seed=4).weights
    usual = trained(benchmark, splits, settings, 4, sgd)
    for name, value in trained(benchmark, splits, settings, 4, sgd, penalty).items():
        torch.testing.assert_close(found[name], value, atol=1e-10, rtol=0)
        assert value.ndim == 1 or float((usual[name] - value).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("benchmark", "architecture"),
    [(Three(), ""), (Pictures(), ""), (Three(), "mmoe:experts=2")],
    ids=["three", "pictures", "mmoe"],
)
def test_a_member_is_the_single_run(benchmark, architecture):
    settings = Settings(steps=20, batch_size=16, lr=1e-2, architecture=architecture)
    members = [
        Member("famo", 1, {"spectral": 0.1, "l1": 1e-3}),
        Member("famo", 2, {"spectral": 0.02, "orthogonal": 0.01, "head_l2": 0.1}),
        Member("famo", 3, {"orthogonal": 0.05}),
        Member("famo", 4),
    ]
    splits, told = benchmark.load(), []
    cohort = Cohort(benchmark, splits, members, settings, tell=told.append)
    assert len(cohort._groups.all) == 2
    cohort.advance(20)
    for member, result in zip(members, cohort.results(), strict=True):
        assert_is_the_single_run(result, benchmark, splits, member, settings)
    assert not told


@pytest.mark.parametrize("vectorised", [True, False])
def test_power_iterations_go_on_after_a_resume_and_in_a_member_that_takes_over(vectorised):
    settings, splits = Settings(steps=30, batch_size=16, lr=1e-2, spectral=0.1), Three().load()
    members = [Member("equal", 1), Member("equal", 2)]
    whole, resumed = (Cohort(Three(), splits, members, settings, vectorised=vectorised) for _ in range(2))
    whole.advance(9)
    resumed.load_state_dict(copy.deepcopy(whole.state_dict()))
    whole.advance(1000)
    resumed.advance(1000)
    assert [one.history for one in whole.results()] == [one.history for one in resumed.results()]
    before = where(whole, 0)
    whole.exploit({1: 0})
    assert torch.equal(where(whole, 1), before)


def where(cohort, number):
    """The directions of a member in one row."""
    group, row = cohort._groups.place(number)
    if group.stepper.most > 1:
        return group.stepper.population.state["directions"][row].clone()
    return torch.cat([*group.stepper._updates._penalties.directions.values()])


def test_a_population_has_the_spectral_penalty_from_its_beginning():
    def losses(model, batch):
        return {"one": model(batch).square().mean()}

    population = Population(lambda: nn.Linear(2, 2), losses, "equal", [0], shared=lambda model: model.parameters())
    population.set_values(spectral=0.1)
    with pytest.raises(ValueError, match="spectral: a population has this penalty from its beginning or not at all"):
        population.step(torch.ones(1, 3, 2))
