"""Steps without some of their tasks, with `absent="subset"`: the strategy learns from the tasks at hand."""

import dataclasses
import io
import itertools

import pytest
import torch
from torch.utils import _pytree as pytree

import mtl
from mtl.step.subset import DIVISIBLE, SubsetStep, restricted
from mtl.strategies import REGISTRY, make
from tests.problems import TwoLayers

NAMES = ["a", "b", "c"]
DIVIDED = [
    name
    for name, cls in REGISTRY.items()
    if isinstance(cls.needs, frozenset)
    and cls.needs <= DIVISIBLE
    and not (cls.tracking or cls.elementwise)
    and not any(domain.tasks == "index" for domain in mtl.hyperparameters.domains(cls).values())
]


def signals(seed, k=3):
    rng = torch.Generator().manual_seed(seed)
    rows = torch.randn(k, 7, generator=rng, dtype=torch.float64)
    return {
        "losses": 0.5 + torch.rand(k, generator=rng, dtype=torch.float64),
        "gramian": rows @ rows.T,
        "noise": torch.randn(k, k, generator=rng, dtype=torch.float64),
        "epoch": torch.tensor(seed),
    }


def of(given, tasks):
    at = torch.tensor(tasks)
    return {
        "losses": given["losses"][at],
        "gramian": given["gramian"][at][:, at],
        "noise": given["noise"][at][:, at],
        "epoch": given["epoch"],
    }


@pytest.mark.parametrize("name", DIVIDED)
def test_a_strategy_on_two_of_three_tasks_is_that_of_two_tasks(name):
    whole, two = make(name), restricted(make(name), [0, 2], 3)
    state = whole.init(signals(0)["losses"])
    alone = two.init(signals(0)["losses"][[0, 2]])
    step = SubsetStep(whole, signals(0)["losses"])
    untouched = pytree.tree_leaves(state)
    for seed in range(4):
        given = signals(seed)
        seen = {**given, "gramian": of(given, [0, 2])["gramian"], "losses": given["losses"].clone()}
        seen["losses"][1] = torch.nan  # absent
        weights, state = step(state, seen, [0, 2], [])
        expected, alone = two(alone, of(given, [0, 2]))
        torch.testing.assert_close(weights / weights.abs().sum(), expected / expected.abs().sum())
    for before, after, axes in zip(untouched, pytree.tree_leaves(state), step._axes, strict=True):
        for axis in axes:
            torch.testing.assert_close(after.select(axis, 1), before.select(axis, 1), equal_nan=True)


@pytest.mark.parametrize("name", DIVIDED)
def test_a_task_that_comes_later_begins_as_in_a_first_step(name):
    strategy, given = make(name), [signals(seed) for seed in range(6)]
    step, state = SubsetStep(strategy, given[0]["losses"]), strategy.init(given[0]["losses"])
    for seed, (tasks, new) in enumerate([([0, 1], []), ([0, 1], []), ([1, 2], [2]), ([0, 1, 2], []), ([2], [])]):
        seen = {**given[seed], "gramian": of(given[seed], tasks)["gramian"]}
        weights, state = step(state, seen, tasks, new)
        assert weights.shape == (len(tasks),)
        assert weights.isfinite().all()
    assert all(leaf.isfinite().all() for leaf in pytree.tree_leaves(state) if leaf.is_floating_point())


def losses_of(model, present):
    return {name: loss for name, loss in zip(NAMES, model.losses(), strict=True) if name in present}


@pytest.mark.parametrize("blocks", [1, 2])
def test_the_update_is_the_weighted_sum_over_the_tasks_at_hand(blocks):
    model = TwoLayers()
    parts = list(model.trunk.parameters())
    options = {"blocks": [parts[:1], parts[1:]]} if blocks > 1 else {}
    balancer = mtl.Balancer("mgda", model.trunk, tasks=NAMES, absent="subset", **options)
    balancer.backward(losses_of(model, "ac"))
    weights = balancer.weights.reshape(blocks, 3)
    got = [parameter.grad.clone() for parameter in parts]
    for at, parameter in enumerate(parts):
        block = 0 if blocks == 1 or at == 0 else 1
        expected = sum(
            w * torch.autograd.grad(loss, parameter)[0]
            for w, loss in zip(weights[block][[0, 2]], (model.losses()[0], model.losses()[2]), strict=True)
        )
        torch.testing.assert_close(got[at], expected)
    assert (weights[:, 1] == 1).all()  # nothing is known of the absent task
    torch.testing.assert_close(weights[:, [0, 2]].sum(1), torch.full((blocks,), 2.0, dtype=weights.dtype))
    assert balancer.skipped == {"absent_task": 1}


