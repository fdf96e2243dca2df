"""Speed benches at their smallest: what they write and refuse. No test says how fast anything is."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from mtl.bench import BENCHES
from mtl.bench.bench import BenchScope, Row
from mtl.bench.engines import EnginesBench
from mtl.bench.models import MODELS, make_problem
from mtl.bench.peers import peer_module
from mtl.bench.solvers import Solvers
from mtl.bench.steps import LOSSES_ONLY, Steps
from mtl.bench.timing import in_turn
from mtl.bench.ways import GRAMIAN_SPECS, equal_step, floor_step
from mtl.cli.main import main
from mtl.strategies import REGISTRY, make

ROOT = Path(__file__).parents[2]
KEYS = {"case", "ours", "peer", "peer_name", "ratio"}


def quick(name, path, *options):
    assert main(["bench", name, "--quick", "--json", str(path), *options]) == 0
    rows = json.loads(path.read_text())
    for row in rows:
        assert set(row) >= KEYS
        assert row["ours"] > 0 and row["peer"] > 0
        assert row["ratio"] == pytest.approx(row["peer"] / row["ours"])
    return rows


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["setps"], "unknown bench 'setps': did you mean steps"),
        (["everything"], "unknown bench 'everything': known are " + ", ".join(BENCHES)),
        (["steps", "--models", "mlp10"], "--models 'mlp10' is not in this bench: did you mean mlp-10"),
        (["steps", "--strategies", "mdga"], "--strategies 'mdga' is not in this bench: did you mean mgda"),
        (["solvers", "--strategies", "nahs"], "--strategies 'nahs' is not in this bench: did you mean nash"),
        (["solvers", "--models", "mlp-2"], "--models: the bench of solvers has no models"),
        (["population", "--strategies", "fam"], "--strategies 'fam' is not in this bench: did you mean famo"),
        (["population", "--models", "mlp-2"], "--models: the bench of the population has one model"),
        (["search", "--strategies", "famo"], "the bench of the search has one model and one strategy"),
        (["search", "--engine=ray", "--models", "mlp-2"], "the bench of the search has one model and one strategy"),
        (["data", "--strategies", "famo"], "the bench of data has one model and one strategy"),
        (["steps", "--engine=ray"], "--engine ray: only the bench of the search has engines"),
        (["steps", "--rounds", "0"], "rounds=0 must be at least 1"),
        (["steps", "--threads", "0"], "--threads 0: must be at least 1"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


def test_an_unwritable_file_is_refused_before_measuring(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["bench", "solvers", "--json", str(tmp_path / "file" / "rows.json")]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_missing_peer_is_named_with_the_extra(capsys, monkeypatch):
    monkeypatch.setattr("mtl.bench.bench.importlib.util.find_spec", lambda _: None)
    assert main(["bench", "steps"]) == 2
    assert "compares with torchjd" in (error := capsys.readouterr().err)
    assert "pip install 'mtl-lab[peers]'" in error


@pytest.mark.parametrize("name", ["steps", "solvers", "search"])
def test_an_installed_package_says_where_the_peers_are(name, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr("mtl.bench.peers.FOLDER", tmp_path / "benchmarks" / "peers")
    monkeypatch.setattr("mtl.bench.bench.importlib.util.find_spec", lambda _: object())
    assert main(["bench", name]) == 2
    error = capsys.readouterr().err
    assert "benchmarks/peers of its source" in error and "pip install -e '.[all,peers]'" in error
    assert error.count("\n") == 1


def test_what_runs_a_peer_is_not_in_the_package():
    peers = {"torchjd", "cvxpy", "quadprog", "ecos", "clarabel", "qpsolvers"}
    for path in [*(ROOT / "mtl" / "bench").glob("*.py"), *(ROOT / "mtl" / "cli").glob("*.py")]:
        assert not re.search(rf"import ({'|'.join(peers)})\b|from ({'|'.join(peers)})\b", path.read_text()), path


def test_steps(tmp_path, capsys):
    pytest.importorskip("torchjd")
    rows = quick("steps", tmp_path / "rows.json", "--models", "mlp-2", "--strategies", "upgrad", "mgda", "uncertainty")
    assert {(row["case"], row["peer_name"]) for row in rows} == {
        ("upgrad, mlp-2", "TorchJD"),
        ("mgda, mlp-2", "TorchJD"),
        ("mgda, mlp-2", "LibMTL's way, SciPy"),
        ("uncertainty, mlp-2", "equal weighting"),
    }
    assert all(row["difference"] < 1e-4 for row in rows if row["peer_name"] != "equal weighting")
    assert all(row["floor"] > 0 for row in rows if row["peer_name"] == "TorchJD")
    out = capsys.readouterr().out
    assert "Times faster than TorchJD" in out and "times the floor" in out


def test_solvers(tmp_path, capsys):
    pytest.importorskip("cvxpy")
    rows = quick("solvers", tmp_path / "rows.json", "--strategies", "nash", "dualproj")
    assert {row["case"] for row in rows} == {
        f"{name} {mode}, K={size}"
        for name in ("nash", "dualproj")
        for mode in ("single", "batch of 64")
        for size in (2, 5)
    }
    # What solves the problem exactly agrees with us.
    exact = [row for row in rows if row["peer_name"] in ("TorchJD: quadprog", "SciPy least squares")]
    assert len(exact) == 8
    assert all(row["difference"] < 1e-5 for row in exact)
    assert "Times faster, single" in capsys.readouterr().out


def test_every_strategy_of_the_bench_is_one_of_ours():
    assert peer_module("steps").TORCHJD.keys() == GRAMIAN_SPECS.keys()
    for name, spec in GRAMIAN_SPECS.items():
        assert make(spec).name == name
        assert "gramian" in REGISTRY[name].needs
    assert {"equal", "uncertainty", "rlw", "dwa"} <= set(LOSSES_ONLY)


@pytest.mark.parametrize("batched", [True, False])
def test_the_floor_computes_the_sum_of_all_task_gradients(batched):
    gradients = []
    for step in (equal_step, lambda problem: floor_step(problem, batched=batched)):
        problem = make_problem("cnn-3", torch.device("cpu"), torch.float64)
        step(problem)()
        gradients.append([p.grad for p in [*problem.trunk.parameters(), *problem.heads.parameters()]])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_models_for_a_gpu_make_a_finite_loss():
    for name in ("resnet18-3", "transformer-3"):
        problem = make_problem(name, torch.device("cpu"), torch.float32)
        with torch.no_grad():
            losses = problem.losses(problem.trunk(problem.inputs[:2]).repeat(len(problem.inputs) // 2, 1))
        assert len(losses) == MODELS[name][1]
        assert all(loss.isfinite() for loss in losses)


def test_candidates_have_their_turns_in_alternating_order():
    called = []
    candidates = {name: (lambda name=name: called.append(name)) for name in "abc"}
    seconds = in_turn(candidates, 2, device=torch.device("cpu"), turn=0.0)
    assert "".join(called) == "aabbcc" + "aabbcc" + "ccbbaa", "a call that is not counted begins each turn"
    assert set(seconds) == set("abc")


def test_a_slow_candidate_has_three_turns(monkeypatch):
    clock = iter(range(10_000))
    monkeypatch.setattr("mtl.bench.timing.clock", lambda _: lambda: float(next(clock)))
    called = []
    in_turn({"slow": lambda: called.append(1)}, 9, device=torch.device("cpu"), turn=0.0, limit=2.0)
    assert len(called) == 2 + 3 * 2


def row(case, ratio, peer="TorchJD", **more):
    return Row(case=case, ours=1.0, peer=ratio, peer_name=peer, ratio=ratio, **more)


def test_bars_of_steps_are_met_or_missed_by_their_rows():
    fast = [row("a, m", 2.0, floor=0.95, equal=0.5, difference=0.0), row("b, m", 1.2, floor=1.0, equal=0.5)]
    assert [bar.met for bar in Steps().bars(fast)] == [True, True, True, True]
    slow = [row("a, m", 0.9, floor=0.8, equal=0.5, difference=1.0), row("u, m", 0.9, peer="equal weighting")]
    assert [bar.met for bar in Steps().bars(slow)] == [False] * 5
    assert Steps().bars([]) == []


def test_bars_of_solvers_count_a_peer_that_solves_the_problem():
    rows = [
        row("mgda single, K=5", 4.0, peer="TorchJD: Frank-Wolfe", difference=0.1),
        row("mgda single, K=5", 0.1, peer="quadprog", difference=1e-9),
        row("mgda batch of 64, K=5", 30.0, peer="TorchJD: Frank-Wolfe", difference=0.1),
    ]
    bars = Solvers().bars(rows)
    assert [bar.met for bar in bars] == [True, False, True]
    assert "least 0.10 (mgda single, K=5)" in bars[1].text


def test_options_are_checked():
    with pytest.raises(ValueError, match="rounds=-1 must be at least 1"):
        BenchScope(rounds=-1)


def test_the_population_is_timed_against_single_runs(tmp_path):
    rows = quick("population", tmp_path / "rows.json", "--strategies", "equal")
    assert [row["case"] for row in rows] == ["equal, 4 members", "N=1", "N=4"]
    assert all(row["bytes_a_member"] > 0 for row in rows[1:])


def test_bars_of_engines_are_met_or_missed_by_their_rows():
    population, one = "engine population", "engine ray, 1 shard"
    good = [
        Row(case="start and end, 1 shard", ours=21.0, peer=2.0, peer_name=population, ratio=2 / 21),
        Row(case="a segment of 4 members x 5 steps, 1 shard", ours=2.1, peer=2.0, peer_name=population, ratio=2 / 2.1),
        Row(case="a segment of 4 members x 5 steps, 2 shards", ours=1.0, peer=1.7, peer_name=one, ratio=1.7),
    ]
    bars = EnginesBench().bars(good)
    assert [bar.met for bar in bars] == [True, True, True]
    assert [bar.text.rpartition(" ")[2] for bar in bars] == ["s", "+5.0%", "1.70x"]
    assert "19.0 s" in bars[0].text
    bad = [
        {**good[0], "ours": 23.0},
        {**good[1], "ours": 2.3},
        {**good[2], "peer": 1.5, "ratio": 1.5},
    ]
    assert [bar.met for bar in EnginesBench().bars(bad)] == [False, False, False]


@pytest.mark.slow
def test_engine_ray_is_timed_against_engine_population(tmp_path, capsys):
    pytest.importorskip("ray")
    rows = quick("search", tmp_path / "rows.json", "--engine=ray")
    segment = "a segment of 4 members x 5 steps"
    assert [(row["case"], row["peer_name"]) for row in rows] == [
        ("start and end, 1 shard", "engine population"),
        (f"{segment}, 1 shard", "engine population"),
        (f"{segment}, 2 shards", "engine ray, 1 shard"),
    ]
    for row in rows[1:]:
        assert row["rates"] == pytest.approx([20 / row["ours"], 20 / row["peer"]])
    assert rows[0]["command"] == "mtl bench search --engine ray --quick --threads 1"
    assert "Seconds of engine ray" in capsys.readouterr().out


def test_what_needs_a_gpu_is_listed_and_refused_without_one():
    def gpu(*arguments):
        command = [sys.executable, "-m", "benchmarks.gpu", *arguments]
        return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    listed = gpu("--list").stdout.split()
    assert {f"steps-{model}" for model in MODELS} | {"tests-strategies", "solvers", "population", "search"} <= {*listed}
    assert "unknown piece 'solver': there are tests-strategies" in gpu("solver").stderr
    if not torch.cuda.is_available():
        refused = gpu()
        assert (refused.returncode, refused.stderr) == (2, "no CUDA device is available here\n")


def test_data_at_their_smallest(tmp_path):
    rows = quick("data", tmp_path / "rows.json", "--device=cpu")
    assert [row["case"] for row in rows] == ["0 workers, batches of 4", "2 workers, batches of 4"]
    assert {row["peer_name"] for row in rows} == {"PyTorch loop"}
