"""The engine in real training loops: precision, accumulation, compilation, parts of the model, broken steps."""

import copy

import pytest
import torch
from torch import nn

import mtl
from mtl.strategies import make
from tests.gradients.models import build, flat_grads
from tests.problems import rows_of, spy

DOUBLE = torch.float64


def test_float16_gradients_are_unscaled_before_they_are_measured():
    results = []
    for scaler in (None, torch.amp.GradScaler("cpu", init_scale=2.0**14)):
        case = build("wide")
        strategy, seen = spy("imtl-g")
        balancer = mtl.Balancer(strategy, case.shared, scaler=scaler)
        weights = balancer.backward(torch.stack(case.losses()))
        optimizer = torch.optim.SGD(case.parameters, 0.1)
        if scaler is not None:
            scaler.unscale_(optimizer)
        results.append((seen[0]["gramian"], weights, flat_grads(case.parameters)))
    for plain, scaled in zip(*results, strict=True):
        torch.testing.assert_close(scaled, plain, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gramians_under_autocast_are_formed_in_float32(dtype):
    torch.manual_seed(0)
    trunk, heads = nn.Sequential(nn.Linear(20, 32), nn.ReLU()), nn.ModuleList(nn.Linear(32, 1) for _ in range(3))
    x, y = torch.randn(16, 20), torch.randn(16, 3)

    def losses(enabled):
        with torch.autocast("cpu", dtype, enabled=enabled):
            features = trunk(x)
            outs = [head(features)[:, 0] for head in heads]
        return [(out.float() - y[:, k]).square().mean() for k, out in enumerate(outs)]

    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0) if dtype == torch.float16 else None
    strategy, seen = spy("mgda")
    balancer = mtl.Balancer(strategy, trunk.parameters(), scaler=scaler)
    weights = balancer.backward(torch.stack(losses(True)))
    half, full = (rows_of(losses(on), list(trunk.parameters())) for on in (True, False))
    assert seen[0]["gramian"].dtype == torch.float32
    torch.testing.assert_close(seen[0]["gramian"], half @ half.T, rtol=5e-2, atol=1e-3)
    torch.testing.assert_close(seen[0]["gramian"], full @ full.T, rtol=5e-2, atol=1e-2)
    scale = 1.0 if scaler is None else 1024.0
    torch.testing.assert_close(flat_grads(list(trunk.parameters())) / scale, weights @ half, rtol=5e-2, atol=5e-3)


@pytest.mark.parametrize("host_checks", [True, False])
@pytest.mark.parametrize("spec", ["uncertainty", "gradnorm", "mgda+ema"])
def test_a_step_that_the_scaler_skips_leaves_the_state_untouched(spec, host_checks):
    def training(overflow_at):
        case = build("mlp")
        scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=10**6)
        optimizer = torch.optim.SGD(case.parameters, 0.05)
        balancer = mtl.Balancer(spec, case.shared, scaler=scaler, host_checks=host_checks)
        for step in range(6):
            optimizer.zero_grad()
            losses = torch.stack(case.losses())
            if step == overflow_at:  # the losses are finite, the gradients are not
                hole = (case.shared[0].sum() * 0).sqrt()
                losses = torch.stack([losses[0] + hole, *losses[1:]])
            balancer.backward(losses)
            scaler.step(optimizer)
            scaler.update()
        return balancer, case

    skipped, with_hole = training(3)
    steps = 5  # as many as were not skipped
    case = build("mlp")
    optimizer, plain = torch.optim.SGD(case.parameters, 0.05), mtl.Balancer(spec, case.shared)
    for _ in range(steps):
        optimizer.zero_grad()
        plain.backward(torch.stack(case.losses()))
        optimizer.step()
    for got, expected in zip(skipped.state_dict()["state"], plain.state_dict()["state"], strict=True):
        torch.testing.assert_close(got, expected)
    for got, expected in zip(with_hole.parameters, case.parameters, strict=True):
        torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("spec", ["mgda", "uncertainty", "graddrop"])
