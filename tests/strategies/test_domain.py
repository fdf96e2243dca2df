"""Losses of zero and below: what such a task weighs, that it takes nothing from the others, and the warning."""

from __future__ import annotations

import json
import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

import mtl
from mtl.cli.main import main
from mtl.population import Population
from mtl.strategies import REGISTRY, make
from mtl.strategies.combinators.normalize import sum_to_k
from tests.oracles.base import trace
from tests.problems import TwoLayers, random_signals, run
from tests.processes import ROOT
from tests.strategies.test_conformance import LEADING_TASKS, SPECS, SQUARE

Signals = dict[str, Tensor]

#: Strategies that a task without loss and gradient means something to, and what.
MEANS = {
    "banditmtl": "the best task in the adversary's ball",
    "cagrad": "a third of the mean gradient",
    "cosmos": "far ahead of its preference",
    "ferero": "far ahead of its preference",
    "pareto-mtl": "far ahead of its preference",
    "pbi": "far ahead of its preference",
    "pmgda": "far ahead of its preference",
    "krum": "a gradient of zero, which may be the most central one",
    "rlw": "a random weight",
    "sdmgrad": "a third of the mean gradient",
    "moml": "a logit",
    "go4align": "a member of a group",
    "famo": "a logit, which decays",
    "ldc-mtl": "a logit",
    "gradnorm": "a weight that is renormalised with the others",
    "relobralo": "a share of the softmax",
    "metabalance": "1 - r of its gradient of nothing",
    "group-dro": "the best task of the adversary",
}
ALONE = [
    spec
    for spec in SPECS
    if "/" not in spec
    and "projection=softmax" not in spec  # of the weights themselves, where each more evens them out
    and not {unit.name for unit in mtl.strategies.units(make(spec))} & {*MEANS, "ema", "clip"}
]


def idle_third(steps: int = 30) -> tuple[list[Signals], list[Signals]]:
    """The signals of two tasks, and those with a third whose loss and gradient are zero."""
    losses, two, three = trace(3, steps, 2), [], []
    for step in range(steps):
        own = random_signals(2, 100 + step)
        noise = random_signals(3, 100 + step)["noise"]
        own |= {"losses": losses[step], "after": 0.97 * losses[max(step - 1, 0)], "epoch": torch.tensor(step // 4)}
        own |= {"noise": noise[:2, :2], "align": own["jacobian"].roll(1, 1) @ own["jacobian"].T}
        own["implicit"] = own["align"]
        with_idle = {name: torch.cat([own[name], torch.zeros_like(own[name][:1])]) for name in LEADING_TASKS}
        with_idle |= {name: nn.functional.pad(own[name], (0, 1, 0, 1)) for name in SQUARE}
        two.append(own)
        three.append({**own, **with_idle, "noise": noise})
    return two, three


@pytest.mark.parametrize("spec", SPECS)
def test_a_task_without_loss_and_gradient_does_not_take_the_scale_of_the_others(spec):
    if "/" in spec and "ideal" not in spec:
        pytest.skip("has a number a task")
    for weights in run(make(spec), idle_third()[1]):
        if weights.ndim == 1:
            assert sum_to_k(weights)[:2].abs().sum() > 0.4, weights


@pytest.mark.parametrize("spec", ALONE)
def test_the_others_are_weighed_as_if_they_were_alone(spec):
    two, three = idle_third()
    for alone, beside in zip(run(make(spec), two), run(make(spec), three), strict=True):
        if alone.ndim == 1:
            pair = beside[:2]
            torch.testing.assert_close(pair / pair.abs().sum(), alone / alone.abs().sum(), rtol=1e-6, atol=1e-9)


def test_gradnorm_goes_on_where_a_first_loss_is_zero():
    losses = torch.tensor([[1.0, 1.0, 0.0], [0.9, 0.5, 0.0], [0.8, 0.4, 0.2], [0.8, 0.4, 0.1]])
    jacobian = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.5, 0.5]])
    steps = [{"losses": row, "gramian": jacobian @ jacobian.T, "jacobian": jacobian} for row in losses]
    strategy = make("gradnorm")
    state, seen = strategy.init(losses[0]), []
    for signals in steps:
        weights, state = strategy(state, signals)
        seen.append(weights)
        assert weights.isfinite().all()
    assert len({tuple(row.tolist()) for row in seen}) == 4  # they moved at every step
    assert seen[1][0] > 1 > seen[1][1]  # the shorter gradient up, the longer down
    torch.testing.assert_close(state.initial, torch.tensor([1.0, 1.0, 0.2]))  # its first positive loss


