import pytest
import torch

import mtl
from mtl.strategies import REGISTRY, make
from tests.problems import TwoLayers, rows_of, spy

GRADIENT_STRATEGIES = [name for name, cls in REGISTRY.items() if cls.needs & {"gramian", "jacobian", "align"}]


def gradients(model):
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def one_step(model, balancer, **extra):
    model.zero_grad()
    weights = balancer.backward(
        model.losses(),
        recompute=model.losses,
        validation=model.losses,
        fresh=model.losses,
        lookahead_lr=0.05,
        **extra,
    )
    return weights, gradients(model)


def weighted_reference(model, shared_weights, head_weights):
    """Gradients by one plain backward pass a task."""
    total = {}
    for k in range(len(model.heads)):
        model.zero_grad()
        model.losses()[k].backward()
        for name, grad in gradients(model).items():
            scale = shared_weights[k] if name.startswith("trunk") else head_weights[k]
            total[name] = total.get(name, 0) + scale * grad
    return total


@pytest.mark.parametrize("head_weighting", ["weighted", "own"])
@pytest.mark.parametrize("scale", ["sum_to_k", "raw"])
@pytest.mark.parametrize("spec", ["static:weights=1/2/4", "mgda", "auto-lambda", "uncertainty+gradnorm"])
def test_the_update_is_the_weighted_sum_of_task_gradients(spec, scale, head_weighting):
    model = TwoLayers()
    balancer = mtl.Balancer(spec, model.trunk.parameters(), scale=scale, head_weighting=head_weighting)
    weights, got = one_step(model, balancer)
    heads = weights if head_weighting == "weighted" else torch.ones(3)
    for name, expected in weighted_reference(model, weights, heads).items():
        torch.testing.assert_close(got[name], expected, msg=name)


def test_the_measured_gramian_is_that_of_task_gradients():
    model = TwoLayers()
    rows = rows_of(model.losses(), list(model.trunk.parameters()))
    expected, _ = make("mgda")((), {"losses": model.losses(), "gramian": rows @ rows.T})
    balancer = mtl.Balancer("mgda", model.trunk.parameters(), scale="raw")
    torch.testing.assert_close(one_step(model, balancer)[0], expected)


def test_weights_sum_to_the_number_of_tasks_unless_raw():
    model = TwoLayers()
    assert one_step(model, mtl.Balancer("rlw", model.trunk.parameters()))[0].sum() == pytest.approx(3)
    assert one_step(model, mtl.Balancer("rlw", model.trunk.parameters(), scale="raw"))[0].sum() == pytest.approx(1)


@pytest.mark.parametrize("name", REGISTRY)
def test_a_dict_of_losses_gives_what_a_tensor_gives(name):
    results = []
    for as_dict in (False, True):
        model = TwoLayers()
        balancer = mtl.Balancer(name, model.trunk.parameters(), steps_per_epoch=2)
        optimizer = torch.optim.SGD(model.parameters(), 0.05)
        for _ in range(5):

            def losses(model=model, as_dict=as_dict):
                values = model.losses()
                return dict(zip("abc", values, strict=True)) if as_dict else values

            optimizer.zero_grad()
            weights = balancer.backward(losses(), recompute=losses, validation=losses, fresh=losses, lookahead_lr=0.05)
            optimizer.step()
        results.append((weights, model.losses()))
    torch.testing.assert_close(results[0], results[1], rtol=1e-9, atol=1e-12)


def test_a_state_of_another_strategy_is_refused():
    model = TwoLayers()
    balancer = mtl.Balancer("equal", model.trunk.parameters())
    one_step(model, balancer)
    with pytest.raises(ValueError, match="state is of strategy equal, this is rlw"):
        mtl.Balancer("rlw", model.trunk.parameters()).load_state_dict(balancer.state_dict())


@pytest.mark.parametrize("as_dict", [False, True])
@pytest.mark.parametrize("spec", ["uncertainty", "mgda", "famo", "auto-lambda", "gradnorm"])
def test_a_nan_loss_keeps_weights_and_state_masks_the_task_and_is_counted(spec, as_dict):
    model = TwoLayers()
    balancer = mtl.Balancer(spec, model.trunk.parameters())
    for _ in range(3):
        before, _ = one_step(model, balancer)
    state = balancer.state
    model.zero_grad()
    first, second, third = model.each()
    broken = torch.stack([first, second * torch.nan, third])
    if as_dict:
        broken = {"a": first, "b": second * torch.nan, "c": third}
        balancer.tasks = ["a", "b", "c"]
    weights = balancer.backward(broken, recompute=model.losses, validation=model.losses, lookahead_lr=0.05)
    got = gradients(model)
    assert balancer.skipped == {"nonfinite_loss": 1}
    assert torch.equal(weights, before)
    assert balancer.state is state
    masked = before * torch.tensor([1.0, 0.0, 1.0])
    expected = weighted_reference(model, masked, masked)
    for name, gradient in got.items():
        torch.testing.assert_close(gradient, expected[name], msg=name)
    one_step(model, balancer)
    assert state == () or balancer.state is not state
    assert balancer.skipped == {"nonfinite_loss": 1}


