"""`mtl list`, and what the command line says before torch is imported."""

import inspect
import json
import re
import subprocess
import sys

import pytest
import torch

from mtl.benchmarks import find_benchmark
from mtl.cli.console import console
from mtl.cli.groups import GROUPS, group_of
from mtl.cli.listing import COSTS, cost_class
from mtl.cli.main import main
from mtl.losses import make_loss
from mtl.losses.torch_losses import torch_names
from mtl.search.methods import find_method
from mtl.strategies import REGISTRY, make
from mtl.strategies.combinators import COMBINATORS
from mtl.suggestions import nearest

TINY = "tests/tiny.py:Tiny"


def rows(capsys, *arguments):
    assert main(["list", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("what", ["strategies", "benchmarks", "losses", "models", "architectures", "methods"])
def test_list_prints_what_there_is_and_json(what, capsys):
    assert main(["list", what]) == 0
    shown = capsys.readouterr().out
    assert all(row["name"] in shown for row in rows(capsys, what))


def test_the_list_of_strategies_is_whole_in_80_columns(monkeypatch, capsys):
    monkeypatch.setattr(console, "_width", 80)
    assert main(["list", "strategies"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    assert "…" not in text
    for row in rows(capsys):
        about = " ".join(f"{p['name']}={p['default'] or '()'} {p['range']} {p['about']}" for p in row["parameters"])
        for whole in (row["description"], " ".join(about.split()), " ".join(row["source"].split())):
            assert whole in text, row["name"]


def test_every_strategy_is_in_a_group_whose_line_names_some_of_it(capsys):
    assert {row["name"]: row["group"] for row in rows(capsys)} == {
        name: group_of(cls) for name, cls in {**REGISTRY, **COMBINATORS}.items()
    }
    for group, advice in GROUPS.items():
        named = re.findall(r"`(.+?)`", advice)
        named = [spec for spec in named if not spec.startswith("+") and spec != "equal"] or named
        parts = [make(spec) for spec in named]
        if group != "combinators":
            assert parts and all(group_of(type(part)) == group for part in parts), group
        assert main(["list"]) == 0
        assert f"{group.upper()} (" in capsys.readouterr().out


@pytest.mark.parametrize("name", [name for name, cls in REGISTRY.items() if group_of(cls) == "gradient norms"])
def test_strategies_of_gradient_norms_do_not_look_at_angles(name):
    strategy, losses = make(name), torch.tensor([0.5, 1.0, 1.5], dtype=torch.float64)
    for seed in range(5):
        jacobian = torch.randn(3, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        gramian = jacobian @ jacobian.T
        found = []
        for measured in (gramian, gramian.diagonal().diag()):
            state = strategy.init(losses)
            for _ in range(3):
                weights, state = strategy(state, {"losses": losses, "gramian": measured})
            found.append(weights)
        torch.testing.assert_close(*found)


def test_losses_of_torch_are_listed_with_their_arguments(capsys):
    found = {row["name"]: row for row in rows(capsys, "losses")}
    for name in torch_names():
        usual = {key: each.default for key, each in inspect.signature(getattr(torch.nn, name)).parameters.items()}
        for each in found[name]["parameters"]:
            wanted = usual[each["name"]]
            said = str(wanted).lower() if isinstance(wanted, bool) else str(wanted)
            assert each["default"] == said or float(each["default"]) == float(wanted)
    assert main(["list", "losses", "--grep", "smoothl1loss"]) == 0
    assert "SmoothL1Loss  beta=1  for numbers" in capsys.readouterr().out
    assert [each["name"] for each in found["MultiMarginLoss"]["parameters"]] == ["p", "margin", "weight"]


@pytest.mark.parametrize(
    ("make_it", "what"),
    [(make, "strategies"), (make_loss, "losses"), (find_method, "methods"), (find_benchmark, "benchmarks")],
)
def test_a_name_like_none_is_answered_with_the_list_that_has_all(make_it, what):
    with pytest.raises(ValueError, match=rf"unknown \w+ 'qqqqq': `mtl list {what}` shows all"):
        make_it("qqqqq")


def test_of_many_names_of_other_things_the_first_are_said():
    names = [f"task{number}" for number in range(14)]
    assert nearest("qqqqq", names) == f"known are {', '.join(names[:12])} and 2 more"
    assert nearest("qqqqq", names[:12]) == f"known are {', '.join(names[:12])}"


def test_grep_finds_text_in_any_field_and_says_what_it_does_not_find(capsys):
    assert [row["name"] for row in rows(capsys, "--grep", "NASH bargaining")] == ["nash"]
    assert "pb2" in {row["name"] for row in rows(capsys, "methods", "--grep", "gaussian process")}
    assert main(["list", "losses", "--grep", "zebra"]) == 2
    assert "--grep zebra: no losses with this text" in capsys.readouterr().err


def test_cost_sorts_strategies_and_is_refused_for_the_rest(capsys):
    costs = [COSTS.index(row["cost"]) for row in rows(capsys, "--cost")]
    assert costs == sorted(costs) and len(costs) == len(REGISTRY) + len(COMBINATORS)
    assert {cost_class(cls) for cls in REGISTRY.values()} <= set(COSTS)
    assert main(["list", "--cost"]) == 0
    assert "equal  (1 bwd; losses only)" in capsys.readouterr().out
    assert main(["list", "models", "--cost"]) == 2
    assert "an option of `mtl list strategies`" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--help", "usage: mtl"),
        ("search --help", "usage: mtl search"),
        ("compare digits --epochs 1 --steps 2", "both are the length of a run"),
        ("compare digits --seeds 0", "--seeds 0: must be at least 1"),
        ("compare digits --budget 4", "--budget 4: it is an option of --tune METHOD"),
        ("search digits --engine ray --shards 0", "--shards 0: must be at least 1"),
        ("search digits --engine tune --scheduler pbbt", "did you mean pbt"),
        ("search digits --memberz 4", "did you mean --members?"),
        ("train digits --config nowhere.yaml", "No such file"),
        ("submit search digits --asynchronous --members few", "invalid int value"),
        ("submit compare --nodes=1 digits", "`--` must stand before the arguments of mtl"),
        ("list models --cost", "an option of `mtl list strategies`"),
        ("report nowhere", "holds no results.jsonl"),
    ],
)
def test_help_and_refusals_that_need_no_data_do_not_wait_for_torch(arguments, says):
    script = (
        "import sys; from mtl.cli.main import main\n"
        "try: code = main(sys.argv[1:])\n"
        "except SystemExit as error: code = error.code\n"
        "print('imported:', 'torch' in sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments.split()], capture_output=True, text=True)
    assert says in done.stdout + done.stderr
    assert "imported: False" in done.stdout
    assert done.returncode == (0 if "--help" in arguments else 2)


@pytest.mark.parametrize(("arguments", "spared"), [("schema results", "torch"), ("list methods", "sklearn")])
def test_what_a_command_has_no_use_for_is_not_imported(arguments, spared):
    script = (
        "import sys; from mtl.cli.main import main\n"
        f"code = main(sys.argv[1:]); print('imported:', {spared!r} in sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments.split()], capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.endswith("imported: False\n")


def test_what_import_mtl_gives_comes_when_it_is_asked_for():
    script = (
        "import sys, mtl; assert 'torch' not in sys.modules and 'Balancer' in dir(mtl)\n"
        "from mtl import *; from mtl import Balancer as B; assert B is mtl.Balancer is Balancer\n"
        "assert mtl.strategies.REGISTRY and mtl.make('equal') and mtl.balancer.Balancer is B\n"
        "assert all(callable(getattr(mtl, name)) for name in mtl.__all__) and not hasattr(mtl, 'balancr')"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


def test_the_list_of_losses_says_formula_parameters_ranges_and_use(monkeypatch, capsys):
    monkeypatch.setattr(console, "_width", 80)
    assert main(["list", "losses"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for row in rows(capsys, "losses"):
        if row["for"] == "torch.nn":  # which have a line each
            continue
        parameters = [f"{each['name']}={each['default']} {each['range']}" for each in row["parameters"]]
        for whole in (row["formula"], f"Use: {row['use']}.", row["source"], *parameters):
            assert whole and whole in text, row["name"]
    assert "SmoothL1Loss" in text and "gamma=2 at least 0, searched from 0.5 to 5" in text
    assert main(["list", "losses", "--grep", "segmentation"]) == 0
    shown = capsys.readouterr().out
    assert "\ndice " in shown and "\nmse " not in shown


@pytest.mark.parametrize(
    ("what", "spared"),
    [
        ("losses", ["mtl.benchmarks", "mtl.search.methods", "mtl.models"]),
        ("strategies", ["mtl.benchmarks", "mtl.search.methods", "mtl.models"]),
        ("methods", ["scipy"]),
    ],
)
def test_a_list_imports_what_it_lists_and_little_else(what, spared):
    script = (
        f"import sys; from mtl.cli.main import main; main(['list', '{what}']); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert not {*spared} & {*done.stderr.split()}
