"""Strategies that need more than one Gramian, against independent oracles."""

import pytest
import torch

import mtl
from mtl.strategies import make
from mtl.strategies.solvers.simplex import simplex_qp
from tests.peers import library
from tests.problems import TwoLayers, random_signals, rows_of, run

peers = library("torchjd.aggregation")

SIZE = 7


def many(steps, tasks=3, dtype=torch.float64):
    return [random_signals(tasks, seed, dtype) for seed in range(steps)]


def begin(strategy, signals):
    return strategy.init_sized(signals["losses"], signals["jacobian"].shape[-1])


def updates(spec, steps):
    """The update of each step: the weights times the gradients that they apply to."""
    strategy, result = make(spec), []
    state = begin(strategy, steps[0])
    for signals in steps:
        weights, state = strategy(state, signals)
        rows = strategy.gradients(state, signals["jacobian"])
        result.append((weights * rows).sum(0) if weights.ndim == 2 else weights @ rows)
    return result


def close(actual, expected, rtol=1e-9, atol=1e-12):
    torch.testing.assert_close(actual, torch.as_tensor(expected, dtype=actual.dtype), rtol=rtol, atol=atol)


@pytest.mark.parametrize("spec", ["excess", "moco", "db-mtl-ema"])
def test_a_state_with_numbers_a_parameter_has_to_know_how_many(spec):
    with pytest.raises(ValueError, match="begin with init_sized"):
        make(spec).init(torch.ones(3))


# --- graddrop ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leak", [None, (0.1, 0.4, 0.9)])
def test_graddrop_is_torchjds_with_the_same_draws(leak, monkeypatch):
    signals = many(1)[0]
    monkeypatch.setattr(torch, "rand", lambda *_args, **_options: signals["dither"])
    peer = peers.GradDrop(leak=None if leak is None else torch.tensor(leak, dtype=torch.float64))
    strategy = make("graddrop").replace(leak=leak or (0.0,))
    close((strategy((), signals)[0] * signals["jacobian"]).sum(0), peer(signals["jacobian"]))


def test_graddrop_keeps_each_sign_as_often_as_its_purity_says():
    rows = torch.tensor([[3.0, -1.0], [-1.0, -1.0]])
    draws = torch.rand(20000, 2, generator=torch.Generator().manual_seed(0))
    weights = torch.stack([make("graddrop")((), {"jacobian": rows, "dither": draw})[0] for draw in draws])
    torch.testing.assert_close(weights.mean(0), torch.tensor([[0.75, 1.0], [0.25, 1.0]]), atol=0.01, rtol=0)


def test_graddrop_refuses_a_leak_for_other_tasks():
    with pytest.raises(ValueError, match="leak has 2 numbers, one a loss would be 3"):
        make("graddrop:leak=0.1/0.2").check_tasks(3)


# --- excess -----------------------------------------------------------------------------------------------------------


def test_excess_is_torchjds():
    steps, peer = many(9, tasks=5), peers.ExcessMTLWeighting(robust_step_size=0.2, n_warmup_steps=4)
    for signals, ours in zip(steps, run(make("excess:lr=0.2,warmup=4"), steps), strict=True):
        close(ours, peer(signals["jacobian"]), rtol=1e-6)


# --- moco -------------------------------------------------------------------------------------------------------------


def test_moco_on_a_fixed_problem_finds_the_min_norm_point():
    signals = many(1)[0]
    strategy = make("moco:beta=1,beta_sigma=0,gamma=0.05,gamma_sigma=0")
    state = begin(strategy, signals)
    for _ in range(500):
        weights, state = strategy(state, signals)
    close(weights, simplex_qp(signals["gramian"]), rtol=1e-6, atol=1e-6)


# --- db-mtl with its average ------------------------------------------------------------------------------------------


def test_db_mtl_ema_without_memory_is_db_mtl():
    steps = many(3)
    for one, other in zip(updates("db-mtl-ema:beta=0", steps), updates("db-mtl", steps), strict=True):
        close(one, other)


