"""What arrives in `.grad`: complex numbers, sparse gradients, layouts, hooks, and no memory that two leaves share."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

import mtl
from mtl.population import Population
from mtl.strategies import REGISTRY
from tests.problems import spy

GRAMIAN = ["mgda", "imtl-g", "upgrad", "gradnorm"]


class Fourier(nn.Module):
    """Complex weights, or the same as pairs of real ones; a complex head too."""

    def __init__(self, *, pairs=False):
        super().__init__()
        torch.manual_seed(0)
        draw = lambda *shape: torch.randn(*shape, 2, dtype=torch.float64)  # noqa: E731
        as_given = lambda drawn: nn.Parameter(drawn if pairs else torch.view_as_complex(drawn))  # noqa: E731
        self.first, self.bias, self.head = as_given(draw(5, 4)), as_given(draw(4)), as_given(draw(4))
        self.real = nn.Parameter(torch.randn(4, 3, dtype=torch.float64))
        self.pairs = pairs

    def shared_parameters(self):
        return [self.first, self.real, self.bias]

    def losses(self, x):
        first, bias, head = (torch.view_as_complex(w) if self.pairs else w for w in (self.first, self.bias, self.head))
        features = x.to(torch.complex128) @ first + bias
        outs = features.abs() @ self.real
        return torch.stack(
            [
                (features * head).real.square().mean(),
                (outs[:, 0] - 1).square().mean(),
                (features.imag + 2 * outs[:, 1:2]).square().mean(),
            ]
        )


def points(seed=0):
    return torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def trained(spec, *, pairs, **options):
    model = Fourier(pairs=pairs)
    balancer = mtl.Balancer(spec, model.shared_parameters(), steps_per_epoch=2, **options)
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for step in range(3):
        optimizer.zero_grad()
        given = {
            "recompute": lambda step=step: model.losses(points(step)),
            "validation": lambda: model.losses(points(8)),
            "fresh": lambda: model.losses(points(9)),
        }
        weights = balancer.backward(model.losses(points(step)), **given, lookahead_lr=0.01)
        optimizer.step()
    values = [torch.view_as_real(p.detach()) if p.is_complex() else p.detach() for p in model.parameters()]
    return weights, balancer.state_dict()["state"], values


@pytest.mark.parametrize("head_weighting", ["weighted", "own"])
@pytest.mark.parametrize("spec", REGISTRY)
def test_a_complex_number_counts_as_two_real_ones(spec, head_weighting):
    got, expected = (trained(spec, pairs=pairs, head_weighting=head_weighting) for pairs in (False, True))
    torch.testing.assert_close(got, expected, equal_nan=True)


@pytest.mark.parametrize(
    "options",
    [{"batching": "loop"}, {"batching": "vmap"}, {"memory_limit": 1}, {"host_checks": False}, {"blocks": True}],
)
def test_complex_parameters_in_every_way_of_measuring(options):
    results = []
    for pairs in (False, True):
        model = Fourier(pairs=pairs)
        given = dict(options)
        if "blocks" in given:
            given["blocks"] = [[model.first, model.real], [model.bias]]
        strategy, seen = spy("mgda")
        weights = mtl.Balancer(strategy, model.shared_parameters(), **given).backward(model.losses(points()))
        grads = [torch.view_as_real(p.grad) if p.is_complex() else p.grad for p in model.parameters()]
        results.append((weights, seen[0]["gramian"], grads))
    assert results[0][1].dtype == torch.float64
    torch.testing.assert_close(results[0], results[1])


def test_a_broken_step_on_complex_parameters():
    model = Fourier()
    balancer = mtl.Balancer("mgda", model.shared_parameters())
    balancer.backward(model.losses(points()))
    losses = model.losses(points())
    model.zero_grad()
    balancer.backward(torch.stack([losses[0], losses[1] * torch.nan, losses[2]]))
    assert model.first.grad.isfinite().all()
    assert model.first.grad.abs().sum() > 0


@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("spec", ["equal", "mgda", "graddrop", "auto-lambda"])
def test_complex_members_of_a_population_are_those_of_pairs(spec, optimizer):
    results = []
    for pairs in (False, True):
        members = Population(
            lambda pairs=pairs: Fourier(pairs=pairs),
            lambda model, x: model.losses(x),
            spec,
            (1, 2),
            optimizer=optimizer,
            lr=0.01,
        )
        for step in range(3):
            members.step(torch.stack([points(step), points(step + 5)]), validation=lambda: torch.stack([points(8)] * 2))
        state = members.state_dict_of(1)
        assert pairs or state["first"].is_complex()
        results.append([torch.view_as_real(v) if v.is_complex() else v for v in state.values()])
    torch.testing.assert_close(results[0], results[1])
    Fourier().load_state_dict(members.state_dict_of(0)) if not pairs else None


# --- sparse gradients ----------------------------------------------------------------------------------------------


class Words(nn.Module):
    def __init__(self, *, sparse=True):
        super().__init__()
        torch.manual_seed(0)
        self.embed, self.heads = nn.Embedding(9, 4, sparse=sparse), nn.ModuleList(nn.Linear(4, 1) for _ in range(3))

    def losses(self, broken=False):
        features = self.embed(torch.tensor([1, 3, 3, 7]))
        losses = torch.stack([(k + 1) * (head(features) - 1).square().mean() for k, head in enumerate(self.heads)])
        return losses * torch.tensor([1.0, torch.nan if broken else 1.0, 1.0])


@pytest.mark.parametrize("batching", ["loop", "vmap"])
@pytest.mark.parametrize("spec", ["mgda", "graddrop", "auto-lambda"])
@pytest.mark.filterwarnings("ignore:going back for all tasks at once failed")
def test_a_sparse_gradient_is_refused_by_strategies_that_compare_gradients(spec, batching):
    model = Words()
    with pytest.raises(ValueError, match=r"shape \(9, 4\) is sparse.*sparse=False.*reads losses only"):
        balancer = mtl.Balancer(spec, model.embed.parameters(), batching=batching)
        balancer.backward(model.losses(), validation=model.losses, lookahead_lr=0.1)


@pytest.mark.parametrize("options", [{}, {"head_weighting": "own"}, {"host_checks": False}])
def test_a_sparse_gradient_serves_strategies_that_read_losses(options):
    results = []
    for sparse in (True, False):
        model = Words(sparse=sparse)
        balancer = mtl.Balancer("uncertainty", model.embed.parameters(), **options)
        for broken in (False, False, True):  # gradients add up
            balancer.backward(model.losses(broken))
        assert model.embed.weight.grad.is_sparse == sparse
        results.append([p.grad.to_dense() if p.grad.is_sparse else p.grad for p in model.parameters()])
    torch.testing.assert_close(results[0], results[1])
    assert all(gradient.isfinite().all() for gradient in results[0])


# --- layouts, hooks, memory ----------------------------------------------------------------------------------------


class Pictures(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.trunk = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())
        self.heads = nn.ModuleList(nn.Conv2d(4, 2, 3) for _ in range(3))

    def losses(self, broken=False):
        features = self.trunk(torch.ones(2, 3, 8, 8).to(memory_format=torch.channels_last))
        losses = torch.stack([(k + 1) * (head(features) - 1).square().mean() for k, head in enumerate(self.heads)])
        return losses * torch.tensor([1.0, torch.nan if broken else 1.0, 1.0])


OPTIONS = [{}, {"head_weighting": "own"}, {"memory_limit": 10**9}, {"host_checks": False}]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("spec", [*GRAMIAN, "graddrop", "equal"])
def test_gradients_have_the_layout_of_their_parameters(spec, options):
    if "memory_limit" in options and spec not in GRAMIAN:
        return
    model = Pictures().to(memory_format=torch.channels_last)
    balancer = mtl.Balancer(spec, model.trunk.parameters(), **options)
    balancer.backward(model.losses())
    balancer.backward(model.losses())
    assert all(parameter.grad.stride() == parameter.stride() for parameter in model.parameters())


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("spec", [*GRAMIAN, "graddrop", "equal", "uncertainty"])
def test_hooks_that_wait_for_the_gradient_fire_once_with_all_of_it(spec, options):
    if "memory_limit" in options and spec not in GRAMIAN:
        return
    results, fired = [], {}
    for hooked in (True, False):
        model = Pictures()
        for name, parameter in model.named_parameters() if hooked else ():
            seen = fired[name] = []
            parameter.register_post_accumulate_grad_hook(lambda p, seen=seen: seen.append(p.grad.clone()))
        balancer = mtl.Balancer(spec, model.trunk.parameters(), **options)
        steps = []
        for broken in (False, True):
            model.zero_grad()
            balancer.backward(model.losses(broken))
            steps.append({name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None})
        results.append(steps)
    for name, seen in fired.items():
        there = [step[name] for step in results[1] if name in step]
        assert len(seen) == len(there) >= 1
        assert all(map(torch.equal, seen, there)), name
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)
    assert all(gradient.isfinite().all() for step in results[0] for gradient in step.values())


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("spec", [*GRAMIAN, "equal"])
def test_no_two_gradients_share_memory(spec, options):
    """The two biases of a sum get one tensor from autograd; a clipped or accumulated one must not change the other."""
    if "memory_limit" in options and spec not in GRAMIAN:
        return
    torch.manual_seed(0)
    first, other, head = (nn.Parameter(torch.randn(3)) for _ in range(3))
    balancer = mtl.Balancer(spec, [first, other], **options)

    def losses():
        return F.softplus(first + other + torch.arange(3.0)).square() + head.square()

    weights = balancer.backward(losses())
    kept = weights.clone(), other.grad.clone(), head.grad.clone()
    first.grad.zero_()
    for now, before in zip((weights, other.grad, head.grad), kept, strict=True):
        assert torch.equal(now, before)
    balancer.backward(losses())
    assert first.grad.isfinite().all()


@pytest.mark.parametrize("options", [{}, {"head_weighting": "own"}, {"host_checks": False}])
def test_a_leaf_that_is_its_loss_does_not_get_the_weights_for_its_gradient(options):
    shared, own = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))
    balancer = mtl.Balancer("static:weights=1/3", [shared], **options)
    weights = balancer.backward(shared + own)
    before = weights.clone()
    for parameter in (shared, own):
        parameter.grad.mul_(7)
    assert torch.equal(balancer.weights, before)
    assert not torch.equal(shared.grad, own.grad) or "head_weighting" not in options
