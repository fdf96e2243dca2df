"""Gramian and update of every way to share parameters, against one plain backward pass a task."""

import warnings

import pytest
import torch

import mtl
from mtl.gradients.cut import cut
from mtl.gradients.pieces import Linear
from tests.gradients.models import CASES, build, flat_grads
from tests.problems import rows_of, spy

OPTIONS = {
    "auto": {},
    "vmap": {"batching": "vmap"},
    "loop": {"batching": "loop"},
    "no memory": {"memory_limit": 1},
    "some memory": {"memory_limit": 3 * 8 * 60},
    "all on the device": {"host_checks": False},
}


def expected_update(case, weights, head_weights=None):
    """The weighted sum of task gradients on all parameters; heads may have weights of their own."""
    rows = rows_of(case.losses(), case.parameters)
    update = weights @ rows
    if head_weights is not None:
        shared = {id(p) for p in case.shared}
        on_heads = torch.cat([torch.full((p.numel(),), id(p) not in shared) for p in case.parameters])
        update = torch.where(on_heads, head_weights @ rows, update)
    return update


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", CASES)
def test_gramian_and_update_are_those_of_plain_backward_passes(name, options):
    case = build(name)
    measured = [p for p in case.shared if p.requires_grad]
    rows = rows_of(case.losses(), measured)
    strategy, seen = spy("imtl-g")
    balancer = mtl.Balancer(strategy, case.shared, **OPTIONS[options])
    for _ in range(2):  # the second time the engine knows what works
        for p in case.parameters:
            p.grad = None
        with warnings.catch_warnings():
            warnings.simplefilter("ignore" if options == "vmap" else "error")  # it may say what it cannot do
            weights = balancer.backward(torch.stack(case.losses()))
        torch.testing.assert_close(seen[-1]["gramian"], rows @ rows.T)
        torch.testing.assert_close(flat_grads(case.parameters), expected_update(case, weights))
        assert not any(p.grad is not None and p.grad.requires_grad for p in case.parameters)
    assert not balancer.skipped


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("name", ["mlp", "depths", "no_heads", "a_part_is_shared", "own_inputs"])
def test_heads_may_keep_their_own_gradients(name, options):
    case = build(name)
    balancer = mtl.Balancer("mgda", case.shared, head_weighting="own", **OPTIONS[options])
    weights = balancer.backward(torch.stack(case.losses()))
    torch.testing.assert_close(flat_grads(case.parameters), expected_update(case, weights, torch.ones(3).double()))


@pytest.mark.parametrize("name", CASES)
def test_the_whole_jacobian_is_that_of_plain_backward_passes(name):
    case = build(name)
    strategy, seen = spy("graddrop")
    balancer = mtl.Balancer(strategy, case.shared, scale="raw")
    weights = balancer.backward(torch.stack(case.losses()))
    shared = [p for p in case.shared if p.requires_grad]
    rows = rows_of(case.losses(), shared)
    torch.testing.assert_close(seen[0]["jacobian"], rows)
    torch.testing.assert_close(flat_grads(shared), (weights * rows).sum(0))


def test_losses_that_are_not_a_stack_give_the_same():
    for losses in (
        lambda made: torch.stack(made) * torch.tensor([1.0, 2.0, 3.0]).double(),
        lambda made: dict(zip("abc", (k * loss for k, loss in enumerate(made, 1)), strict=True)),
        lambda made: dict(zip("abc", torch.stack([k * loss for k, loss in enumerate(made, 1)]), strict=True)),
    ):
        case = build("mlp")
        rows = rows_of(case.losses(), case.shared) * torch.tensor([[1.0], [2.0], [3.0]]).double()
        strategy, seen = spy("mgda")
        mtl.Balancer(strategy, case.shared).backward(losses(case.losses()))
        torch.testing.assert_close(seen[0]["gramian"], rows @ rows.T)


def test_one_task_alone():
    case = build("mlp")
    balancer = mtl.Balancer("mgda", case.shared)
    loss = case.losses()[0]
    expected = rows_of([loss], case.parameters)[0]
    balancer.backward(loss[None])
    torch.testing.assert_close(flat_grads(case.parameters), expected)


def test_the_cut_is_at_the_features():
    case = build("mlp")
    found = cut(case.losses())
    assert [edge.node.name() for edge in found.frontier] == ["TanhBackward0"]
    assert found.crossed == [[0]] * 3 and found.apart
    assert {id(p) for p in found.leaves_below} == {id(p) for p in case.shared}
    assert all(len(own) == 2 for own in found.above)


def test_no_place_of_a_cut_lies_behind_another():
    for name in CASES:
        losses = build(name).losses()  # kept: before 2.7 PyTorch's nodes do not outlive them
        found = cut(losses)
        for edge in found.frontier:
            pending = [following for following, _ in edge.node.next_functions]
            while pending:
                node = pending.pop()
                assert node not in {other.node for other in found.frontier}, name
                pending += [following for following, _ in node.next_functions] if node is not None else []


