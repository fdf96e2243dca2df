"""Which leaves of a step's graph are shared, which belong to tasks: named twice, frozen, unfrozen, reached later."""

import gc
import weakref

import pytest
import torch
from torch import nn

import mtl
from mtl.population import Population
from mtl.strategies import REGISTRY
from tests.gradients.models import build, flat_grads
from tests.problems import rows_of


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


# --- layers that are frozen, unfrozen, added -----------------------------------------------------------------------


class Growing(nn.Module):
    """A trunk of two layers; the last task's second head is reached from a given step on."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.ModuleList([nn.Linear(5, 6), nn.Linear(6, 6)]).double()
        self.heads = nn.ModuleList(nn.Linear(6, 1) for _ in range(3)).double()
        self.later = nn.Linear(6, 1).double()
        self.x = torch.randn(9, 5, dtype=torch.float64)
        self.y = torch.randn(9, 3, dtype=torch.float64)
        self.late = False

    def losses(self):
        features = self.x
        for layer in self.trunk:
            features = torch.tanh(layer(features))
        outs = [head(features) for head in self.heads]
        if self.late:
            outs[2] = outs[2] + self.later(features)
        return torch.stack([(k + 1) * (out[:, 0] - self.y[:, k]).square().mean() for k, out in enumerate(outs)])

    def step(self, balancer, optimizer):
        optimizer.zero_grad()
        read = self.losses
        weights = balancer.backward(read(), recompute=read, validation=read, fresh=read, lookahead_lr=0.1)
        gradients = {name: p.grad.clone() for name, p in self.named_parameters() if p.grad is not None}
        optimizer.step()
        return weights, gradients

    def plain(self, name):
        """Each task's gradient on a parameter, by a backward pass of its own."""
        parameter = dict(self.named_parameters())[name]
        losses = self.losses()
        return [torch.autograd.grad(loss, parameter, retain_graph=True, allow_unused=True)[0] for loss in losses]


def training(spec, **options):
    model = Growing()
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.5)
    options = {"steps_per_epoch": 2, **options}
    return model, optimizer, mtl.Balancer(spec, model.trunk.parameters(), **options)


@pytest.mark.parametrize("spec", ["equal", "uncertainty", "gradnorm", "mgda", "graddrop"])
def test_a_head_that_is_reached_later_gets_its_own_gradient(spec):
    model, optimizer, balancer = training(spec, head_weighting="own")
    model.step(balancer, optimizer)
    model.late = True
    expected = model.plain("later.weight")[2]
    torch.testing.assert_close(model.step(balancer, optimizer)[1]["later.weight"], expected)


@pytest.mark.parametrize("spec", ["equal", "mgda"])
def test_a_head_that_is_reached_later_is_cleared_where_the_host_does_not_look(spec):
    model, optimizer, balancer = training(spec, host_checks=False)
    model.step(balancer, optimizer)
    model.late, model.y[0, 2] = True, torch.nan
    _, gradients = model.step(balancer, optimizer)
    assert all(gradient.isfinite().all() for gradient in gradients.values())


@pytest.mark.parametrize("head_weighting", ["weighted", "own"])
@pytest.mark.parametrize("spec", REGISTRY)
def test_a_layer_frozen_in_mid_run_does_not_move_and_goes_on_when_unfrozen(spec, head_weighting):
    model, optimizer, balancer = training(spec, head_weighting=head_weighting)
    first = list(model.trunk[0].parameters())
    for _ in range(2):
        model.step(balancer, optimizer)
    model.trunk[0].requires_grad_(False)
    before = [parameter.clone() for parameter in first]
    for _ in range(2):
        weights, gradients = model.step(balancer, optimizer)
        assert not {"trunk.0.weight", "trunk.0.bias"} & gradients.keys()
    assert all(map(torch.equal, before, first))
    assert weights.isfinite().all()
    model.trunk[0].requires_grad_(True)
    for _ in range(2):
        weights, gradients = model.step(balancer, optimizer)
    assert {"trunk.0.weight", "trunk.0.bias"} <= gradients.keys()
    assert weights.isfinite().all()
    assert not balancer.skipped


@pytest.mark.parametrize("head_weighting", ["weighted", "own"])
@pytest.mark.parametrize("spec", ["equal", "static:weights=1/2/4", "mgda", "gradnorm"])
def test_a_layer_unfrozen_later_is_shared_if_it_is_in_shared_and_otherwise_a_head(spec, head_weighting):
    model = Growing()
    model.trunk[0].requires_grad_(False)
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    shared = list(model.trunk.parameters())
    for given in (shared, shared[2:]):
        balancer = mtl.Balancer(spec, given, head_weighting=head_weighting)
        model.step(balancer, optimizer)
        model.trunk[0].requires_grad_(True)
        each = torch.stack(model.plain("trunk.0.weight"))
        weights, gradients = model.step(balancer, optimizer)
        as_head = torch.ones(3, dtype=torch.float64) if head_weighting == "own" else weights
        applied = weights if given is shared else as_head
        torch.testing.assert_close(gradients["trunk.0.weight"], torch.einsum("k,kij->ij", applied, each))
        model.trunk[0].requires_grad_(False)