def test_nan_in_every_loss_leaves_no_gradient():
    model = TwoLayers()
    balancer = mtl.Balancer("mgda", model.trunk.parameters())
    balancer.backward(model.losses() * torch.nan)
    assert gradients(model) == {}
    assert torch.equal(balancer.weights, torch.ones(3, dtype=torch.float64))


def test_an_absent_task_is_masked_and_counted_apart():
    model = TwoLayers()
    balancer = mtl.Balancer("mgda", model.trunk.parameters(), tasks=["a", "b", "c"])
    losses = dict(zip("abc", model.each(), strict=True))
    del losses["b"]
    balancer.backward(losses)
    assert balancer.skipped == {"absent_task": 1}
    assert model.heads[1].weight.grad is None
    assert model.heads[0].weight.grad is not None


def test_a_gradient_that_is_not_finite_does_not_reach_the_other_tasks():
    model = TwoLayers()
    balancer = mtl.Balancer("mgda", model.trunk.parameters())
    losses = model.losses()
    hole = (model.trunk(model.x) * 0).sum().sqrt()  # zero, with a gradient of 0 * inf
    balancer.backward(torch.stack([losses[0], losses[1] + hole, losses[2]]))
    assert balancer.skipped == {"nonfinite_gradient": 1}
    assert all(p.grad.isfinite().all() for p in model.trunk.parameters())


def test_gradients_accumulate_over_calls():
    model = TwoLayers()
    once = one_step(model, mtl.Balancer("mgda", model.trunk.parameters()))[1]
    balancer = mtl.Balancer("mgda", model.trunk.parameters())
    model.zero_grad()
    for _ in range(2):
        balancer.backward(model.losses())
    for name, gradient in gradients(model).items():
        torch.testing.assert_close(gradient, 2 * once[name])


def test_the_lookahead_and_the_second_reading_leave_the_model_as_it_was():
    for spec in ("auto-lambda", "famo"):
        model = TwoLayers(norm=True)
        balancer = mtl.Balancer(spec, model.trunk.parameters())
        one_step(model, balancer)
        before = {key: value.clone() for key, value in model.state_dict().items()}
        balancer.state_dict()  # reads famo's losses
        if spec == "auto-lambda":
            model.losses()  # the forward pass that a step makes itself; running statistics move once
            after_own = {key: value.clone() for key, value in model.state_dict().items()}
            model.load_state_dict(before)
            one_step(model, balancer)
            before = after_own
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key]), (spec, key)


def test_align_is_the_product_of_validation_and_training_gradients_at_the_lookahead_point():
    model, lr = TwoLayers(), 0.05
    parameters = list(model.parameters())
    train = rows_of(model.losses(), parameters)
    moved = TwoLayers()
    step = train.sum(0) * lr  # equal weights on the scale sum = K
    with torch.no_grad():
        for p, piece in zip(moved.parameters(), step.split([p.numel() for p in parameters]), strict=True):
            p -= piece.view_as(p)
    expected = rows_of(moved.losses(), list(moved.parameters())) @ train.T
    strategy, seen = spy("auto-lambda")
    one_step(model, mtl.Balancer(strategy, model.trunk.parameters()))
    torch.testing.assert_close(seen[0]["align"], expected)


def test_features_measure_the_gramian_on_activations():
    model = TwoLayers()
    features = model.trunk(model.x)
    losses = torch.stack(
        [(k + 1) * (head(features)[:, 0] - model.y[:, k]).square().mean() for k, head in enumerate(model.heads)]
    )
    rows = rows_of(losses, [features])
    expected, _ = make("mgda")((), {"losses": losses.detach(), "gramian": rows @ rows.T})
    balancer = mtl.Balancer("mgda", model.trunk.parameters(), scale="raw")
    weights = balancer.backward(losses, features=features)
    torch.testing.assert_close(weights, expected)
    reference = weighted_reference(model, weights, weights)
    model.zero_grad()
    balancer.backward(model.losses())
    assert reference.keys() == gradients(model).keys()


def test_every_measures_only_when_due():
    model = TwoLayers()
    balancer = mtl.Balancer("mgda+every:n=4", model.trunk.parameters())
    for _ in range(8):
        one_step(model, balancer)
    assert balancer.passes["backward"] == 2 * 3 + 6