def test_one_task_a_step_teaches_every_task():
    model = TwoLayers()
    held, subset = (
        mtl.Balancer("uncertainty:lr=0.1", model.trunk, tasks=NAMES, scale="raw", absent=absent)
        for absent in ("hold", "subset")
    )
    scales = {"a": 1.0, "b": 10.0, "c": 0.01}
    for name in itertools.islice(itertools.cycle(NAMES), 60):
        for balancer in (held, subset):
            balancer.backward({name: scales[name] * losses_of(model, name)[name]})
    assert held.weights.tolist() == [1, 1, 1]
    a, b, c = subset.weights.tolist()
    assert b < a < c
    assert subset.skipped == {"absent_task": 60}


@pytest.mark.parametrize("spec", ["gradnorm", "dwa", "uncertainty+mgda"])
def test_a_reloaded_balancer_goes_on_bit_for_bit(spec):
    def run(balancer, model, steps):
        found = []
        for step in steps:
            present = [name for k, name in enumerate(NAMES) if (step + k) % 3]
            model.zero_grad()
            found.append(balancer.backward(losses_of(model, present)).clone())
        return found

    def fresh():
        model = TwoLayers()
        return model, mtl.Balancer(spec, model.trunk, tasks=NAMES, absent="subset", steps_per_epoch=2)

    model, balancer = fresh()
    whole = run(balancer, model, range(8))
    model, balancer = fresh()
    run(balancer, model, range(1))
    file = io.BytesIO()
    torch.save(balancer.state_dict(), file)
    file.seek(0)
    model, again = fresh()
    again.load_state_dict(torch.load(file, weights_only=True))
    for expected, got in zip(whole[1:], run(again, model, range(1, 8)), strict=True):
        assert torch.equal(expected, got)


def test_without_absent_tasks_nothing_changes():
    for spec in ("gradnorm", "famo:gamma=0", "dwa"):
        results = []
        for absent in ("hold", "subset"):
            if "after" in make(spec).needs and absent == "subset":
                continue
            model = TwoLayers()
            balancer = mtl.Balancer(spec, model.trunk, absent=absent, steps_per_epoch=1)
            results.append([balancer.backward(model.losses(), recompute=model.losses).clone() for _ in range(4)])
        for one in results[1:]:
            assert all(torch.equal(a, b) for a, b in zip(results[0], one, strict=True))


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("famo", "famo reads after, which cannot be cut down to some tasks: absent='subset' is not for it"),
        ("graddrop", "graddrop reads dither, jacobian"),
        ("auto-lambda", "reads align"),
    ],
)
def test_strategies_that_need_every_task_refuse(spec, message):
    with pytest.raises(ValueError, match=message):
        mtl.Balancer(spec, TwoLayers().trunk, absent="subset")


def test_a_strategy_with_a_main_task_refuses_at_its_first_smaller_step():
    model = TwoLayers()
    balancer = mtl.Balancer("gcs", model.trunk, tasks=NAMES, absent="subset")
    with pytest.raises(ValueError, match="primary names a task by its index"):
        balancer.backward(losses_of(model, "ab"))


def test_hyperparameters_go_with_their_tasks():
    assert restricted(make("static:weights=1/2/4"), [0, 2], 3) == make("static:weights=1/4")
    chained = restricted(make("static:weights=1/2/4+mgda+every:n=2"), [1], 3)
    assert "weights=2" in str(chained)
    assert dataclasses.replace(chained) == chained


@pytest.mark.parametrize("host_checks", [True, False])
def test_a_broken_loss_beside_an_absent_one_is_counted(host_checks):
    model = TwoLayers()
    balancer = mtl.Balancer("uncertainty", model.trunk, tasks=NAMES, host_checks=host_checks)
    for lacking, broken in (((), ()), (("b",), ()), (("b",), ("c",)), ((), ("c",))):
        losses = dict(zip(NAMES, model.each(), strict=True))
        balancer.backward(
            {name: loss * torch.nan if name in broken else loss for name, loss in losses.items() if name not in lacking}
        )
    assert balancer.skipped["absent_task"] == 2 and balancer.skipped["nonfinite_loss"] == 2
