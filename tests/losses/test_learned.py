"""A loss that is a network: near the loss it starts from, moved by the gradient of an unrolled step, saved and read."""

import itertools
import json

import pytest
import torch
from torch import nn
from torch.func import functional_call

from mtl.losses import Learned, LearnedLoss, make_loss
from mtl.losses.examples import example, with_missing
from mtl.losses.unrolled import unrolled_gradient

pytestmark = pytest.mark.usefixtures("float64")


def problem(of, seed=0):
    """A model with batch normalisation, and a batch of the kind of the loss."""
    torch.manual_seed(seed)
    prediction, target = example(make_loss(of).kind, seed)
    model = nn.Sequential(nn.Linear(5, 6), nn.BatchNorm1d(6), nn.Tanh(), nn.Linear(6, prediction.shape[-1]))
    return model, torch.randn(len(target), 5), target


@pytest.mark.parametrize(
    ("of", "far"),
    [("cross-entropy", 0.03), ("focal:gamma=1", 0.05), ("binary-cross-entropy", 0.01), ("huber", 0.1), ("mse", 0.2)],
)
def test_it_starts_near_the_loss_that_it_is_of_in_value_and_slope(of, far):
    given, learned = make_loss(of), make_loss(f"learned:of={of}")
    prediction, target = example(given.kind, seed=3)
    slopes, values = [], []
    for loss in (given, learned):
        leaf = prediction.clone().requires_grad_()
        values.append(loss(leaf, target))
        slopes.append(torch.autograd.grad(values[-1], leaf)[0])
    assert abs(values[0] - values[1]) < far * values[0]
    assert (slopes[0] - slopes[1]).norm() < far * slopes[0].norm()


def by_hand(loss, model, inputs, target, lr):
    """The derivative through an unrolled step that is written out, by one differentiation."""
    phi = loss.weights.clone().requires_grad_()
    named = dict(model.named_parameters())

    def learned_loss(at):
        return loss.spec.terms_at(phi, functional_call(model, at, (inputs,)), target).reduced("mean")

    slopes = torch.autograd.grad(learned_loss(named), list(named.values()), create_graph=True)
    ahead = {name: value - lr * slope for (name, value), slope in zip(named.items(), slopes, strict=True)}
    after = loss.given(functional_call(model, ahead, (inputs,)), target)
    return torch.autograd.grad(after, phi)[0]


def by_the_module(loss, model, inputs, target, lr):
    named = dict(model.named_parameters())

    def predicted(at):
        return functional_call(model, dict(zip(named, at, strict=True)), (inputs,))

    return unrolled_gradient(
        loss.weights,
        list(named.values()),
        [lambda at, weights: loss.present(weights, predicted(at), target)],
        lambda at: loss.given_present(predicted(at), target),
        lr,
    )


@pytest.mark.parametrize("of", ["cross-entropy", "binary-cross-entropy", "mse"])
def test_the_gradient_is_that_of_a_step_unrolled_by_hand(of):
    loss = LearnedLoss(of, hidden=7)
    model, inputs, target = problem(of)
    target = with_missing(target, slice(2))
    found = by_the_module(loss, model, inputs, target, 0.3)
    expected = by_hand(loss, model, inputs, target, 0.3)
    assert expected.norm() > 1e-6
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)


def test_the_gradient_through_several_steps_is_that_of_steps_unrolled_by_hand():
    loss, lr = LearnedLoss("cross-entropy", hidden=5), 0.3
    model, inputs, target = problem("cross-entropy")
    named, parts = dict(model.named_parameters()), (slice(0, 5), slice(5, None), slice(None))
    assert len(target) > 8

    def predicted(at, part):
        return functional_call(model, at, (inputs[part],))

    phi, at = loss.weights.clone().requires_grad_(), named
    for part in parts:
        value = loss.present(phi, predicted(at, part), target[part])
        slopes = torch.autograd.grad(value, list(at.values()), create_graph=True)
        at = {name: old - lr * slope for (name, old), slope in zip(at.items(), slopes, strict=True)}
    (expected,) = torch.autograd.grad(loss.given(predicted(at, parts[-1]), target[parts[-1]]), phi)

    found = unrolled_gradient(
        loss.weights,
        list(named.values()),
        [
            lambda at, phi, part=part: loss.present(
                phi, predicted(dict(zip(named, at, strict=True)), part), target[part]
            )
            for part in parts
        ],
        lambda at: loss.given_present(predicted(dict(zip(named, at, strict=True)), parts[-1]), target[parts[-1]]),
        lr,
    )
    assert expected.norm() > 1e-6
    torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-12)