def test_half_precision_losses_are_weighed_in_single_precision():
    model = TwoLayers(dtype=torch.float32)
    balancer = mtl.Balancer("uncertainty", model.trunk.parameters())
    weights = balancer.backward(model.losses().bfloat16())
    assert weights.dtype == torch.float32
    assert all(p.grad.dtype == torch.float32 for p in model.parameters())


@pytest.mark.parametrize("spec", ["uncertainty", "mgda"])
def test_a_grad_scaler_changes_nothing_but_the_scale(spec):
    model = TwoLayers(dtype=torch.float32)
    plain_weights, plain = one_step(model, mtl.Balancer(spec, model.trunk.parameters()))
    scaler = torch.amp.GradScaler("cpu", init_scale=256.0)
    weights, scaled = one_step(model, mtl.Balancer(spec, model.trunk.parameters(), scaler=scaler))
    torch.testing.assert_close(weights, plain_weights)
    for name, gradient in scaled.items():
        torch.testing.assert_close(gradient / 256, plain[name])


@pytest.mark.parametrize(
    ("options", "call", "message"),
    [
        ({"shared": []}, {}, "no parameter that requires grad"),
        ({"scale": "sum"}, {}, "scale='sum' must be one of sum_to_k, raw"),
        ({"head_weighting": "none"}, {}, "head_weighting='none' must be one of weighted, own"),
        ({"num_tasks": 2}, {}, "3 losses were given for 2 tasks"),
        ({"spec": "famo"}, {}, "recompute="),
        ({"spec": "auto-lambda"}, {}, "validation="),
        ({"spec": "modo"}, {}, "fresh="),
        ({"spec": "static:weights=1/2"}, {}, "2 numbers, one a loss would be 3"),
        ({"spec": "mgda"}, {"losses": lambda m: m.losses().detach()}, "does not require grad"),
        ({}, {"losses": lambda m: m.losses().sum()}, "one loss a task is wanted"),
        ({"tasks": ["a"]}, {"losses": lambda m: {"b": m.losses()[0]}}, "unknown task 'b'"),
        ({"num_tasks": 3}, {"losses": lambda m: {"b": m.losses()[0]}}, "name 1 of 3 tasks"),
        ({"spec": "mgda", "shared": [torch.nn.Parameter(torch.ones(1))]}, {}, "depends on any shared parameter"),
    ],
)
def test_misuse_says_what_to_do(options, call, message):
    model = TwoLayers()
    options = {"spec": "equal", "shared": model.trunk.parameters()} | options
    losses = call.get("losses", TwoLayers.losses)(model)
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        mtl.Balancer(**options).backward(losses)


def test_epochs_are_guessed_with_a_warning():
    model = TwoLayers()
    balancer = mtl.Balancer("dwa", model.trunk.parameters())
    with pytest.warns(UserWarning, match="100 steps count as one"):
        balancer.backward(model.losses())
    with pytest.raises(RuntimeError, match="no weights before"):
        _ = mtl.Balancer("dwa", model.trunk.parameters()).weights


def test_weights_by_coordinate_survive_a_first_step_without_a_task():
    trunk, heads = torch.nn.Linear(3, 2), torch.nn.ModuleList(torch.nn.Linear(2, 1) for _ in range(2))
    inputs = torch.randn(5, 3)

    def losses():
        features = trunk(inputs)
        return {name: head(features).square().mean() for name, head in zip("ab", heads, strict=True)}

    balancer = mtl.Balancer("graddrop", trunk.parameters(), tasks=["a", "b"])
    alone = {"a": losses()["a"]}
    expected = torch.autograd.grad(losses()["a"], [*trunk.parameters(), *heads[0].parameters()])
    balancer.backward(alone)
    assert heads[1].weight.grad is None
    for parameter, gradient in zip([*trunk.parameters(), *heads[0].parameters()], expected, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)
    balancer.backward(losses())
    assert balancer.weights.shape == (2, 8) and balancer.skipped == {"absent_task": 1}


@pytest.mark.parametrize("tasks", [3, 100])
def test_losses_count_as_finite_by_themselves_whatever_their_sum_is(tasks):
    shared = torch.zeros((), requires_grad=True)
    balancer = mtl.Balancer("equal", [shared])
    balancer.backward(torch.stack([shared + 3e38 for _ in range(tasks)]))  # whose sum is no float32 any more
    assert not balancer.skipped and shared.grad == tasks

    shared.grad = None
    balancer.backward(torch.stack([shared * (torch.inf if task == 1 else 1) + 1 for task in range(tasks)]))
    assert balancer.skipped == {"nonfinite_loss": 1} and shared.grad == tasks - 1