def test_gradients_of_micro_batches_add_up(spec):
    case = build("mlp")
    balancer = mtl.Balancer(spec, case.shared)
    total = 0
    for _ in range(3):
        before = flat_grads(case.parameters)
        weights = balancer.backward(torch.stack(case.losses()) / 3)
        total = total + (flat_grads(case.parameters) - before)
        if weights.ndim == 1:
            expected = weights @ rows_of([loss / 3 for loss in case.losses()], case.parameters)
            torch.testing.assert_close(flat_grads(case.parameters) - before, expected)
    torch.testing.assert_close(flat_grads(case.parameters), total)


def test_clipping_and_parameter_groups_see_ordinary_gradients():
    case = build("wide")
    shared = {id(p) for p in case.shared}
    heads = [p for p in case.parameters if id(p) not in shared]
    optimizer = torch.optim.SGD([{"params": case.shared, "lr": 0.1}, {"params": heads, "lr": 0.01}])
    before = [p.detach().clone() for p in case.parameters]
    balancer = mtl.Balancer("mgda", case.shared)
    balancer.backward(torch.stack(case.losses()))
    norm = flat_grads(case.parameters).norm()
    assert nn.utils.clip_grad_norm_(case.parameters, 0.5) == pytest.approx(norm.item())
    assert flat_grads(case.parameters).norm() == pytest.approx(0.5, rel=1e-4)
    optimizer.step()
    for p, old in zip(case.parameters, before, strict=True):
        torch.testing.assert_close(p.detach(), old - (0.1 if id(p) in shared else 0.01) * p.grad)


@pytest.mark.slow
def test_a_compiled_model_gives_the_same():
    torch.manual_seed(0)
    trunk, heads = nn.Sequential(nn.Linear(5, 8), nn.Tanh()), nn.ModuleList(nn.Linear(8, 1) for _ in range(3))
    x, y = torch.randn(16, 5), torch.randn(16, 3)
    results = []
    for forward in (trunk, torch.compile(trunk, backend="aot_eager")):
        features = forward(x)
        losses = torch.stack([(head(features)[:, 0] - y[:, k]).square().mean() for k, head in enumerate(heads)])
        strategy, seen = spy("mgda")
        trunk.zero_grad()
        mtl.Balancer(strategy, trunk.parameters()).backward(losses)
        results.append((seen[0]["gramian"], flat_grads(list(trunk.parameters()))))
    torch.testing.assert_close(results[0], results[1])


@pytest.mark.parametrize("spec", ["mgda", "famo", "auto-lambda", "sdmgrad"])
def test_statistics_of_batch_norm_move_once_a_step(spec):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Linear(5, 8), nn.BatchNorm1d(8), nn.Tanh()).to(DOUBLE)
    heads = nn.ModuleList(nn.Linear(8, 1) for _ in range(3)).to(DOUBLE)
    x, y = torch.randn(16, 5, dtype=DOUBLE), torch.randn(16, 3, dtype=DOUBLE)

    def losses():
        features = trunk(x)
        return torch.stack([(head(features)[:, 0] - y[:, k]).square().mean() for k, head in enumerate(heads)])

    balancer = mtl.Balancer(spec, trunk.parameters())
    optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], 0.05)
    reference = copy.deepcopy(trunk)
    for step in range(1, 5):
        reference.load_state_dict(
            {**trunk.state_dict(), **{k: v.clone() for k, v in reference.named_buffers()}}, strict=True
        )
        reference(x)
        optimizer.zero_grad()
        balancer.backward(losses(), recompute=losses, validation=losses, fresh=losses, lookahead_lr=0.05)
        optimizer.step()
        assert int(trunk[1].num_batches_tracked) == step
        for name, buffer in reference.named_buffers():
            torch.testing.assert_close(trunk.get_buffer(name), buffer)


def test_missing_tasks_train_the_others_with_the_weights_held():
    case = build("mlp")
    balancer = mtl.Balancer("gradnorm", case.shared, tasks=["a", "b", "c"])
    balancer.backward(dict(zip("abc", case.losses(), strict=True)))
    held, state = balancer.weights, balancer.state
    for present in ("ab", "c", "ac"):
        for p in case.parameters:
            p.grad = None
        losses = dict(zip("abc", case.losses(), strict=True))
        balancer.backward({name: losses[name] for name in present})
        mask = torch.tensor([name in present for name in "abc"], dtype=DOUBLE)
        expected = (held * mask) @ rows_of(case.losses(), case.parameters)
        torch.testing.assert_close(flat_grads(case.parameters), expected)
        assert torch.equal(balancer.weights, held) and balancer.state is state
    assert balancer.skipped == {"absent_task": 3}


