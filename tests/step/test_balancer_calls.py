"""What may be given to a balancer, held steps, and what it tells of the gradients."""

import math

import pytest
import torch
from torch import nn

import mtl
from tests.problems import TwoLayers, rows_of


def model_and_balancer(spec="mgda", **options):
    model = TwoLayers()
    return model, mtl.Balancer(spec, model.trunk, **options)


def gradients(model):
    return [p.grad.clone() for p in model.parameters()]


@pytest.mark.parametrize("spec", ["mgda", "uncertainty", "graddrop"])
def test_a_list_of_losses_is_the_tensor_of_them(spec):
    found = []
    for form in (lambda losses: losses, list, tuple):
        model, balancer = model_and_balancer(spec)
        balancer.backward(form(model.losses()))
        found.append(gradients(model))
    for other in found[1:]:
        for expected, got in zip(found[0], other, strict=True):
            torch.testing.assert_close(got, expected)


def test_none_in_a_list_is_an_absent_task():
    model, balancer = model_and_balancer()
    balancer.backward([*model.losses()[:2], None])
    assert balancer.skipped == {"absent_task": 1}


@pytest.mark.parametrize(
    ("losses", "error", "message"),
    [
        (lambda _: None, TypeError, "losses are None: give a tensor"),
        (lambda _: 0.5, TypeError, "losses are a float: give a tensor"),
        (lambda x: {"a": x.sum(), "b": None}, TypeError, "the loss of task 'b' is None: where a batch has no labels"),
        (lambda x: {"a": x.sum(), "b": 0.0}, TypeError, "the loss of task 'b' is 0.0, a float and no tensor"),
        (lambda x: {"a": x.sum(), "b": 0}, TypeError, "the loss of task 'b' is 0, an int and no tensor"),
        (
            lambda x: {"a": x.sum(), "b": x.square()},
            ValueError,
            r"the loss of task 'b' has shape \(4,\): one number a task",
        ),
        (lambda x: [x.sum(), x.square()], ValueError, r"the loss of task 1 has shape \(4,\)"),
        (lambda x: {0: x.sum(), 1: x.sum()}, TypeError, "a task named 0, an int: names of tasks are strings"),
        (lambda x: (loss for loss in [x.sum()]), TypeError, "losses are a generator: give a tensor"),
        (lambda x: {"a": x.sum(), "b": x.detach().sum()}, ValueError, "the loss of task 'b' does not require grad"),
        (lambda _: [], ValueError, "losses are empty"),
    ],
)
def test_losses_that_cannot_be_weighed_are_refused_in_one_line(losses, error, message):
    x = nn.Parameter(torch.ones(4))
    with pytest.raises(error, match=message) as raised:
        mtl.Balancer("mgda", [x]).backward(losses(x))
    assert "\n" not in str(raised.value)


def test_losses_made_without_grad_are_refused():
    model, balancer = model_and_balancer()
    with torch.no_grad(), pytest.raises(ValueError, match=r"does not require grad.*no_grad\(\)"):
        balancer.backward(model.losses())


@pytest.mark.parametrize(
    ("shared", "message"),
    [
        (
            lambda m: m.trunk.named_parameters(),
            "shared holds pairs such as '.*' and a parameter: give the module itself",
        ),
        (lambda m: next(m.trunk.parameters()), "shared is a Parameter: give the module that all tasks share"),
        (lambda _: 3, "shared is an int: give the module"),
        (lambda m: [m.trunk], "shared holds a .*: give the module that all tasks share, or its parameters"),
    ],
)
def test_what_is_no_shared_parameter_is_refused(shared, message):
    with pytest.raises(TypeError, match=message):
        mtl.Balancer("mgda", shared(TwoLayers()))


def test_a_module_gives_its_names_to_errors():
    trunk = nn.ModuleDict({"used": nn.Linear(2, 2), "left": nn.Linear(2, 2)})
    balancer = mtl.Balancer("mgda", trunk)
    losses = trunk["used"](torch.ones(3, 2)).square().mean(0)
    with pytest.raises(ValueError, match=r"no loss depends on shared parameter 'left\.weight'.*unused='zero'"):
        balancer.backward(losses)


@pytest.mark.parametrize("spec", ["mgda", "uncertainty", "graddrop", "moco"])
def test_layers_that_some_steps_go_past_have_no_gradient_there(spec):
    torch.manual_seed(0)
    trunk = nn.ModuleList(nn.Linear(3, 3) for _ in range(2))
    balancer = mtl.Balancer(spec, trunk, unused="zero")
    for used in ([0], [0, 1], [1], [0, 1]):
        trunk.zero_grad()
        x = torch.ones(4, 3)
        for at in used:
            x = trunk[at](x).tanh()
        balancer.backward(x.square().mean(0)[:2])
        for at, layer in enumerate(trunk):
            moves = layer.weight.grad is not None and bool(layer.weight.grad.any())
            assert moves == (at in used or (spec == "moco" and layer.weight.grad is not None and moves))
    assert balancer.weights.isfinite().all()