@pytest.mark.parametrize("constant", [(1.0, 5.0, 0.2), (0.0, 5.0, 0.2), (-700.0, 3.0, 0.0), (-1.0, -2.0, -700.0)])
def test_cov_gives_equal_weights_to_constant_losses(constant):
    steps = [{"losses": torch.tensor(constant)}] * 40
    for weights in run(make("cov"), steps):
        torch.testing.assert_close(weights, torch.full((3,), 1 / 3), rtol=1e-3, atol=0)


def test_cov_stays_in_the_range_of_float32_around_zero():
    generator = torch.Generator().manual_seed(0)
    for centre in (-700.0, 0.0, 700.0):
        steps = [{"losses": centre + torch.randn(3, generator=generator) * 700} for _ in range(200)]
        assert all(weights.isfinite().all() and weights.sum() > 0.999 for weights in run(make("cov"), steps))


def test_uncertainty_does_not_learn_from_losses_below_zero():
    steps = [{"losses": torch.tensor([1.0, -2.0])}] * 2000
    weights = run(make("uncertainty:lr=0.01"), steps)[-1]
    torch.testing.assert_close(weights, torch.tensor([0.5, 0.5]), rtol=1e-3, atol=0)


# --- said once --------------------------------------------------------------------------------------------------------


def heard(caught: list[warnings.WarningMessage]) -> list[str]:
    return [str(warning.message) for warning in caught if "is made for" in str(warning.message)]


@pytest.mark.parametrize("host_checks", [True, False])
def test_the_balancer_warns_once_and_names_the_task(host_checks):
    model = TwoLayers()
    balancer = mtl.Balancer("log", model.trunk.parameters(), host_checks=host_checks)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for step in range(4):
            named = dict(zip(("depth", "edges", "normals"), model.each(), strict=True))
            if step:
                named["edges"] = named["edges"] * 0
            balancer.backward(named)
            if not host_checks:  # nothing is looked at until somebody reads what the host waits for
                assert not heard(caught)
        assert not balancer.skipped
    assert heard(caught) == [
        "log is made for losses above zero, and that of task 'edges' is not: docs/strategies says what such a task "
        "weighs then"
    ]
    assert balancer.weights[1] == pytest.approx(1)


@pytest.mark.parametrize("spec", ["equal", "gradnorm+every:n=2", "mgda", "dtp"])
def test_who_is_made_for_such_losses_does_not_warn(spec):
    model = TwoLayers()
    balancer = mtl.Balancer(spec, model.trunk.parameters())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        balancer.backward(model.losses() * torch.tensor([1.0, 0.0, 1.0]))
    assert len(heard(caught)) == (make(spec).domain == "positive")


def test_a_population_warns_once_and_names_the_task():
    def losses(model: TwoLayers, batch: Tensor) -> Tensor:
        return torch.stack([loss * scale for loss, scale in zip(model.each(), batch, strict=True)])

    class Model(TwoLayers):
        def shared_parameters(self):
            return self.trunk.parameters()

    population = Population(Model, losses, "log", seeds=range(2), optimizer="sgd", lr=0.01)
    population.tasks = ["depth", "edges", "normals"]
    batch = torch.ones(2, 3, dtype=torch.float64)
    batch[1, 2] = 0
    with pytest.warns(UserWarning, match="log is made for losses above zero, and that of task 'normals' is not"):
        population.step(batch)
    population.step(batch)  # a second warning would be an error


def test_each_strategy_says_what_it_is_made_for(capsys):
    made_for = {name: cls().domain for name, cls in REGISTRY.items()}
    assert made_for["log"] == made_for["stch"] == "positive" and made_for["dtp"] == "nonnegative"
    assert made_for["equal"] == made_for["nash"] == "any"
    assert make("mgda:norm=loss").domain == "positive" and make("stch:form=plain").domain == "any"
    assert main(["list", "--json"]) == 0
    shown = {row["name"]: row["domain"] for row in json.loads(capsys.readouterr().out)}
    assert {name: shown[name] for name in made_for} == made_for
    assert "Made for losses above zero" in (ROOT / "docs" / "strategies" / "log.md").read_text(encoding="utf-8")
    assert make("equal+dtp+ema").domain == "nonnegative" and make("dtp+log").domain == "positive"


@pytest.mark.parametrize(
    "name", ["uncertainty", "log", "geometric", "uw-so", "stch", "imtl-l", "lbtw", "adaloss", "mgda"]
)
def test_what_is_left_out_where_every_task_takes_part_changes_no_bit(name):
    strategy, signals = make(name), random_signals(2, dtype=torch.float32)
    signals = {key: value for key, value in signals.items() if key in strategy.needs}
    state = strategy.init(signals["losses"])
    looked = strategy(state, signals)
    mapped = torch.vmap(strategy)(*pytree.tree_map(lambda leaf: leaf[None], (state, signals)))  # where nobody may look
    for one, other in zip(pytree.tree_leaves(looked), pytree.tree_leaves(mapped), strict=True):
        assert torch.equal(one, other[0])