def test_the_gradient_is_what_small_steps_of_the_weights_show():
    loss, lr = LearnedLoss("mse", hidden=3), 0.2
    model, inputs, target = problem("mse")

    def after(weights):
        named = dict(model.named_parameters())
        before = loss.spec.terms_at(weights, model(inputs), target).reduced("mean")
        slopes = torch.autograd.grad(before, list(named.values()))
        ahead = {name: value - lr * slope for (name, value), slope in zip(named.items(), slopes, strict=True)}
        with torch.no_grad():
            return loss.given(functional_call(model, ahead, (inputs,)), target)

    small, found = 1e-5, by_the_module(loss, model, inputs, target, lr)
    for place in range(0, len(loss.weights), 3):
        step = small * nn.functional.one_hot(torch.tensor(place), len(loss.weights))
        seen = (after(loss.weights + step) - after(loss.weights - step)) / (2 * small)
        assert abs(seen - found[place]) < 1e-7


def test_a_step_is_one_of_adam_and_leaves_the_model_as_it_is():
    loss = LearnedLoss("cross-entropy", hidden=7, rate=0.01)
    model, inputs, target = problem("cross-entropy")
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    phi = nn.Parameter(loss.weights.clone())
    adam = torch.optim.Adam([phi], lr=0.01)
    for _ in range(3):
        phi.grad = by_the_module(loss, model, inputs, target, 0.3)
        adam.step()
        loss.meta_step(model, inputs, target, lr=0.3)
    torch.testing.assert_close(loss.weights, phi.detach())
    for name, value in model.state_dict().items():
        if "running" not in name and "batches" not in name:  # those the test's own passes have moved
            torch.testing.assert_close(value, kept[name], rtol=0, atol=0)


def test_what_precedes_training_are_steps_on_new_models_and_a_new_adam_follows():
    loss = LearnedLoss("mse", hidden=3, start="random", offline_steps=3, offline_rate=0.01, rate=0.5)
    same = LearnedLoss("mse", hidden=3, start="random", rate=0.01)
    _, inputs, target = problem("mse")
    batches = [(inputs[some], target[some]) for some in (slice(6), slice(6, 12), slice(3, 9), slice(6))]
    loss.begin(map(lambda seed: problem("mse", seed)[0], range(9)).__next__, iter(batches), lr=0.3)
    for seed, batch in enumerate(batches[:3]):
        same.meta_step(problem("mse", seed)[0], *batch, lr=0.3)
    assert torch.equal(loss.weights, same.weights) and not torch.equal(loss.weights, loss.spec.weights)
    assert loss.waiting == 0 and loss.updates == 0 and not loss.first.any() and same.updates == 3


def test_it_learns_from_random_weights_what_the_loss_is_for():
    loss = LearnedLoss("mse", hidden=10, start="random", offline_steps=300, inner_steps=3, offline_rate=0.01)
    torch.manual_seed(0)
    inputs = torch.randn(64, 4)
    target = inputs.sum(1)

    def after_three_steps():
        model = nn.Linear(4, 1)
        for _ in range(3):
            slopes = torch.autograd.grad(loss(model(inputs), target), list(model.parameters()))
            with torch.no_grad():
                for parameter, slope in zip(model.parameters(), slopes, strict=True):
                    parameter -= 0.1 * slope
        return float(loss.given(model(inputs), target).detach())

    before = sum(after_three_steps() for _ in range(8)) / 8
    loss.begin(lambda: nn.Linear(4, 1), itertools.repeat((inputs, target)), lr=0.1)
    assert sum(after_three_steps() for _ in range(8)) / 8 < 0.3 * before


def test_statistics_of_normalisation_stay_as_they_are():
    loss = LearnedLoss("cross-entropy", hidden=3)
    model, inputs, target = problem("cross-entropy")
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    loss.meta_step(model, inputs, target, lr=0.3)
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, kept[name], rtol=0, atol=0)


def test_a_batch_without_labels_changes_nothing_and_a_broken_one_is_counted():
    loss = LearnedLoss("cross-entropy", hidden=3)
    model, inputs, target = problem("cross-entropy")
    before = loss.weights.clone()
    loss.meta_step(model, inputs, with_missing(target, slice(None)), lr=0.3)
    assert torch.equal(loss.weights, before) and loss.lost == 0 and loss.updates == 0
    loss.meta_step(model, inputs * torch.nan, target, lr=0.3)
    assert torch.equal(loss.weights, before) and loss.lost == 1 and loss.updates == 0
    assert loss(model(inputs), with_missing(target, slice(None))).isnan()
    loss.meta_step(model, inputs, target, lr=0.3)
    assert not torch.equal(loss.weights, before) and loss.updates == 1