@pytest.mark.parametrize("name", ["mlp", "wide", "cnn", "several_features", "tied_to_a_head"])
def test_the_gramian_on_some_of_the_shared_parameters(name):
    case = build(name)
    some = case.shared[-2:]
    rows = rows_of(case.losses(), some)
    strategy, seen = spy("imtl-g")
    weights = mtl.Balancer(strategy, case.shared, measured_on=some).backward(torch.stack(case.losses()))
    torch.testing.assert_close(seen[0]["gramian"], rows @ rows.T)
    torch.testing.assert_close(flat_grads(case.parameters), weights @ rows_of(case.losses(), case.parameters))


@pytest.mark.parametrize("options", [{}, {"memory_limit": 1}, {"host_checks": False}])
@pytest.mark.parametrize("spec", ["gradvac", "metabalance", "imtl-g"])
def test_each_block_is_weighed_by_itself(spec, options):
    case = build("mlp")
    blocks = [case.shared[:2], case.shared[2:]]
    balancer = mtl.Balancer(spec, case.shared, blocks=blocks, seed=4, scale="raw", **options)
    strategy, draws = make(spec), torch.Generator().manual_seed(4)
    states = [strategy.init(torch.ones(3, dtype=DOUBLE)) for _ in blocks]
    for _ in range(3):
        for p in case.parameters:
            p.grad = None
        noise = torch.zeros(3, 3, dtype=DOUBLE)
        if "noise" in strategy.needs:
            noise = torch.randn(3, 3, generator=draws, dtype=DOUBLE)
        losses = torch.stack(case.losses())
        weights = balancer.backward(losses)
        for at, block in enumerate(blocks):
            rows = rows_of(case.losses(), block)
            signals = {"losses": losses.detach(), "gramian": rows @ rows.T, "noise": noise}
            expected, states[at] = strategy(states[at], signals)
            torch.testing.assert_close(weights[at], expected)
            torch.testing.assert_close(flat_grads(block), expected @ rows)
        shared = {id(p) for p in case.shared}
        heads = [p for p in case.parameters if id(p) not in shared]
        torch.testing.assert_close(flat_grads(heads), weights.mean(0) @ rows_of(case.losses(), heads))


def test_blocks_survive_a_reload():
    case = build("mlp")
    make_one = lambda: mtl.Balancer("gradvac", case.shared, blocks=[case.shared[:2], case.shared[2:]])  # noqa: E731
    first, second = make_one(), make_one()
    first.backward(torch.stack(case.losses()))
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        one, two = (balancer.backward(torch.stack(case.losses())) for balancer in (first, second))
        assert torch.equal(one, two)


@pytest.mark.parametrize("spec", ["mgda", "gradnorm", "uncertainty", "equal"])
def test_a_broken_loss_that_the_host_does_not_see(spec):
    case = build("mlp")
    balancer = mtl.Balancer(spec, case.shared, host_checks=False)
    balancer.backward(torch.stack(case.losses()))
    held, state = balancer.weights, balancer.state
    for p in case.parameters:
        p.grad = None
    losses = case.losses()
    balancer.backward(torch.stack([losses[0], losses[1] * torch.nan, losses[2]]))
    torch.testing.assert_close(balancer.weights, held, rtol=0, atol=0)
    torch.testing.assert_close(balancer.state, state, rtol=0, atol=0)
    assert balancer.skipped == {"nonfinite_loss": 1}
    grads = flat_grads(case.parameters)
    assert grads.isfinite().all()
    shared = {id(p) for p in case.shared}
    others = [p for p in case.parameters if id(p) not in shared]
    mask = torch.tensor([1.0, 0.0, 1.0], dtype=DOUBLE)
    torch.testing.assert_close(flat_grads(others), (held * mask) @ rows_of(case.losses(), others))
    balancer.backward(torch.stack(case.losses()))
    assert balancer.skipped == {"nonfinite_loss": 1}


