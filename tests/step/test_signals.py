"""Signals of further batches and of the Hessian, as the balancer measures them, against slow, obvious references."""

import pytest
import torch

import mtl
from mtl.strategies import make
from mtl.train import Settings, train
from mtl.train.batches import Batches
from tests.problems import TwoLayers, rows_of, spy
from tests.tiny import Tiny


class Batched(TwoLayers):
    """`TwoLayers` with many batches."""

    def on(self, seed, keep=(0, 1, 2)):
        generator = torch.Generator().manual_seed(seed)
        x, y = self.x + torch.randn(self.x.shape, generator=generator, dtype=self.x.dtype), self.y
        features = self.trunk(x)
        return {
            "abc"[k]: (k + 1) * (head(features)[:, 0] - y[:, k]).square().mean()
            for k, head in enumerate(self.heads)
            if k in keep
        }


def counted(batches):
    """A closure that reads the next batch at each call, and what it has read."""
    read = []

    def closure():
        read.append(next(batches))
        return read[-1]

    return closure, read


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("spec", ["modo", "sdmgrad"])
def test_cross_is_the_product_of_two_further_batches(spec, norm):
    model = Batched(norm=norm)
    strategy, seen = spy(spec)
    balancer = mtl.Balancer(strategy, model.trunk.parameters())
    fresh, read = counted(model.on(seed) for seed in (1, 2))
    buffers = {key: value.clone() for key, value in model.named_buffers()}
    losses = model.on(0)
    own = {key: value.clone() for key, value in model.named_buffers()}
    weights = balancer.backward(losses, fresh=fresh)
    assert len(read) == 2
    assert all(torch.equal(value, own[key]) for key, value in model.named_buffers())
    assert not norm or any(not torch.equal(value, buffers[key]) for key, value in model.named_buffers())
    shared = list(model.trunk.parameters())
    one, two, three = (rows_of(model.on(seed).values(), shared) for seed in (1, 2, 0))
    torch.testing.assert_close(seen[0]["cross"], one @ two.T)
    assert not torch.equal(one, two) and not torch.equal(one, three)
    torch.testing.assert_close(torch.cat([p.grad.flatten() for p in shared]), weights @ three)
    assert balancer.passes == {"forward": 2, "backward": 2 * 3 + 1}


def test_a_task_without_a_label_in_a_further_batch_has_no_gradient_there():
    model = Batched()
    strategy, seen = spy("modo")
    fresh, _ = counted(model.on(seed, keep) for seed, keep in ((1, (0, 1, 2)), (2, (0, 2))))
    mtl.Balancer(strategy, model.trunk.parameters()).backward(model.on(0), fresh=fresh)
    shared = list(model.trunk.parameters())
    expected = rows_of(model.on(1).values(), shared) @ rows_of(model.on(2).values(), shared).T
    expected[:, 1] = 0
    torch.testing.assert_close(seen[0]["cross"], expected)


def test_cross_of_one_strategy_serves_a_chain_that_needs_the_gramian():
    model = Batched(norm=True)
    balancer = mtl.Balancer("modo+mgda", model.trunk.parameters())
    fresh, read = counted(model.on(seed) for seed in (1, 2))
    balancer.backward(model.on(0), fresh=fresh)
    assert len(read) == 2
    assert balancer.passes == {"forward": 2, "backward": 3 * 3}


def dense_implicit(model, weights, lr, terms):
    """J_val P J_train^T with the Hessian written out; P the Neumann sum, or the inverse when `terms` is None."""
    parameters = list(model.parameters())
    train, validation = rows_of(model.on(0).values(), parameters), rows_of(model.on(5).values(), parameters)
    total = sum(weight * loss for weight, loss in zip(weights, model.on(0).values(), strict=True))
    first = torch.cat([g.flatten() for g in torch.autograd.grad(total, parameters, create_graph=True)])
    hessian = rows_of(first, parameters)
    if terms is None:
        return validation @ torch.linalg.solve(hessian, train.T)
    eye = torch.eye(len(hessian), dtype=hessian.dtype)
    series = sum(torch.linalg.matrix_power(eye - lr * hessian, power) for power in range(terms + 1))
    return validation @ (lr * series) @ train.T