def test_a_gramian_includes_a_layer_unfrozen_later():
    results = []
    for frozen_first in (True, False):
        model, optimizer, balancer = training("mgda", scale="raw")
        if frozen_first:
            model.trunk[0].requires_grad_(False)
            balancer = mtl.Balancer("mgda", model.trunk.parameters(), scale="raw")
            balancer.backward(model.losses())
            model.trunk[0].requires_grad_(True)
        results.append(model.step(balancer, optimizer)[0])
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("spec", ["moco", "db-mtl-ema", "excess", "graddrop+ema"])
def test_numbers_kept_for_a_parameter_stay_with_it(spec):
    """Frozen layers in between change neither what is kept for the others nor a run that is resumed there."""
    model, optimizer, balancer = training(spec)
    width = sum(parameter.numel() for parameter in model.trunk.parameters())
    first = sum(parameter.numel() for parameter in model.trunk[0].parameters())

    def by_column(size):
        return [leaf for leaf in balancer.state_dict()["state"] if leaf.shape[-1:] == (size,)]

    model.step(balancer, optimizer)
    before = by_column(width)
    assert before
    model.trunk[0].requires_grad_(False)
    again = mtl.Balancer(spec, model.trunk.parameters(), steps_per_epoch=2)
    again.load_state_dict(balancer.state_dict())
    balancer.backward(model.losses())
    assert len(by_column(width - first)) == len(before)
    again.backward(model.losses())
    for one, other in zip(balancer.state_dict()["state"], again.state_dict()["state"], strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_layers_of_one_size_that_are_swapped_do_not_swap_what_is_kept_for_them():
    layers = nn.ModuleList(nn.Linear(3, 3, bias=False) for _ in range(2))
    layers[1].requires_grad_(False)
    balancer = mtl.Balancer("moco", layers.parameters())

    def losses():
        hidden = layers[1](torch.tanh(layers[0](torch.ones(2, 3))))
        return hidden.square().mean(0)

    balancer.backward(losses())
    assert balancer.state.tracked.abs().sum() > 0
    layers[0].requires_grad_(False)
    layers[1].requires_grad_(True)
    rows = rows_of(losses(), [layers[1].weight])
    balancer.backward(losses())
    share = 0.5 / 2**0.5
    torch.testing.assert_close(balancer.state.tracked, share * rows)


@pytest.mark.parametrize(
    ("options", "part"),
    [
        ({}, "shared"),
        ({"measured_on": slice(0, 2)}, "measured_on"),
        ({"blocks": (slice(0, 2), slice(2, 4))}, "block 0"),
    ],
)
def test_nothing_left_to_measure_on_is_said(options, part):
    model = Growing()
    shared = list(model.trunk.parameters())
    given = {name: [shared[one] for one in at] if isinstance(at, tuple) else shared[at] for name, at in options.items()}
    balancer = mtl.Balancer("mgda", shared, **given)
    balancer.backward(model.losses())
    (model.trunk if part == "shared" else model.trunk[0]).requires_grad_(False)
    with pytest.raises(ValueError, match=rf"no parameter of {part}.* requires grad any more"):
        balancer.backward(model.losses())


@pytest.mark.parametrize("head_weighting", ["weighted", "own"])
def test_heads_may_train_alone_under_strategies_that_read_losses(head_weighting):
    model, optimizer, balancer = training("uncertainty", head_weighting=head_weighting)
    model.step(balancer, optimizer)
    model.trunk.requires_grad_(False)
    _, gradients = model.step(balancer, optimizer)
    assert {name.partition(".")[0] for name in gradients} == {"heads"}


# --- inputs that require grad --------------------------------------------------------------------------------------


class Physics(nn.Module):
    """A physics-informed loss: the derivative of the network by its input, at new points in each step."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 8), nn.Tanh()).double()
        self.out = nn.Linear(8, 1).double()
        self.points = []

    def losses(self, seed):
        generator = torch.Generator().manual_seed(seed)
        x = torch.rand(7, 1, generator=generator, dtype=torch.float64).requires_grad_()
        self.points.append(weakref.ref(x))
        u = self.out(self.trunk(x))
        (slope,) = torch.autograd.grad(u.sum(), x, create_graph=True)
        return torch.stack([(slope - u).square().mean(), (self.out(self.trunk(x.detach() * 0)) - 1).square().mean()])


@pytest.mark.parametrize("head_weighting", ["weighted", "own"])
@pytest.mark.parametrize("spec", ["equal", "uncertainty", "mgda", "gradnorm", "graddrop", "auto-lambda"])
def test_the_points_of_a_physics_informed_loss_are_inputs_and_not_kept(spec, head_weighting):
    model = Physics()
    balancer = mtl.Balancer(spec, model.trunk.parameters(), head_weighting=head_weighting)
    for step in range(3):
        balancer.backward(model.losses(step), validation=lambda: model.losses(9), lookahead_lr=0.1)
    gc.collect()
    assert not any(point() is not None for point in model.points)


@pytest.mark.parametrize("spec", ["auto-lambda", "auxilearn"])
def test_nothing_looks_ahead_at_or_differentiates_by_an_input(spec):
    """As with points that need no gradient by themselves: the same losses, their derivatives written out."""

    def trained(given):
        torch.manual_seed(0)
        trunk, out = nn.Linear(1, 1, bias=False).double(), nn.Linear(1, 1, bias=False).double()
        x = torch.linspace(0, 1, 5, dtype=torch.float64)[:, None]

        def losses():
            points = x.clone().requires_grad_(given)
            u = out(trunk(points))
            slope = out.weight * trunk.weight
            if given:
                (slope,) = torch.autograd.grad(u.sum(), points, create_graph=True)
            return torch.stack([(u - 1).square().mean(), (slope.mean() - 2).square()])

        balancer = mtl.Balancer(spec, trunk.parameters(), scale="raw")
        for _ in range(3):
            weights = balancer.backward(losses(), validation=losses, lookahead_lr=0.1)
        return weights

    torch.testing.assert_close(trained(True), trained(False))
