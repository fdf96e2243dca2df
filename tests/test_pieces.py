"""Gradients of linear layers that are not written out, against those that are."""

import pytest
import torch

import mtl
from mtl.pieces import Product, of_linear


@pytest.mark.parametrize("rows", [3, 40])
@pytest.mark.parametrize("bias", [False, True])
def test_a_product_is_what_it_is_the_product_of(rows, bias):
    leaves = [torch.empty(50, 60), torch.empty(50)][: 1 + bias]
    inputs = torch.randn(rows, 60)
    inputs[-1] = inputs[0]  # fewer directions than rows
    piece = Product(leaves, inputs, torch.randn(4, rows, 50))
    flat = torch.cat(piece.rows(), 1).double()
    torch.testing.assert_close(piece.gramian().double(), flat @ flat.T, rtol=1e-5, atol=1e-2)
    weights = torch.randn(4)
    combined = torch.cat([gradient.flatten() for gradient in piece.combined(weights)])
    torch.testing.assert_close(combined.double(), weights.double() @ flat, rtol=1e-4, atol=1e-4)


def test_a_product_loses_no_digits_where_the_gradients_of_examples_cancel():
    """Near a minimum: the gradients of 64 examples sum to 1e-5 of their length, in float32."""
    inputs = torch.randn(32, 200).repeat(2, 1)
    outputs = torch.randn(3, 32, 100)
    outputs = torch.cat([outputs, -outputs * (1 - 1e-5)], 1)
    rows = (outputs.double().mT @ inputs.double()).flatten(1)
    exact = rows @ rows.T
    found = Product([torch.empty(100, 200)], inputs, outputs).gramian()
    plain = (outputs.mT @ inputs).flatten(1)
    error, usual = ((gramian.double() - exact).abs().max() for gramian in (found, plain @ plain.T))
    assert error < 3 * usual < 1e-2 * exact.abs().max()


@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
@pytest.mark.parametrize("rows", [2, 100, 500])
def test_every_finite_input_has_a_factor(rows, scale):
    outputs = torch.randn(2, rows, 5)
    for inputs in (
        torch.zeros(rows, 20),
        torch.ones(rows, 20),
        torch.rand(rows, 3) @ torch.rand(3, 20) + 100,
        torch.randn(rows, 20) * 10.0 ** -torch.arange(rows)[:, None].clamp(max=15),
    ):
        piece = Product([torch.empty(5, 20)], inputs * scale, outputs)
        flat = piece.rows()[0].double()
        tolerance = 1e-4 * float((outputs.norm() * piece.inputs.norm()) ** 2) / rows
        torch.testing.assert_close(piece.gramian().double(), flat @ flat.T, rtol=1e-4, atol=tolerance + 1e-30)


@pytest.mark.parametrize("broken", ["inputs", "outputs"])
def test_what_is_not_finite_shows(broken):
    inputs, outputs = torch.randn(6, 20), torch.randn(2, 6, 5)
    if broken == "inputs":
        inputs[3, 2] = torch.inf
    else:
        outputs[0, 1, 1] = torch.nan
    piece = Product([torch.empty(5, 20)], inputs, outputs)
    whole = torch.tensor([False, broken == "outputs"])
    assert torch.equal(piece.sums().isfinite(), whole)
    assert torch.equal(piece.gramian().diagonal().isfinite(), whole)
    kept = piece.kept(whole).rows()[0]
    assert not kept[0].any() and torch.equal(kept[1], piece.rows()[0][1] if whole[1] else torch.zeros(100))


@pytest.mark.parametrize(("tasks", "rows", "size", "out", "product"), [(10, 8, 500, 400, True), (2, 500, 8, 9, False)])
def test_the_form_that_takes_fewer_operations_is_chosen(tasks, rows, size, out, product):
    leaves = [torch.empty(out, size), torch.empty(out)]
    pieces = of_linear(leaves, torch.randn(rows, size), torch.randn(tasks, rows, out))
    assert [isinstance(piece, Product) for piece in pieces] == ([True] if product else [False, False])


@pytest.mark.parametrize("batching", ["vmap", "loop"])
def test_a_step_in_single_precision_takes_products(batching, monkeypatch):
    taken = []
    monkeypatch.setattr(Product, "gramian", lambda self, way=Product.gramian: taken.append(self) or way(self))
    torch.manual_seed(0)
    trunk = torch.nn.Sequential(torch.nn.Linear(80, 90), torch.nn.Tanh(), torch.nn.Linear(90, 70), torch.nn.Tanh())
    heads = torch.nn.ModuleList(torch.nn.Linear(70, 1) for _ in range(6))
    inputs, targets = torch.randn(8, 80), torch.randn(8, 6)
    parameters = [*trunk.parameters(), *heads.parameters()]

    def losses():
        features = trunk(inputs)
        return torch.stack([(head(features)[:, 0] - targets[:, k]).square().mean() for k, head in enumerate(heads)])

    weights = mtl.Balancer("imtl-g", trunk.parameters(), scale="raw", batching=batching).backward(losses())
    assert len(taken) == 2
    expected = torch.autograd.grad(losses() @ weights, parameters)
    for parameter, gradient in zip(parameters, expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-5)