def test_what_cannot_go_back_at_once_goes_one_after_another_and_says_so_once():
    class Stubborn(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):  # noqa: ARG004
            return x.clone()

        @staticmethod
        def backward(ctx, gradient):  # noqa: ARG004
            return gradient * gradient.new_tensor(float(gradient.abs().sum() >= 0))

    trunk = torch.nn.Linear(5, 5).double()
    heads = torch.nn.ModuleList(torch.nn.Linear(5, 1) for _ in range(3)).double()
    x = torch.randn(6, 5).double()

    def losses():
        features = Stubborn.apply(trunk(x))
        return [head(features).square().mean() for head in heads]

    rows = rows_of(losses(), list(trunk.parameters()))
    strategy, seen = spy("mgda")
    balancer = mtl.Balancer(strategy, trunk.parameters(), batching="vmap")
    with pytest.warns(UserWarning, match='give batching="loop"') as said:
        balancer.backward(torch.stack(losses()))
        balancer.backward(torch.stack(losses()))
    assert len(said) == 1
    for signals in seen:
        torch.testing.assert_close(signals["gramian"], rows @ rows.T)


def test_products_lose_no_digits_where_the_examples_gradients_cancel():
    """Near a minimum: the gradients of 64 examples sum to 1e-5 of their length, in float32."""
    inputs = torch.randn(32, 200).repeat(2, 1)
    outputs = torch.randn(3, 32, 100)
    outputs = torch.cat([outputs, -outputs * (1 - 1e-5)], 1)
    leaves = [torch.empty(100, 200)]
    rows = (outputs.double().mT @ inputs.double()).flatten(1)
    exact = rows @ rows.T
    found = Linear(leaves, inputs, outputs).gramian()
    plain = (outputs.mT @ inputs).flatten(1)
    error, usual = ((gramian.double() - exact).abs().max() for gramian in (found, plain @ plain.T))
    assert error < 3 * usual < 1e-2 * exact.abs().max()


@pytest.mark.parametrize("rows", [3, 40])
@pytest.mark.parametrize("bias", [False, True])
def test_products_equal_written_out_gradients(rows, bias):
    leaves = [torch.empty(50, 60), torch.empty(50)][: 1 + bias]
    inputs = torch.randn(rows, 60)
    inputs[-1] = inputs[0]  # fewer directions than rows
    piece = Linear(leaves, inputs, torch.randn(4, rows, 50))
    flat = torch.cat(piece.rows(), 1).double()
    torch.testing.assert_close(piece.gramian().double(), flat @ flat.T, rtol=1e-5, atol=1e-2)
    weights = torch.randn(4)
    combined = torch.cat([gradient.flatten() for gradient in piece.combined(weights)])
    torch.testing.assert_close(combined.double(), weights.double() @ flat, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("rows", [2, 100, 500])
def test_every_finite_input_has_a_factor(rows, scale):
    for inputs in (
        torch.zeros(rows, 20),
        torch.ones(rows, 20),
        torch.rand(rows, 3) @ torch.rand(3, 20) + 100,
        torch.randn(rows, 20) * 10.0 ** -torch.arange(rows)[:, None].clamp(max=15),
    ):
        outputs = torch.randn(2, rows, 5)
        piece = Linear([torch.empty(5, 20)], inputs * scale, outputs)
        flat = piece.rows()[0].double()
        tolerance = 1e-4 * float((outputs.norm() * piece.inputs.norm()) ** 2) / rows
        torch.testing.assert_close(piece.gramian().double(), flat @ flat.T, rtol=1e-4, atol=tolerance + 1e-30)
    broken = Linear([torch.empty(5, 20)], torch.full((rows, 20), torch.inf), outputs)
    assert not broken.gramian().isfinite().any()


@pytest.mark.parametrize("batching", ["vmap", "loop"])
def test_single_precision_takes_products_where_they_are_cheaper(batching, monkeypatch):
    calls = []
    monkeypatch.setattr(Linear, "gramian", lambda self, way=Linear.gramian: calls.append(self) or way(self))
    torch.manual_seed(0)
    trunk = torch.nn.Sequential(torch.nn.Linear(80, 90), torch.nn.Tanh(), torch.nn.Linear(90, 70), torch.nn.Tanh())
    heads = torch.nn.ModuleList(torch.nn.Linear(70, 1) for _ in range(6))
    x, y = torch.randn(8, 80), torch.randn(8, 6)

    def losses():
        features = trunk(x)
        return [(head(features)[:, 0] - y[:, k]).square().mean() for k, head in enumerate(heads)]

    parameters = [*trunk.parameters(), *heads.parameters()]
    strategy, seen = spy("imtl-g")
    weights = mtl.Balancer(strategy, trunk.parameters(), batching=batching).backward(torch.stack(losses()))
    rows = rows_of(losses(), list(trunk.parameters()))
    assert len(calls) == 2
    torch.testing.assert_close(seen[0]["gramian"], rows @ rows.T, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(flat_grads(parameters), weights @ rows_of(losses(), parameters), rtol=1e-4, atol=1e-4)


def test_unknown_batching_is_refused():
    with pytest.raises(ValueError, match="batching='fast' must be one of auto, vmap, loop"):
        mtl.Balancer("mgda", build("mlp").shared, batching="fast")