@pytest.mark.parametrize("spec", ["mgda", "gradnorm", "uncertainty", "rlw", "graddrop", "moco", "famo"])
def test_a_call_without_update_applies_the_held_weights_and_is_no_step(spec):
    model, balancer = model_and_balancer(spec)

    def call(**options):
        model.zero_grad()
        weights = balancer.backward(model.losses(), recompute=model.losses, **options).clone()
        return weights, gradients(model)

    before = call()[0]
    state = [leaf.clone() for leaf in torch.utils._pytree.tree_leaves(balancer.state)]
    for _ in range(3):
        weights, got = call(update=False)
        assert torch.equal(weights, before)
    for old, new in zip(state, torch.utils._pytree.tree_leaves(balancer.state), strict=True):
        assert torch.equal(old, new)
    if weights.ndim == 1:
        model.zero_grad()
        (model.losses() * weights).sum().backward()
        for expected, found in zip(gradients(model), got, strict=True):
            torch.testing.assert_close(found, expected)
    fresh_model, fresh = model_and_balancer(spec)
    fresh.backward(fresh_model.losses(), recompute=fresh_model.losses)
    assert torch.equal(call()[0], fresh.backward(fresh_model.losses(), recompute=fresh_model.losses))


def test_before_any_update_a_held_call_weighs_all_alike():
    model, balancer = model_and_balancer()
    assert balancer.backward(model.losses(), update=False).tolist() == [1, 1, 1]


def test_an_optimizer_may_call_several_times_a_step():
    model, balancer = model_and_balancer("uncertainty:lr=0.1")
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5, line_search_fn="strong_wolfe")
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        balancer.backward(model.losses())

        def closure():
            optimizer.zero_grad()
            losses_now = model.losses()
            weights = balancer.backward(losses_now, update=False)
            return (weights * losses_now).sum().detach()

        losses.append(float(optimizer.step(closure)))
    assert balancer._weigher.updates == 4
    assert losses[-1] < losses[0]


def test_micro_batches_share_the_weights_of_the_first():
    model, balancer = model_and_balancer("rlw", update_every=3)
    weights = [balancer.backward(model.losses() / 3).clone() for _ in range(7)]
    for first in (0, 3):
        assert torch.equal(weights[first], weights[first + 1]) and torch.equal(weights[first], weights[first + 2])
    assert not torch.equal(weights[0], weights[3]) and not torch.equal(weights[3], weights[6])
    again = mtl.Balancer("rlw", model.trunk, update_every=3)
    again.load_state_dict(balancer.state_dict())
    assert torch.equal(again.backward(model.losses() / 3), weights[6])
    with pytest.raises(ValueError, match="update_every=0 must be at least 1"):
        mtl.Balancer("rlw", model.trunk, update_every=0)


@pytest.mark.parametrize("blocks", [1, 2])
def test_diagnostics_are_those_of_the_task_gradients(blocks):
    model = TwoLayers()
    parts = list(model.trunk.parameters())
    options = {"blocks": [parts[:1], parts[1:]]} if blocks > 1 else {}
    balancer = mtl.Balancer("imtl-g", parts, **options)
    with pytest.raises(RuntimeError, match="imtl-g has made none yet"):
        _ = balancer.diagnostics
    rows = rows_of(model.losses(), parts)
    balancer.backward(model.losses())
    update = torch.cat([p.grad.flatten() for p in parts])
    found = balancer.diagnostics
    assert found.tasks == (0, 1, 2)
    torch.testing.assert_close(found.norms, rows.norm(dim=1))
    cosines = torch.stack([torch.cosine_similarity(row, rows) for row in rows])
    torch.testing.assert_close(found.cosines, cosines)
    assert int(found.conflicts) == int((cosines.triu(1) < 0).sum())
    torch.testing.assert_close(found.update_norm, update.norm())
    torch.testing.assert_close(found.update_cosines, torch.cosine_similarity(update, rows), rtol=1e-4, atol=1e-5)
    values = torch.linalg.eigvalsh((rows @ rows.T).double())
    assert float(found.condition) == pytest.approx(float(values[-1] / values[0]), rel=1e-2)


def test_diagnostics_of_dependent_and_zero_gradients():
    x = nn.Parameter(torch.tensor([1.0, 2.0]))
    balancer = mtl.Balancer("mgda", [x])
    balancer.backward({"up": x.sum(), "down": -x.sum(), "none": (0 * x).sum()})
    found = balancer.diagnostics
    assert found.tasks == ("up", "down", "none")
    assert int(found.conflicts) == 1 and math.isinf(float(found.condition))
    torch.testing.assert_close(found.cosines[0], torch.tensor([1.0, -1.0, 0.0]))
    assert float(found.update_norm) == pytest.approx(0, abs=1e-6)


def test_diagnostics_say_where_the_update_is_no_weighted_sum():
    model, balancer = model_and_balancer("graddrop")
    balancer.backward(model.losses())
    assert balancer.diagnostics.update_norm is None and balancer.diagnostics.update_cosines is None
    model, balancer = model_and_balancer("uncertainty")
    balancer.backward(model.losses())
    with pytest.raises(RuntimeError, match="uncertainty reads none"):
        _ = balancer.diagnostics


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"absent": "drop"}, "absent='drop' must be one of hold, subset"),
        ({"unused": "ignore"}, "unused='ignore' must be one of error, zero"),
        ({"batching": "all"}, "batching='all' must be one of auto, vmap, loop"),
    ],
)
def test_unknown_words_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        model_and_balancer(**options)