@pytest.mark.parametrize("norm", [False, True])
@pytest.mark.parametrize("terms", [0, 1, 3])
def test_implicit_is_the_neumann_series_of_the_written_out_hessian(terms, norm):
    model = Batched(norm=norm)
    strategy, seen = spy(f"auxilearn:inner_lr=0.02,terms={terms},lr=0.1")
    balancer = mtl.Balancer(strategy, model.trunk.parameters(), scale="raw")
    weights = torch.ones(3)
    for step in range(2):
        model.zero_grad()
        now = balancer.backward(model.on(0), validation=lambda: model.on(5))
        torch.testing.assert_close(seen[step]["implicit"], dense_implicit(model, weights, 0.02, terms))
        weights = now
    assert not torch.equal(weights, torch.ones(3))
    assert balancer.passes == {"forward": 2, "backward": 2 * (3 + 3 + 1 + 3 * terms)}


class Quadratic(torch.nn.Module):
    """Two strictly convex losses of two parameters, one of them shared; the validation losses are others."""

    def __init__(self):
        super().__init__()
        self.shared = torch.nn.Parameter(torch.tensor([0.5, -0.2], dtype=torch.float64))
        self.head = torch.nn.Parameter(torch.tensor([0.3], dtype=torch.float64))

    def losses(self, a=1.0, b=2.0):
        x, y, z = self.shared[0], self.shared[1], self.head[0]
        return torch.stack([(x - a) ** 2 + 0.5 * y**2 + 0.3 * z**2 + 0.4 * x * z, (y - b) ** 2 + 0.7 * (z - a) ** 2])


def test_a_long_neumann_series_gives_the_inverse_hessian():
    model = Quadratic()
    strategy, seen = spy("auxilearn:inner_lr=0.3,terms=400")
    balancer = mtl.Balancer(strategy, [model.shared])
    balancer.backward(model.losses(), validation=lambda: model.losses(0.3, 1.0))
    parameters = [model.shared, model.head]
    hessian = torch.autograd.functional.hessian(
        lambda v: torch.func.functional_call(_Sum(model), {"m.shared": v[:2], "m.head": v[2:]}, ()),
        torch.cat([p.detach() for p in parameters]),
    )
    validation, train = rows_of(model.losses(0.3, 1.0), parameters), rows_of(model.losses(), parameters)
    torch.testing.assert_close(seen[0]["implicit"], validation @ torch.linalg.solve(hessian, train.T))


