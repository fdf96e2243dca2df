"""Text that we write and print is UTF-8 and as it is, whatever the locale and the brackets in it."""

import ast
from pathlib import Path

import pytest
from rich.console import Console

from mtl.bench.bench import Bench, BenchTable
from mtl.cli.main import main

ROOT = Path(__file__).parents[2]
FILES = ("open", "fdopen", "read_text", "write_text", "NamedTemporaryFile", "TemporaryFile", "TextIOWrapper")
PROCESSES = ("run", "Popen", "check_output")


def of_the_locale(source):
    """Lines where text is read or written in whatever encoding the locale names."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        function = node.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        constants = [*node.args, *([given["mode"]] if "mode" in given else [])]
        modes = [one.value for one in constants if isinstance(one, ast.Constant) and isinstance(one.value, str)]
        binary = any("b" in mode and len(mode) <= 3 for mode in modes)
        file = name in FILES and not binary and ast.unparse(function) != "Image.open"
        text = file or (name in PROCESSES and {"text", "universal_newlines"} & given.keys())
        if text and "encoding" not in given:
            yield node.lineno


def test_what_is_looked_for_is_found():
    source = (
        "open(p)\nopen(p, 'rb')\np.open(mode='wb')\np.write_text(t)\np.read_text(encoding='utf-8')\nrun(c, text=True)"
    )
    assert list(of_the_locale(source)) == [1, 4, 6]


@pytest.mark.parametrize("folder", ["mtl", "docs", "slurm", "experiments", "benchmarks"])
def test_no_text_of_ours_depends_on_the_locale(folder):
    paths = sorted((ROOT / folder).rglob("*.py"))
    found = [f"{path}:{line}" for path in paths for line in of_the_locale(path.read_text(encoding="utf-8"))]
    assert found == []


class Bracketed(Bench):
    """A bench whose case looks like markup."""

    def check(self, options):
        """Anything goes."""

    def check_peers(self):
        """There are none."""

    def run(self, options):  # noqa: ARG002
        yield {"case": "[bold]mlp[/bold] [/]", "ours": 1.0, "peer": 2.0, "peer_name": "[red]peer", "ratio": 2.0}

    def tables(self, rows):
        return [BenchTable("[i]Seconds", ["", "[u]ours"], [[rows[0]["case"], "1.0"]])]

    def bars(self, rows):  # noqa: ARG002
        return []


def test_a_bench_prints_what_looks_like_markup_as_it_is(monkeypatch, capsys):
    monkeypatch.setattr("mtl.cli.bench.find_bench", lambda *_names: Bracketed())
    monkeypatch.setattr("mtl.cli.bench.console", Console(force_terminal=True, color_system=None, width=100))
    assert main(["bench", "steps"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("[bold]mlp[/bold] [/]") == 2 and "against [red]peer: 2.00" in shown and "[u]ours" in shown
