"""`mtl bench` on tiny sizes: what it writes and what it refuses. Speed itself is measured, not tested."""

import importlib.util
import json
import statistics
from pathlib import Path

import pytest
import torch

from mtl.bench import solvers, steps
from mtl.bench.loops import equal, floor, ours
from mtl.bench.problems import PROBLEMS, USUAL
from mtl.bench.timing import in_turn
from mtl.cli.main import main

CPU = torch.device("cpu")
KEYS = {"case", "ours", "peer", "peer_name", "ratio"}


def bench(tmp_path, *arguments):
    path = tmp_path / "rows.json"
    assert main(["bench", *arguments, "--quick", "--json", str(path)]) == 0
    rows = json.loads(path.read_text())
    for row in rows:
        assert row.keys() >= KEYS
        assert row["ours"] > 0 and row["ratio"] == row["peer"] / row["ours"]
        assert "torch" in row["versions"] and row["machine"] and row["command"].startswith("mtl bench")
    return rows


def test_steps(tmp_path, capsys):
    pytest.importorskip("torchjd")
    pytest.importorskip("cvxpy")
    threads = torch.get_num_threads()
    rows = bench(tmp_path, "steps", "--strategies", "mgda", "upgrad", "cagrad", "dwa")
    assert [(row["case"], row["peer_name"].split()[0]) for row in rows] == [
        ("mgda, tiny-2", "TorchJD"),
        ("upgrad, tiny-2", "TorchJD"),
        ("cagrad, tiny-2", "TorchJD"),
        ("cagrad, tiny-2", "LibMTL's"),
        ("dwa, tiny-2", "equal"),
    ]
    # Both libraries made the same update.
    assert all(row["difference"] < 1e-3 for row in rows if "floor" in row)
    shown = capsys.readouterr().out
    assert "over floor" in shown and "bar 1.5" in shown and "bar 1.05" in shown
    assert torch.get_num_threads() == threads


def test_solvers(tmp_path, capsys):
    pytest.importorskip("quadprog")
    pytest.importorskip("torchjd")
    rows = bench(tmp_path, "solvers", "--strategies", "upgrad", "mgda", "fairgrad")
    assert len(rows) == 2 * 2 * (3 + 1)  # two sizes, single and batched, and a second peer for mgda
    assert all(
        row["difference"] < 1e-3 for row in rows if "quadprog" in row["peer_name"] or "SciPy" in row["peer_name"]
    )
    assert "bar of 20" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["stpes"], "unknown bench 'stpes': did you mean steps"),
        (["steps", "--models", "mpl-10"], "unknown model 'mpl-10': did you mean mlp-10"),
        (["steps", "--strategies", "mgad"], "strategy 'mgad' is not timed: did you mean mgda"),
        (["solvers", "--strategies", "nsah"], "solver 'nsah' is not timed: did you mean nash"),
        (["solvers", "--models", "mlp-2"], "--models is no option of mtl bench solvers"),
        (["steps", "--rounds", "0"], "--rounds 0: must be at least 1"),
        ([], "required: bench"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(arguments, message, capsys):
    assert main(["bench", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


@pytest.mark.parametrize("batched", [True, False])
def test_the_floor_leaves_the_gradients_of_the_sum(batched):
    problem = PROBLEMS["tiny-2"]
    by_hand, plain = floor(problem, CPU, batched=batched), equal(problem, CPU)
    by_hand.step(), plain.step()
    for one, other in zip(by_hand.model.parameters(), plain.model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad)


@pytest.mark.parametrize("name", sorted({*PROBLEMS} - {*USUAL}))
def test_every_model_takes_a_step(name):
    loop = ours(PROBLEMS[name], CPU, "equal")
    assert loop.update().norm() == pytest.approx(1, rel=1e-4)


def test_everyone_has_as_many_turns():
    calls = []
    taken = in_turn({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=3, turn=0)
    assert calls == ["a"] * 3 + ["b"] * 3 + ["a", "b"] * 3
    assert taken.keys() == {"a", "b"} and min(taken.values()) > 0


def test_verdicts_read_the_bars():
    def row(case, ours, peer, peer_name="TorchJD", **extra):
        return steps.row(case, ours, peer, peer_name) | extra

    rows = [row("mgda, m", 1.0, 2.0, floor=0.95), row("nash, m", 1.0, 0.9, floor=0.5)]
    rows += [row("dwa, m", 1.0, 0.99, "equal weighting"), row("famo, m", 1.0, 0.5, "equal weighting")]
    assert [met for _, met in steps.verdicts(rows)] == [False, False, False, True]
    assert "0.90x at worst (nash, m)" in steps.verdicts(rows)[1][0]
    assert steps.verdicts(rows[2:3])[0][1] and len(steps.verdicts(rows[2:3])) == 1
    rows = [row("nash, K=2, single", 1.0, 3.0), row("nash, K=2, batch of 64", 1.0, 19.0)]
    assert [met for _, met in solvers.verdicts(rows)] == [True, False]


def test_the_page_is_written_from_the_results(tmp_path):
    root = Path(__file__).parents[1]
    spec = importlib.util.spec_from_file_location("document", root / "benchmarks/document.py")
    document = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(document)
    where = {"machine": "a machine", "versions": "torch 2", "command": "mtl bench steps"}
    rows = [
        steps.row(f"{name}, {model}", ours, 2.0, "TorchJD 1") | {"floor": 1.0, "equal": 0.5} | where
        for name, ours in (("mgda", 1.0), ("nash", 4.0))
        for model in ("mlp-2", "cnn-3")
    ]
    (tmp_path / "steps.json").write_text(json.dumps(rows))
    page = tmp_path / "page.md"
    page.write_text("# P\n<!-- steps -->\nold\n<!-- end -->\nrest\n")
    document.main(page, tmp_path)
    text = page.read_text()
    assert "old" not in text and text.endswith("<!-- end -->\nrest\n") and "`mtl bench steps`" in text
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("| ")]
    assert ["nash", "0.50", "0.50"] in lines and ["mgda", "2.00", "2.00"] in lines
    assert ["*median*", f"{statistics.median([2.0, 0.5]):.2f}", "1.25"] in lines
    again = text
    document.main(page, tmp_path)
    assert page.read_text() == again
