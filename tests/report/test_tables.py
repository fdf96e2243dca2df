from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from rich.console import Console

from mtl.report import numbers, tables
from mtl.report.read import read_study
from mtl.report.summary import summarize
from mtl.report.table import Cell, Column, ReportTable
from tests.report.fake_study import NINE, write_study


def table(*specs: str) -> ReportTable:
    columns = [Column("strategy", ("strategy",), numeric=False), Column("accuracy", ("accuracy", "low"), True)]
    rows = [[Cell(spec, (spec,)), Cell(f"{value} ± 0.1", (value, None))] for value, spec in enumerate(specs)]
    return ReportTable(columns, rows)


def test_csv_reads_back_in_full() -> None:
    rows = list(csv.DictReader(io.StringIO(table("a,b", 'c"d').csv())))
    assert rows[1] == {"strategy": 'c"d', "accuracy": "1", "low": ""}


def test_latex_is_booktabs_escaped_and_bold() -> None:
    text = table("a_b", "c&d", "x").latex()
    for part in (r"\toprule", r"a\_b", r"c\&d", r"\textbf{2 $\pm$ 0.1}", r"accuracy~$\uparrow$"):
        assert part in text
    assert "±" not in text


def test_markdown_is_escaped_and_bold() -> None:
    text = table("a|b", "<b>", "x").markdown()
    assert r"a\|b" in text
    assert "&lt;b&gt;" in text
    assert "**2 ± 0.1**" in text


def test_best_is_what_reads_best() -> None:
    cells = [[Cell("0.90", (0.9001,))], [Cell("0.90", (0.9004,))], [Cell("0.1", (0.1,))], [Cell("0.9", (0.9,))]]
    assert ReportTable([Column("a", ("a",), True)], cells).best(0) == {0, 1}
    assert ReportTable([Column("a", ("a",), False)], cells).best(0) == {2}
    assert ReportTable([Column("a", ("a",))], cells).best(0) == set()
    assert ReportTable([Column("a", ("a",), False)], cells, excluded=frozenset({2})).best(0) == {3}
    assert ReportTable([Column("a", ("a",), False)], cells, apart=3).best(0) == set()


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("strategies", [NINE, ("equal", "uncertainty+gradnorm:alpha=0.12,lr=0.025", "rlw")])
def test_terminal_table_fits(tmp_path: Path, width: int, strategies: tuple[str, ...]) -> None:
    diverged = {} if strategies == NINE else {"rlw": (1,)}
    summary = summarize(read_study([write_study(tmp_path, strategies, diverged=diverged, histories=False)]))
    console = Console(width=width, file=io.StringIO(), record=True)
    console.print(tables.terminal(summary, width))
    text = console.export_text()
    assert max(map(len, text.splitlines())) <= width
    assert "…" not in text
    assert "reference" in text
    assert ("diverged" in text) == bool(diverged)
    assert ("sum" in text.splitlines()[0]) == (width == 100 and strategies == NINE)


@pytest.mark.parametrize(
    ("value", "digits", "signed", "text"),
    [
        (0.12345, 3, False, "0.123"),
        (-0.5, 1, True, "−0.5"),
        (-0.0001, 2, True, "0.00"),
        (0.5, 1, True, "+0.5"),
        (3e-6, 6, False, "3e−06"),
        (1e9, 2, False, "1e+09"),
        (None, 2, False, "–"),
    ],
)
def test_numbers(value: float | None, digits: int, signed: bool, text: str) -> None:
    assert numbers.number(value, digits, signed) == text


def test_decimals_follow_the_spread() -> None:
    def entry(mean: float, half: float | None) -> dict[str, float | None]:
        return {"mean": mean, "high": None if half is None else mean + half}

    assert numbers.decimals([entry(0.9, 0.012), entry(0.8, 0.015), entry(0.8, 0.02)]) == 3
    assert numbers.decimals([entry(120.0, 35.0)]) == 0
    # An AUC of 0.8493 ± 0.0039 beside less certain ones is not "0.85 ± 0.00".
    assert numbers.decimals([entry(0.8493, 0.0039), entry(0.7, 0.2), entry(0.6, 0.3)]) == 3
    assert numbers.decimals([entry(0.5, 1e-9), entry(0.7, 0.2), entry(0.6, 0.3)]) == 4
    assert numbers.decimals([entry(0.5, None), entry(0.6, None)]) == 3
    assert numbers.decimals([entry(0.0, None)]) == 3
    assert numbers.decimals([]) == 3


@pytest.mark.parametrize(
    ("low", "high", "texts"),
    [
        (0.8, 0.9, ("0.8", "0.9")),
        (0.8512, 0.8533, ("0.851", "0.853")),
        (0.85, 0.85, ("0.85", "0.85")),
        (1e-4, 1e-1, ("0.0001", "0.1")),
    ],
)
def test_the_ends_of_an_axis_can_be_told_apart(low: float, high: float, texts: tuple[str, str]) -> None:
    assert numbers.ends(low, high) == texts


def test_long_names_keep_both_ends() -> None:
    text = numbers.shortened("a" * 60 + "z" * 60, 21)
    assert len(text) == 21
    assert text.startswith("a")
    assert text.endswith("z")
    assert numbers.two_lines("uncertainty+gradnorm:alpha=0.12", 24) == "uncertainty+gradnorm:\nalpha=0.12"
