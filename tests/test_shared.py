"""Which leaves of a step's graph are shared, which belong to tasks: named twice, frozen, unfrozen, reached later."""

import pytest
import torch
from torch import nn

import mtl
from mtl.population import Population
from mtl.strategies import REGISTRY
from tests.engine.models import build, flat_grads


def one_step(case, spec, shared, **options):
    for parameter in case.parameters:
        parameter.grad = None
    balancer = mtl.Balancer(spec, shared, **options)

    def losses():
        return torch.stack(case.losses())

    weights = balancer.backward(losses(), recompute=losses, validation=losses, fresh=losses, lookahead_lr=0.1)
    return weights, flat_grads(case.parameters)


@pytest.mark.filterwarnings("ignore:.*averages over epochs")
@pytest.mark.parametrize("head_weighting", ["weighted", "own"])
@pytest.mark.parametrize("spec", REGISTRY)
def test_a_tensor_named_twice_counts_once(spec, head_weighting):
    case = build("mlp")
    first, *others = case.shared
    got = one_step(case, spec, [first, *others, first], head_weighting=head_weighting)
    expected = one_step(case, spec, case.shared, head_weighting=head_weighting)
    for one, other in zip(got, expected, strict=True):
        assert torch.equal(one, other)


def test_a_block_or_a_feature_named_twice_counts_once():
    case = build("mlp")
    blocks = [case.shared[:2], case.shared[2:]]
    twice = [[*blocks[0], blocks[0][0]], blocks[1]]
    got, expected = (one_step(case, "imtl-g", case.shared, blocks=given) for given in (twice, blocks))
    assert torch.equal(got[1], expected[1])
    trunk, head = nn.Linear(5, 6), nn.Linear(6, 3)
    results = []
    for times in (1, 2):
        features = trunk(torch.ones(2, 5))
        losses = head(features).square().mean(0)
        balancer = mtl.Balancer("gradnorm", trunk.parameters(), scale="raw")
        balancer.backward(losses, features=[features] * times)
        results.append(balancer.state)
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


class Tied(nn.Module):
    """A trunk that is given as the parameters of two modules with one weight."""

    def __init__(self, *, twice):
        super().__init__()
        self.first, self.second, self.heads = nn.Linear(5, 5), nn.Linear(5, 5), nn.Linear(5, 3)
        self.second.weight = self.first.weight
        self.twice = twice

    def shared_parameters(self):
        own = [*self.first.parameters(), self.second.bias]
        return [*self.first.parameters(), *self.second.parameters()] if self.twice else own


@pytest.mark.parametrize("spec", ["mgda", "graddrop", "equal"])
def test_tied_weights_of_a_population_count_once(spec):
    def losses(model, batch):
        hidden = model.second(torch.tanh(model.first(batch)))
        return (model.heads(hidden) - torch.arange(3)).square().mean(0)

    batch = torch.randn(2, 8, 5, generator=torch.Generator().manual_seed(0))
    results = []
    for twice in (True, False):
        members = Population(lambda twice=twice: Tied(twice=twice), losses, spec, seeds=(1, 2), lr=0.1)
        for _ in range(3):
            members.step(batch)
        results.append(members.state_dict_of(0))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