# --- modo and sdmgrad -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rho", [0.0, 0.3])
def test_modo_is_torchjds(rho):
    steps, peer = many(8, tasks=4), peers.MoDoWeighting(gamma=0.05, rho=rho)
    for signals, ours in zip(steps, run(make(f"modo:gamma=0.05,rho={rho}"), steps), strict=True):
        close(ours, peer(signals["cross"]))


@pytest.mark.parametrize("lam", [0.0, 0.3, 2.0])
def test_sdmgrad_is_torchjds_up_to_its_scale(lam):
    # Nearly a Gramian, on which the solver contracts: elsewhere it amplifies the 1e-8 that TorchJD adds to the scale.
    steps = [{**s, "cross": s["gramian"] + 0.1 * s["cross"]} for s in many(6, tasks=4)]
    peer = peers.SDMGradWeighting(lambda_=lam, lr=0.5)
    for signals, ours in zip(steps, run(make(f"sdmgrad:lam={lam},lr=0.5"), steps), strict=True):
        close(ours, (1 + lam) * peer(signals["cross"]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("lam", [0.0, 0.3, 2.0])
def test_sdmgrad_solves_its_problem_when_all_batches_are_the_whole_data(lam):
    gramian = many(1, tasks=4)[0]["gramian"]
    weights = run(make(f"sdmgrad:lam={lam},iterations=3000,lr=0.05"), [{**many(1, tasks=4)[0], "cross": gramian}])[0]
    close(weights - lam / 4, simplex_qp(gramian, lam * gramian.mean(1)), rtol=1e-5, atol=1e-6)


def test_one_batch_three_times_biases_the_weights_that_independent_ones_do_not():
    """The reason for cross-batch products: with equal true gradients, noise makes MGDA prefer the quiet task."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.tensor([[0.0], [3.0]], dtype=torch.float64)

    def draw():
        return 1 + noise * torch.randn(2, 20, generator=generator, dtype=torch.float64)

    own, crossed = [], []
    for into, independent in ((own, False), (crossed, True)):
        strategy = make("modo:gamma=0.002")
        state = strategy.init(torch.ones(2, dtype=torch.float64))
        for _ in range(2000):
            first = draw()
            weights, state = strategy(
                state, {"losses": torch.ones(len(first)), "cross": first @ (draw() if independent else first).T}
            )
            into.append(weights)
    assert torch.stack(own)[-1000:].mean(0)[0] > 0.97
    assert 0.2 < torch.stack(crossed).mean(0)[0] < 0.8


# --- bilevel ----------------------------------------------------------------------------------------------------------


class Toy:
    """Three losses of four parameters, and validation losses of the same."""

    def __init__(self):
        generator = torch.Generator().manual_seed(0)
        self.a, self.b = (torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(2))

    def train(self, theta):
        return ((theta - self.a) ** 2).sum(1) + 0.1 * (theta**4).sum()

    def validation(self, theta):
        return ((theta - self.b) ** 2 * torch.tensor([1.0, 2.0, 0.5])[:, None]).sum(1)

    def step(self, strategy, state, theta, lr=0.05):
        """A step's signals at theta, from the balancer's definitions by autograd."""
        train = torch.autograd.functional.jacobian(self.train, theta)
        moved = theta - lr * strategy.current(state, {}) @ train
        align = torch.autograd.functional.jacobian(self.validation, moved) @ train.T
        return {"losses": self.train(theta).detach(), "align": align}


def test_moml_descends_along_the_min_norm_hypergradient():
    toy, theta, lr = Toy(), torch.zeros(4, dtype=torch.float64), 0.05
    strategy = make("moml:lr=0.1")
    state = strategy.init(torch.ones(3, dtype=torch.float64))
    logits = torch.full((3,), 1 / 3, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([logits], 0.1)
    for _ in range(5):
        weights, state = strategy(state, toy.step(strategy, state, theta))
        through = theta.clone().requires_grad_()
        total = (torch.softmax(logits, 0) * toy.train(through)).sum()
        (inner,) = torch.autograd.grad(total, through, create_graph=True)
        validation = toy.validation(theta - lr * inner)
        hyper = torch.stack([torch.autograd.grad(loss, logits, retain_graph=True)[0] for loss in validation])
        optimizer.zero_grad()
        logits.grad = simplex_qp(hyper @ hyper.T) @ hyper
        optimizer.step()
        # Adam divides the length out up to its eps of 1e-8.
        close(weights, torch.softmax(logits, 0).detach(), rtol=1e-4, atol=1e-5)
        theta = theta - lr * weights @ torch.autograd.functional.jacobian(toy.train, theta)


@pytest.mark.parametrize("primary", [(), (0,), (0, 2)])
def test_auto_lambda_follows_the_unrolled_validation_loss(primary):
    toy, theta, lr = Toy(), torch.zeros(4, dtype=torch.float64), 0.05
    strategy = make("auto-lambda:lr=0.01,start=0.5").replace(primary=tuple(map(float, primary)))
    state = strategy.init(torch.ones(3, dtype=torch.float64))
    free = torch.full((3,), 0.5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([free], 0.01)
    for _ in range(5):
        weights, state = strategy(state, toy.step(strategy, state, theta))
        through = theta.clone().requires_grad_()
        (inner,) = torch.autograd.grad((free * toy.train(through)).sum(), through, create_graph=True)
        optimizer.zero_grad()
        toy.validation(theta - lr * inner)[list(primary) or slice(None)].sum().backward()
        optimizer.step()
        close(weights, free.detach(), rtol=1e-5, atol=1e-6)
        theta = theta - lr * weights @ torch.autograd.functional.jacobian(toy.train, theta)


def test_auxilearn_counts_every_task_when_none_is_primary():
    signals = many(1)[0]
    weights = run(make("auxilearn:lr=0.1,optimizer=sgd"), [signals])[0]
    close(weights, (1 + 0.1 * signals["implicit"].sum(0)).clamp(min=0))
    with pytest.raises(ValueError, match="primary=3 is not a task's index, 0 to 2"):
        make("auxilearn:primary=3").check_tasks(3)


# --- combinators over strategies with gradients of their own, or a weight a coordinate --------------------------------


def test_what_stands_before_a_tracking_strategy_is_in_what_it_tracks():
    steps, static = many(4), make("static:weights=1/2/4")
    scale = static((), steps[0])[0][:, None]
    scaled = [{**signals, "jacobian": signals["jacobian"] * scale} for signals in steps]
    for one, other in zip(updates("static:weights=1/2/4+moco", steps), updates("moco", scaled), strict=True):
        close(one, other)


@pytest.mark.parametrize("spec", ["moco+mgda", "db-mtl-ema+mgda"])
def test_what_stands_after_a_tracking_strategy_weighs_what_it_tracks(spec):
    steps, first = many(4), make(spec.split("+")[0])
    state = begin(first, steps[0])
    for signals, ours in zip(steps, updates(spec, steps), strict=True):
        weights, state = first(state, signals)
        rows = weights[:, None] * first.gradients(state, signals["jacobian"])
        close(ours, simplex_qp(rows @ rows.T) @ rows, rtol=1e-5, atol=1e-7)


def test_held_weights_of_a_tracking_strategy_apply_to_the_gradients_of_their_step():
    steps = many(4)
    ours = updates("moco+every:n=2", steps)
    weights = run(make("moco+every:n=2"), steps)
    plain = run(make("moco"), steps[::2])
    for t in (1, 3):
        close(weights[t], plain[t // 2])
        close(ours[t], weights[t] @ steps[t]["jacobian"])
    close(ours[0], updates("moco", steps[:1])[0])
    with pytest.raises(ValueError, match="can only stand alone"):
        make("uncertainty+[moco+every:n=2]")


@pytest.mark.parametrize("wrap", ["every:n=2", "ema:beta=0.5", "clip:low=0.1,high=0.8", "normalize"])
@pytest.mark.parametrize("inner", ["graddrop", "moco", "excess", "trimmed-mean", "auto-lambda", "sdmgrad", "auxilearn"])
def test_combinators_wrap_every_kind_of_strategy_in_a_training_loop(inner, wrap):
    model = TwoLayers()
    balancer = mtl.Balancer(f"{inner}+{wrap}", model.trunk.parameters())
    optimizer = torch.optim.SGD(model.parameters(), 0.05)
    before = model.losses().sum().item()
    for _ in range(6):
        optimizer.zero_grad()
        read = model.losses
        balancer.backward(read(), validation=read, fresh=read, lookahead_lr=0.05)
        optimizer.step()
    assert model.losses().sum().item() < before and not balancer.skipped
    saved = balancer.state_dict()
    other = mtl.Balancer(f"{inner}+{wrap}", model.trunk.parameters())
    other.load_state_dict(saved)
    seen = [b.backward(read(), validation=read, fresh=read, lookahead_lr=0.05) for b in (balancer, other)]
    assert torch.equal(*seen)


def test_the_ema_of_weights_a_coordinate_is_one_a_coordinate():
    steps = many(3)
    plain, smooth = run(make("graddrop"), steps), run(make("graddrop+ema:beta=0.5"), steps)
    close(smooth[1], (plain[0] + plain[1]) / 2)


def test_a_wrapped_lookahead_uses_the_wrapped_weights():
    signals = many(1)[0]
    wraps = (("clip:low=0.3", 0.3), ("normalize", 1.0), ("ema", 0.1), ("every:n=3", 0.1))
    for wrap, expected in wraps:
        strategy = make(f"auto-lambda+{wrap}")
        close(
            strategy.current(strategy.init(signals["losses"]), signals), torch.full((3,), expected, dtype=torch.float64)
        )
    chained = make("static:weights=1/2/4+auto-lambda")
    scale = make("static:weights=1/2/4")((), signals)[0]
    close(chained.current(chained.init(signals["losses"]), signals), 0.1 * scale)


# --- in the balancer --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("head_weighting", ["weighted", "own"])
def test_the_applied_update_is_that_of_the_tracked_gradients(head_weighting):
    model = TwoLayers()
    balancer = mtl.Balancer("moco", model.trunk.parameters(), scale="raw", head_weighting=head_weighting)
    shared = list(model.trunk.parameters())
    tracked = 0
    for step in range(1, 4):
        model.zero_grad()
        rows = rows_of(model.losses(), shared)
        tracked = tracked - 0.5 / step**0.5 * (tracked - rows)
        weights = balancer.backward(model.losses())
        close(torch.cat([p.grad.flatten() for p in shared]), weights @ tracked)
        own = torch.autograd.grad(model.losses()[1], model.heads[1].weight)[0]
        close(model.heads[1].weight.grad, own * (weights[1] if head_weighting == "weighted" else 1))
        with torch.no_grad():
            shared[0] += 0.1


def test_a_broken_step_applies_the_last_weights_to_its_own_gradients():
    model = TwoLayers()
    balancer = mtl.Balancer("moco", model.trunk.parameters(), scale="raw")
    weights = balancer.backward(model.losses())
    state = balancer.state
    model.zero_grad()
    first, second, third = model.each()
    balancer.backward(torch.stack([first, second * torch.nan, third]))
    assert balancer.state is state and balancer.skipped == {"nonfinite_loss": 1}
    shared = list(model.trunk.parameters())
    expected = torch.autograd.grad(weights[0] * model.each()[0] + weights[2] * model.each()[2], shared)
    for p, gradient in zip(shared, expected, strict=True):
        close(p.grad, gradient)


@pytest.mark.parametrize("spec", ["moco", "graddrop", "excess"])
def test_a_grad_scaler_changes_nothing_but_the_scale(spec):
    results = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=256.0)):
        model = TwoLayers(dtype=torch.float32)
        balancer = mtl.Balancer(spec, model.trunk.parameters(), scaler=scaler)
        for _ in range(2):
            model.zero_grad()
            balancer.backward(model.losses())
        results.append([p.grad for p in model.parameters()])
    for plain, scaled in zip(*results, strict=True):
        torch.testing.assert_close(scaled / 256, plain)
