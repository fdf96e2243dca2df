"""Ray Tune: spaces, trials and the engine, without and with real processes."""

from __future__ import annotations

import json
import math

import pytest

from mtl.cli.main import main
from tests.processes import finish, start
from tests.tiny import Tiny

pytest.importorskip("ray", reason="needs the extra ray")

SPEC = "tests/tiny.py:Tiny"
STRATEGIES = ["equal", "static", "uncertainty+gradnorm"]
GIVEN = {
    "strategy.static.weights": "simplex",
    "dropout": "0:0.5",
    "batch_size": "16:32",
    "loss.product": ["mse", "huber"],
    "loss.product.delta": "0.1:2:log",
}


@pytest.fixture(scope="module")
def names():
    import mtl.ray

    return mtl.ray


def test_a_parameter_exists_only_beside_its_choice(names):
    space = names.param_space(SPEC, STRATEGIES, GIVEN)

    class Drawn:
        config = {"strategy": "equal", "loss.product": "mse"}  # noqa: RUF012

    assert space["strategy.static.weights"].func(Drawn) is None and space["loss.product.delta"].func(Drawn) is None
    Drawn.config = {"strategy": "static:weights=1/1", "loss.product": "huber"}
    assert 0.1 <= space["loss.product.delta"].func(Drawn) <= 2
    assert {*space["strategy"].categories} >= {"equal", "uncertainty+gradnorm"}
    assert space["batch_size"].upper == 33  # Tune leaves the upper bound out, we do not


def test_every_configuration_is_a_run(names):
    """Drawn flat, as most searchers do, or with what exists only beside a choice: the values are of one run."""
    from mtl.ray.tune.space import from_config, to_tune
    from mtl.search.space import make_member

    space = names.space_of(SPEC, STRATEGIES, GIVEN)
    flat = to_tune(space, conditional=False)
    strategies = set()
    for _ in range(30):
        config = {name: domain.sample() if hasattr(domain, "sample") else domain for name, domain in flat.items()}
        values = from_config(config)
        make_member(values, 0)
        assert set(values) == {name for name, _ in space.active(values)}
        strategies.add(values["strategy"])
    assert len(strategies) == 3


def test_space_to_tune_is_the_same(names):
    space = names.space_of(SPEC, ["gradnorm"])
    assert set(space.to_tune()) == set(names.param_space(SPEC, ["gradnorm"])) == {n for n, _ in space.active({})}


def test_explore_keeps_within_the_bounds_of_any_mutations():
    from ray import tune

    from mtl.ray.tune.space import explored

    space = explored({"a": tune.uniform(0, 1), "b": tune.lograndint(1, 9), "c": [1, 2], "d": tune.choice(["x", "y"])})
    import numpy as np

    values, rng = {"a": 0.99, "b": 1, "c": 1, "d": "x"}, np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        values = space.perturbed(values, rng, 0.2)
        assert 0 <= values["a"] <= 1 and 1 <= values["b"] <= 8 and values["c"] in (1, 2) and values["d"] in ("x", "y")
        seen.add((values["b"], values["d"]))
    assert len(seen) > 5  # an integer of 1 does not stay there


@pytest.mark.parametrize("bad", [{"a": "1e-3:1"}, {"a": lambda: 1}, {}])
def test_mutations_without_bounds_are_refused(names, bad):
    with pytest.raises(ValueError, match="hyperparam_mutations"):
        names.PBT(hyperparam_mutations=bad)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"strategy": "gradnrom"}, "gradnorm"),
        ({"objective": "product/accuracy"}, "product/accuracy"),
        ({"members": 0}, "members=0"),
        ({"method": "ptb"}, "pbt"),
        ({"device": "tpu"}, "device='tpu'"),
        ({"settings": {"lrr": 1}}, "lrr"),
    ],
)
def test_a_trainable_that_cannot_be_is_refused_in_one_line(names, changed, message):
    with pytest.raises(ValueError, match=message) as caught:
        names.trainable(SPEC, **changed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--scheduler=pbt", "--searcher=optuna"], "pbt changes values itself"),
        (["--scheduler=bohb", "--searcher=random"], "bohb is both"),
        (["--scheduler=asha", "--searcher=bohb"], "bohb is both"),
        (["--scheduler=ptb"], "did you mean pbt"),
        (["--scheduler=pbt", "--shards=2"], "shards search by themselves"),
        (["--method=tpe"], "--scheduler and --searcher"),
        (["--gpus-per-shard=1"], "it is an option of --engine ray"),
        (["--gpus-per-trial=-1"], "must not be negative"),
    ],
)
def test_what_does_not_go_together_is_refused_before_ray_starts(options, message, capsys, tmp_path):
    out = f"--out={tmp_path / 'run'}"
    assert main(["search", SPEC, "--engine=tune", "--members=4", "--wandb=disabled", *options, out]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_the_words_of_a_space_are_read_back():
    """A shard's configuration is its space in the words of the command line."""
    from mtl.ray.tune.space import space_of

    space = space_of(Tiny(), STRATEGIES, GIVEN)
    again = space_of(Tiny(), ["equal"], space.describe())
    assert again.describe() == space.describe()


def _rows(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow
def test_a_search_by_ray_tune_is_replayed_and_goes_on(tmp_path):
    """PBT over strategies: no two trials share a seed, there are exploits, and the winner is trained again."""
    out = tmp_path / "run"
    options = ["--engine=tune", "--members=4", "--epochs=4", "--interval=8", "--wandb=disabled", f"--out={out}"]
    finish(start("search", SPEC, "--strategies", "equal", "gradnorm", *options))
    records, events = _rows(out / "results.jsonl"), _rows(out / "schedule.jsonl")
    assert len({record["seed"] for record in records}) == 4 == len(records)
    assert all(record["status"] == "done" and math.isfinite(record["objective"]["selection"]) for record in records)
    assert any(event["source"] is not None for event in events)
    assert (out / "report.html").exists() and (out / "summary.json").exists()
    finish(start("replay", out))
