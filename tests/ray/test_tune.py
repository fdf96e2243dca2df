"""Ray Tune: spaces, trials and the engine, without and with real processes."""

from __future__ import annotations

import copy
import json
import math
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mtl.cli.main import main
from tests.processes import ROOT, start, wait
from tests.tiny import Tiny
from tests.wandb_files import read_files
from tests.written import events_of, records_of

pytest.importorskip("ray", reason="needs the extra ray")

from ray.train._internal.storage import StorageContext
from ray.tune.result import TRIAL_INFO

SPEC = "tests/tiny.py:Tiny"
STRATEGIES = ["equal", "static", "uncertainty+gradnorm"]
GIVEN = {
    "strategy.static.weights": "simplex",
    "dropout": "0:0.5",
    "batch_size": "16:32",
    "loss.product": ["mse", "huber"],
    "loss.product.delta": "0.1:2:log",
    "lr": "0.0012345678901234:0.1",
    "ema": ["none", 0.5],
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
    from mtl.ray.tune.space import from_config
    from mtl.search.space import make_member
    from mtl.search.space.to_tune import to_tune

    space = names.space_of(SPEC, STRATEGIES, GIVEN)
    flat = to_tune(space.dimensions, conditional=False)
    strategies, averages = set(), set()
    for _ in range(30):
        config = {name: domain.sample() if hasattr(domain, "sample") else domain for name, domain in flat.items()}
        values = from_config(config)
        make_member(values, 0)
        assert set(values) == {name for name, _ in space.active(values)}
        strategies.add(values["strategy"])
        averages.add(values["ema"])
    assert len(strategies) == 3 and averages == {None, 0.5}


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
        (["--gpus-per-trial=-1"], "--gpus-per-trial -1: must be at least 0"),
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
    assert again.dimensions == space.dimensions


@pytest.mark.slow
def test_a_search_by_ray_tune_is_replayed(on_cluster, tmp_path, capsys):
    """PBT over strategies: no two trials share a seed, there are exploits, and the winner is trained again."""
    from mtl.ray.tune.space import space_of
    from mtl.search.methods import Problem, random_starts

    out = tmp_path / "run"
    options = ["--engine=tune", "--members=4", "--epochs=4", "--interval=8", f"--out={os.path.relpath(out)}"]
    on_cluster("search", SPEC, "--strategies", "equal", "gradnorm", *options, "--search", "ema=none,0.5")
    records, events = records_of(out), events_of(out)
    space = space_of(Tiny(), ["equal", "gradnorm"], {"ema": ["none", 0.5]})
    begun = [start.values for start in random_starts(Problem(space, 32, 8, 0), 4)]
    assert [event["after"] for event in events if event["source"] is None] == begun, "as in our own searches"
    assert len({record["seed"] for record in records}) == 4 == len(records)
    assert all(record["status"] == "done" and math.isfinite(record["objective"]["selection"]) for record in records)
    assert any(event["source"] is not None for event in events)
    assert (out / "report.html").exists() and (out / "summary.json").exists()
    assert main(["replay", str(out)]) == 0
    assert "bit for bit" in " ".join(capsys.readouterr().out.split())


def _script(name, *arguments):
    environment = {**os.environ, "RAY_AIR_NEW_OUTPUT": "0", "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT)}
    environment["RAY_ADDRESS"] = "local"  # not the cluster of other tests, which Ray would find
    command = [sys.executable, "-W", "ignore", f"tests/ray/{name}", *map(str, arguments)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_pbt_replaces_what_is_not_finite_keeps_seeds_and_bounds(tmp_path):
    """Against Ray Tune itself, on a trainable of a user's own; synchronous, and not."""
    searches = [json.loads(line) for line in _script("pbt_script.py", tmp_path).splitlines()[-2:]]
    assert [search["synch"] for search in searches] == [True, False]
    for search in searches:
        trials = search["trials"]
        assert sorted(trial["seed"] for trial in trials) == [0, 1, 2, 3]
        assert all(trial["done"] and math.isfinite(trial["height"]) and 0.1 <= trial["rate"] <= 1 for trial in trials)


@pytest.mark.slow
def test_a_script_of_ones_own_becomes_a_run_directory_and_is_logged(tmp_path, capsys):
    _script("own_script.py", tmp_path)
    assert main(["report", str(tmp_path / "run")]) == 0
    logged = [path.name for path in (tmp_path / "ray/mine/mtl/wandb").glob("offline-run-*")]
    assert len(logged) == 5, "a run a trial, and one for the whole"
    files = read_files(tmp_path / "ray/mine/mtl")
    trials = [found for found, *_ in files.values() if any("hyperparameters/lr" in row for row in found.rows.values())]
    assert len(trials) == 4, "the values in use are metrics"
    assert "selection" in capsys.readouterr().out


def test_the_three_changes_that_the_docs_show_are_those_of_the_script():
    diff = (ROOT / "docs/ray.md").read_text(encoding="utf-8").split("```diff\n")[1].split("```")[0]
    script = (ROOT / "tests/ray/own_script.py").read_text(encoding="utf-8")
    added = [line[1:].strip() for line in diff.splitlines() if line.startswith("+")]
    assert added and all(line in script for line in added)


@pytest.mark.slow
def test_a_killed_driver_goes_on_and_still_exploits(on_cluster, tmp_path):
    out = tmp_path / "run"
    line = ["search", SPEC, "--engine=tune", "--strategies", "equal", "gradnorm", "--members=4", "--epochs=10"]
    line += ["--interval=8", "--wandb=disabled", f"--out={out}"]
    process = start(*line)
    wait(process, lambda: len([*out.glob("tune/*/checkpoint_000003")]) >= 2)
    process.kill()
    process.communicate()
    before = {path.name for path in out.glob("tune/*/checkpoint_*")}
    on_cluster(*line, "--resume")
    assert len(records_of(out)) == 4 and before
    late = [event for event in events_of(out) if event["source"] is not None and event["step"] > 40]
    assert late, "no exploits after the restore"
    assert main([*line, "--resume", "--search", "lr=1e-4:1e-3"]) == 2, "another space"


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--scheduler=pb2"],
        ["--scheduler=asha", "--searcher=optuna", "--trials=6"],
        ["--scheduler=hyperband"],
        ["--scheduler=median", "--searcher=none"],
        ["--shards=2"],
    ],
)
def test_schedulers_and_searchers_end_in_a_report(on_cluster, tmp_path, options):
    out = tmp_path / "run"
    search = ["search", SPEC, "--engine=tune", "--members=4", "--epochs=3", "--interval=8", "--wandb=disabled"]
    on_cluster(*search, *options, f"--out={out}")
    records = records_of(out)
    assert len(records) >= 4 and len({record["seed"] for record in records}) == len(records)
    assert main(["report", str(out)]) == 0


@pytest.mark.slow
def test_shards_search_what_was_asked_for_and_nothing_else(on_cluster, tmp_path):
    out = tmp_path / "run"
    search = ["search", SPEC, "--engine=tune", "--shards=2", "--members=4", "--steps=16", "--interval=8"]
    strategies = ["--strategies", "gradnorm:alpha=0.5", "gradnorm"]
    on_cluster(*search, *strategies, "--search", "weight_decay=default", "--wandb=disabled", f"--out={out}")
    began = [event["after"] for event in events_of(out) if event["source"] is None]
    assert len(began) == 4 and not any("weight_decay" in values for values in began)
    assert all(("strategy.gradnorm.alpha" in values) == (values["strategy"] == "gradnorm") for values in began)


def _begun(made, config, name, storage):
    return made({**config, TRIAL_INFO: SimpleNamespace(trial_id=name, trial_name=name, trial_resources=None)}, storage)


def test_what_a_lost_driver_left_of_later_segments_is_not_gone_on_from(names, tmp_path, monkeypatch):
    """A trial takes over another: at the step of which the driver knows, though a later checkpoint lies there."""
    monkeypatch.chdir(ROOT)  # which Ray leaves for the trial's directory
    monkeypatch.setattr(StorageContext, "trial_working_directory", str(tmp_path))  # Ray's own is where a cluster runs
    monkeypatch.setattr(StorageContext, "persist_artifacts", lambda _self, **_options: None)
    made = names.trainable(SPEC, strategy="gradnorm", settings={"epochs": 4})
    stores = [StorageContext(str(tmp_path), "tune", trial_dir_name=name) for name in ("target", "source")]
    config = {"lr": 0.01, "interval": 8}
    target, source = (_begun(made, {**config, "seed": k}, str(k), copy.copy(stores[k])) for k in range(2))
    for _ in range(3):
        target.train()
        target.save()
    source.train()
    given = source.save()
    stores[0].current_checkpoint_index = 0  # the driver heard of the first segment, no more
    again = _begun(made, {**config, "lr": 0.02, "seed": 0}, "0", stores[0])
    again.restore(given)
    assert again.train()["steps"] == 16


def test_without_ray_a_name_says_which_extra_brings_it(names, monkeypatch):
    import importlib.util

    assert not hasattr(names, "no_such_name")
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ImportError, match=r"mtl-lab\[ray\]"):
        _ = names.trainable