class _Sum(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.m = model

    def forward(self):
        return self.m.losses().sum()


def test_the_implicit_gradient_is_that_of_the_validation_loss_at_the_minimum():
    """Where training has converged, -implicit sums to what moving each weight and training again does to validation."""

    def minimum(weights):
        model = Quadratic()
        optimizer = torch.optim.LBFGS(model.parameters(), max_iter=500, tolerance_grad=1e-14, tolerance_change=1e-16)

        def closure():
            optimizer.zero_grad()
            loss = (weights * model.losses()).sum()
            loss.backward()
            return loss

        optimizer.step(closure)
        return model

    weights, h = torch.ones(2, dtype=torch.float64), 1e-4
    strategy, seen = spy("auxilearn:inner_lr=0.3,terms=400")
    model = minimum(weights)
    mtl.Balancer(strategy, [model.shared]).backward(model.losses(), validation=lambda: model.losses(0.3, 1.0))
    for k in range(2):
        step = torch.zeros(2, dtype=torch.float64)
        step[k] = h
        up, down = (minimum(weights + s).losses(0.3, 1.0).sum() for s in (step, -step))
        assert -seen[0]["implicit"][:, k].sum().item() == pytest.approx((up - down).item() / (2 * h), abs=1e-6)


def test_losses_without_curvature_need_no_hessian():
    weight = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    strategy, seen = spy("auxilearn:inner_lr=0.1,terms=3")
    mtl.Balancer(strategy, [weight]).backward(weight * 2, validation=lambda: weight * 3)
    torch.testing.assert_close(seen[0]["implicit"], 0.4 * 6 * torch.eye(2, dtype=torch.float64))


def test_a_chain_may_read_the_hessian_and_look_ahead():
    model = Batched(norm=True)
    balancer = mtl.Balancer("auxilearn:lr=0.1+auto-lambda:lr=0.1", model.trunk.parameters())
    for _ in range(3):
        balancer.backward(model.on(0), validation=lambda: model.on(5), lookahead_lr=0.05)
    assert balancer.weights.isfinite().all() and not balancer.skipped


@pytest.mark.parametrize("momentum", ["adam", "sgd"])
def test_the_lookahead_moves_by_the_weights_before_this_step(momentum):
    model = Batched()
    strategy, seen = spy(f"auto-lambda:lr=0.3,start=1,optimizer={momentum}")
    balancer, parameters = mtl.Balancer(strategy, model.trunk.parameters(), scale="raw"), list(model.parameters())
    weights = torch.ones(3, dtype=torch.float64)
    for step in range(3):
        train, moved = rows_of(model.on(0).values(), parameters), Batched()
        with torch.no_grad():
            pieces = (weights @ train).split([p.numel() for p in parameters])
            for own, p, piece in zip(moved.parameters(), parameters, pieces, strict=True):
                own.copy_(p - 0.05 * piece.view_as(p))
        expected = rows_of(moved.on(5).values(), list(moved.parameters())) @ train.T
        weights = balancer.backward(model.on(0), validation=lambda: model.on(5), lookahead_lr=0.05)
        torch.testing.assert_close(seen[step]["align"], expected)


@pytest.mark.parametrize("spec", ["graddrop", "uncertainty+graddrop"])
def test_dither_is_drawn_anew_at_each_step_from_the_seed(spec):
    drawn = []
    for seed in (3, 3, 4):
        model = TwoLayers()
        strategy, seen = spy("graddrop")
        chained = mtl.chain(make("uncertainty"), strategy) if "+" in spec else strategy
        balancer = mtl.Balancer(chained, model.trunk.parameters(), seed=seed)
        for _ in range(2):
            balancer.backward(model.losses())
        drawn.append([signals["dither"] for signals in seen])
    size = sum(p.numel() for p in TwoLayers().trunk.parameters())
    assert all(draw.shape == (size,) and draw.min() >= 0 and draw.max() < 1 for run in drawn for draw in run)
    assert torch.equal(drawn[0][0], drawn[1][0]) and torch.equal(drawn[0][1], drawn[1][1])
    assert not torch.equal(drawn[0][0], drawn[0][1]) and not torch.equal(drawn[0][0], drawn[2][0])


def test_every_step_of_training_reads_three_different_batches(monkeypatch):
    read, take = [], Batches.__getitem__

    def recorded(self, step):
        read.append((self._pools[""]._order.entropy(step)[1], step, take(self, step).inputs))
        return take(self, step)

    monkeypatch.setattr(Batches, "__getitem__", recorded)
    train(Tiny(), Tiny().load(), "sdmgrad", Settings.of(Tiny.recipe, {"steps": 6}))
    assert [(stream, step) for stream, step, _ in read[:6]] == [(0, 0), (2, 0), (2, 1), (0, 1), (2, 2), (2, 3)]
    for at in range(0, len(read), 3):
        one, two, three = (inputs for _, _, inputs in read[at : at + 3])
        assert not torch.equal(one, two) and not torch.equal(one, three) and not torch.equal(two, three)
        assert not set(map(tuple, two.tolist())) & set(map(tuple, three.tolist()))


@pytest.mark.parametrize("spec", ["modo", "graddrop", "moco", "auxilearn", "moml"])
def test_features_cannot_replace_the_shared_parameters(spec):
    model = TwoLayers()
    balancer = mtl.Balancer(spec, model.trunk.parameters())
    features = model.trunk(model.x)
    losses = torch.stack([head(features).mean() for head in model.heads])
    with pytest.raises(ValueError, match="cannot use features="):
        balancer.backward(losses, features=features, validation=model.losses, fresh=model.losses, lookahead_lr=0.1)