@pytest.mark.gpu
@pytest.mark.parametrize("spec", ["equal", "uncertainty", "gradnorm", "imtl-l"])
def test_a_step_does_not_wait_for_the_gpu(spec):
    torch.manual_seed(0)
    trunk = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 16), nn.ReLU()).cuda()
    heads = nn.ModuleList(nn.Linear(16, 1) for _ in range(3)).cuda()
    x, y = torch.randn(4, 3, 8, 8, device="cuda"), torch.randn(4, 3, device="cuda")
    balancer = mtl.Balancer(spec, trunk.parameters())
    optimizer = torch.optim.SGD([*trunk.parameters(), *heads.parameters()], 0.01)
    try:
        for step in range(6):
            if step == 3:
                torch.cuda.set_sync_debug_mode("error")
            optimizer.zero_grad()
            features = trunk(x)
            losses = [(head(features)[:, 0] - y[:, k]).square().mean() for k, head in enumerate(heads)]
            balancer.backward(torch.stack(losses))
            optimizer.step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert not balancer.skipped


@pytest.mark.parametrize("name", ["mlp", "cnn"])
@pytest.mark.parametrize("spec", ["mgda", "equal", "graddrop"])
def test_a_second_backward_says_what_to_do_and_retain_graph_allows_it(spec, name):
    case = build(name)
    losses = torch.stack(case.losses())
    balancer = mtl.Balancer(spec, case.shared)
    balancer.backward(losses)
    balancer.backward(torch.stack(case.losses()))
    used = torch.stack(case.losses())
    balancer.backward(used)
    with pytest.raises(RuntimeError, match=r"retain_graph=True"):
        balancer.backward(used)
    for p in case.parameters:
        p.grad = None
    kept = torch.stack(case.losses())
    balancer = mtl.Balancer(spec, case.shared)
    balancer.backward(kept, retain_graph=True)
    once = flat_grads(case.parameters)
    for p in case.parameters:
        p.grad = None
    mtl.Balancer(spec, case.shared).backward(kept)
    torch.testing.assert_close(flat_grads(case.parameters), once)


@pytest.mark.parametrize("spec", ["mgda", "equal"])
def test_parts_that_do_not_meet_are_named(spec):
    case = build("mlp")
    with pytest.raises(ValueError, match=r"shared parameter number 4, of shape \(2, 3\).*requires_grad_\(False\)"):
        balancer = mtl.Balancer(spec, [*case.shared, nn.Parameter(torch.ones(2, 3))])
        balancer.backward(torch.stack(case.losses()))
    alone = nn.Parameter(torch.ones(()))
    with pytest.raises(ValueError, match="task 'b' depends on no shared parameter: leave the task out"):
        mtl.Balancer(spec, case.shared).backward({"a": case.losses()[0], "b": alone * 2})
    with pytest.raises(ValueError, match=r"task 1 does not require grad.*check for detach"):
        losses = case.losses()
        mtl.Balancer(spec, case.shared).backward(torch.stack([losses[0], losses[1].detach()]))


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("uncertainty", {"blocks": True}, "reads no Gramian and cannot use blocks="),
        ("graddrop", {"memory_limit": 9}, "cannot use memory_limit="),
        ("graddrop", {"measured_on": True}, "cannot use measured_on="),
        ("mgda", {"memory_limit": 0}, "memory_limit=0 must be at least 1"),
        ("mgda", {"measured_on": ()}, "measured_on must hold some of the shared parameters"),
        ("mgda", {"blocks": ()}, "blocks must divide the shared parameters"),
        ("mgda", {"blocks": True, "measured_on": True}, "cannot be combined"),
    ],
)
def test_options_that_cannot_be(spec, options, message):
    case = build("mlp")
    given = {"blocks": [case.shared[:2], case.shared[2:]], "measured_on": case.shared[:2]}
    options = {name: given[name] if value is True else value for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        mtl.Balancer(spec, case.shared, **options)