def test_a_file_of_a_learned_loss_is_found_from_any_folder(tmp_path, monkeypatch):
    LearnedLoss("mse", hidden=3).save(tmp_path / "found.json")
    monkeypatch.chdir(tmp_path)
    found = make_loss("learned:of=mse,rate=0,hidden=3,start=found.json")
    assert make_loss("found.json") == found == make_loss(str(tmp_path / "found.json"))
    monkeypatch.chdir("/")
    assert make_loss(str(found)) == found and str(found).endswith(f"start={tmp_path}/found.json")


def test_what_was_learned_is_a_loss_that_a_spec_names(tmp_path):
    loss = LearnedLoss("binary-cross-entropy", hidden=5)
    model, inputs, target = problem("binary-cross-entropy")
    loss.meta_step(model, inputs, target, lr=0.3)
    path = tmp_path / "found.json"
    loss.save(path)
    found = make_loss(f"learned:of=binary-cross-entropy,rate=0,hidden=5,start={path}")
    assert make_loss(str(found)) == found and not found.learns
    torch.testing.assert_close(found(model(inputs), target), loss(model(inputs), target))
    assert not torch.allclose(found.weights, Learned("binary-cross-entropy", hidden=5).weights)
    torch.testing.assert_close(LearnedLoss(found).weights, loss.weights)


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ("learned:of=dice", "of=dice must be a loss of numbers, classes, yes or no with a term for each label"),
        ("learned:of=poisson", "of=poisson must be a loss of numbers, classes, yes or no"),
        ("learned:of=learned", "of=learned must be a loss of"),
        ("learned:of=cross-entropy:class_weights=1/2", "depends on the training labels or on the class"),
        ("learned:of=binary-cross-entropy:positive_weight=inverse", "depends on the training labels"),
        ("learned:of=crossentropy", "unknown loss 'crossentropy': did you mean cross-entropy"),
        ("learned:rate=-1", "rate=-1.0 must be at least 0"),
        ("mae+learned:of=mse", "learns, which it cannot as a part of a sum: give it rate=0"),
        ("learned:start=random,rate=0", "start=random is no loss before something is learned: give it offline_steps"),
        ("learned:start=nowhere.json", "start=nowhere.json cannot be read: No such file or directory"),
    ],
)
def test_what_cannot_be_is_refused_in_a_line(spec, said):
    with pytest.raises(ValueError, match=said) as refused:
        make_loss(spec)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "numbers"}, "is of kind numbers, and classes is wanted: it was learned with of="),
        ({"hidden": 4}, "is of hidden 4, and 3 is wanted: it was learned with hidden=4"),
        ({"weights": [1.0]}, "has not the 25 weights of its size"),
        ({"format": "another"}, "is not the file of a learned loss"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_in_a_line(change, said, tmp_path):
    path = tmp_path / "found.json"
    LearnedLoss("cross-entropy", hidden=3).save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ValueError, match=said):
        make_loss(f"learned:hidden=3,start={path}")


def test_a_file_that_is_no_json_is_refused_in_a_line(tmp_path):
    path = tmp_path / "found.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=r"found\.json cannot be read: it is not JSON"):
        make_loss(f"learned:start={path}")


def test_it_goes_on_from_its_state():
    model, inputs, target = problem("mse")
    whole, first, second = (LearnedLoss("mse", hidden=5) for _ in range(3))
    for _ in range(4):
        whole.meta_step(model, inputs, target, lr=0.1)
    for _ in range(2):
        first.meta_step(model, inputs, target, lr=0.1)
    second.load_state_dict(first.state_dict())
    for _ in range(2):
        second.meta_step(model, inputs, target, lr=0.1)
    assert torch.equal(second.weights, whole.weights)


def test_autocast_does_not_lower_its_precision():
    loss, logits, labels = LearnedLoss("cross-entropy", hidden=5), torch.randn(8, 3).float(), torch.randint(0, 3, (8,))
    with torch.autocast("cpu", torch.bfloat16):
        found = loss(logits, labels)
    torch.testing.assert_close(found, loss(logits, labels), rtol=1e-6, atol=0)


def test_validation_data_and_a_part_of_what_a_model_returns():
    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = nn.Linear(5, 2)

        def forward(self, inputs):
            return {"left": self.inner(inputs)[:, :1]}

    torch.manual_seed(0)
    model, loss, same = Two(), LearnedLoss("mse", hidden=3), LearnedLoss("mse", hidden=3)
    inputs, target = torch.randn(9, 5), torch.randn(9)
    loss.meta_step(model, inputs, target, lr=0.1, validation=(inputs[:4], target[:4]), predict=lambda out: out["left"])
    same.meta_step(model, inputs, target, lr=0.1, predict=lambda out: out["left"])
    assert loss.updates == same.updates == 1
    assert not torch.equal(loss.weights, same.weights)