def test_importing_mtl_ray_does_not_import_ray():
    script = "import sys, mtl.ray; assert 'ray' not in sys.modules; assert 'trainable' in dir(mtl.ray)"
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


def test_a_searcher_whose_package_is_absent_names_it(monkeypatch):
    from mtl.ray.tune.asked import check_pair

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "hyperopt" else object())
    with pytest.raises(ValueError, match="--searcher hyperopt needs the package hyperopt, which is not installed"):
        check_pair("asha", "hyperopt", None)


@pytest.mark.slow
def test_gpus_that_the_cluster_does_not_have_are_refused(on_cluster, tmp_path):
    out = f"--out={tmp_path / 'run'}"
    errors = on_cluster("search", SPEC, "--engine=tune", "--members=4", "--gpus-per-trial=64", out, code=2)
    assert "--gpus-per-trial 64: the node of the Ray cluster with most GPUs has" in errors


@pytest.mark.parametrize("members", [1, 4])
def test_a_restored_trial_is_one_that_was_never_interrupted(names, members, tmp_path):
    """Bit for bit, also in a process that has trained another trial before (`reuse_actors`)."""
    made = names.trainable(SPEC, strategy="gradnorm", settings={"epochs": 4}, members=members)
    config = {"lr": 0.01 if members == 1 else "1e-3:1e-1:log", "dropout": 0.2, "seed": 3, "interval": 8}
    whole, first, second = made(config), made(config), made({**config, "seed": 9})
    expected = [_told(whole.step()) for _ in range(4)]
    assert [_told(first.step()) for _ in range(2)] == expected[:2]
    first.save_checkpoint(str(tmp_path))
    second.step()
    assert second.reset_config(config)
    second.load_checkpoint(str(tmp_path))
    assert [_told(second.step()) for _ in range(2)] == expected[2:]
    assert expected[-1]["done"] and not expected[-2]["done"]


def _told(result):
    return {name: result[name] for name in ("selection", "objective", "steps", "metrics", "hyperparameters", "done")}


def test_a_configuration_with_an_unknown_name_is_refused(names):
    made = names.trainable(SPEC)
    with pytest.raises(ValueError, match="config: unknown name 'learning_rate': did you mean lr"):
        made({"learning_rate": 0.1})


def test_the_callback_logs_as_wandbs_own_variable_says(monkeypatch):
    from mtl.ray import callback

    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert callback()._mode == "disabled" and callback("offline")._mode == "offline"
    monkeypatch.delenv("WANDB_MODE")
    assert callback()._mode == "offline"
    with pytest.raises(ValueError, match="W&B mode 'of-line', of an option or of WANDB_MODE: must be one of"):
        callback("of-line")
