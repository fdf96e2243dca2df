from __future__ import annotations

import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mtl.report import write_report
from tests.report.fake_study import TASKS, write_study

EVIL = "<script>alert('$x_1$ & \"q\"')</script>"
VOID = {"meta", "link", "br", "img", "input", "hr", "wbr"}


class Page(HTMLParser):
    """Checks that elements nest, and collects ids, links and text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(str(value))
            if name in ("href", "xlink:href", "src"):
                self.links.append(str(value))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("run")
    write_study(directory, ("equal", "famo", EVIL, "rlw"), diverged={"rlw": (1,)}, config={"note": EVIL})
    write_report([directory], directory)
    return directory


def test_everything_is_written(report: Path) -> None:
    tables = {f"{name}.{kind}" for name in ("ranking", "metrics", "cost") for kind in ("md", "csv", "tex")}
    assert {path.name for path in (report / "tables").iterdir()} == tables
    names = ("ranking", "metrics", "weights", "losses", "training", "cost")
    figures = {f"{name}.{kind}" for name in names for kind in ("svg", "png")}
    assert {path.name for path in (report / "figures").iterdir()} == figures
    assert not list(report.rglob("*.partial"))


def test_page_is_well_formed_and_refers_to_nothing_outside(report: Path) -> None:
    text = (report / "report.html").read_text()
    assert text.startswith("<!doctype html>")
    assert "://" not in text
    page = Page(text)
    assert page.open == []
    assert len(page.ids) == len(set(page.ids))
    assert all(link.startswith("#") for link in page.links)
    assert {link[1:] for link in page.links} <= set(page.ids)
    assert set(re.findall(r"url\(#([^)]*)\)", text)) <= set(page.ids)
    assert page.tags.count("svg") == 6
    assert page.tags.count("script") == 1


def test_names_are_text(report: Path) -> None:
    text = (report / "report.html").read_text()
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text
    assert "$x_1$" in text  # not typeset as mathematics
    for name in ("ranking", "weights"):
        assert "<script>" not in (report / "figures" / f"{name}.svg").read_text()


def test_losses_and_data_stand_in_the_page(tmp_path: Path) -> None:
    data = {
        "examples": {"train": 1200, "validation": 297, "test": 300},
        "missing": {split: {"left": 0, "right": 7, "sum": 0} for split in ("train", "validation", "test")},
        "constant": {"left": {"accuracy": 0.1034}, "right": {"accuracy": 0.11}, "sum": {"mae": 3.21, "r2": None}},
    }
    tasks = {name: {**about, "loss": f"huber:delta=0.{k}"} for k, (name, about) in enumerate(TASKS.items(), 1)}
    write_study(tmp_path, ("equal", "famo"), tasks=tasks, config={"data": data}, histories=False)
    write_report([tmp_path], tmp_path)
    text = (tmp_path / "report.html").read_text().replace("<wbr>", "")
    section = text[text.index('<section id="data">') : text.index('<section id="settings">')]
    for shown in ("huber:delta=0.2", ">7<", "0.1034", "Examples: 1\u202f200 train, 297 validation, 300 test."):
        assert shown in section
    assert "What tuning chose" not in text


def test_sections_stand_in_order(report: Path) -> None:
    text = (report / "report.html").read_text()
    sections = re.findall(r'<section id="([^"]*)"', text)
    assert sections == ["ranking", "metrics", "single-task", "weights", "losses", "cost", "notes", "data", "settings"]
    assert text.index('class="verdict"') < text.index("<section")


def test_with_one_task_nothing_is_said_of_weights_and_baselines(tmp_path: Path) -> None:
    write_study(tmp_path, ("equal", "famo"), tasks={"left": TASKS["left"]}, single=False)
    write_report([tmp_path], tmp_path)
    text = (tmp_path / "report.html").read_text()
    sections = re.findall(r'<section id="([^"]*)"', text)
    assert sections == ["ranking", "metrics", "losses", "cost", "notes", "data", "settings"]
    assert "#weights" not in text and "#single-task" not in text and "Multi-task" not in text


def test_summary_and_report_are_the_same_twice(report: Path, tmp_path: Path) -> None:
    summary = write_report([report], tmp_path)
    assert (tmp_path / "summary.json").read_bytes() == (report / "summary.json").read_bytes()
    assert (tmp_path / "report.html").read_bytes() == (report / "report.html").read_bytes()
    assert summary["ranking"][-1] == "rlw"


def test_a_run_directory_without_curves_or_costs_makes_a_report(tmp_path: Path) -> None:
    write_study(tmp_path, ("equal", "名前"), (0,), single=False, histories=False)
    path = tmp_path / "results.jsonl"
    path.write_text(re.sub(r'"cost": \{[^}]*\}', '"cost": {}', path.read_text()))
    write_report([tmp_path], tmp_path / "out")
    text = (tmp_path / "out" / "report.html").read_text()
    assert "No run logged its weights." in text
    assert not (tmp_path / "out" / "figures" / "cost.svg").exists()


def test_all_diverged_makes_a_report(tmp_path: Path) -> None:
    write_study(tmp_path, ("equal", "famo"), diverged={"equal": (0, 1, 2), "famo": (0, 1, 2)}, single=False)
    summary = write_report([tmp_path], tmp_path)
    assert summary["baseline"] is None
    assert "nothing to rank" in (tmp_path / "report.html").read_text()


def test_importing_the_report_does_not_import_matplotlib() -> None:
    code = "import sys, mtl.report; sys.exit('matplotlib' in sys.modules or 'jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.slow
def test_sixty_strategies_take_no_more_drawings_than_two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    drawn: list[str] = []
    save = Figure.savefig

    def counted(figure: Figure, *arguments: object, **options: object) -> None:
        drawn.append(str(options.get("format", "png")))
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", counted)
    counts = []
    many = tuple(f"uncertainty+gradnorm:alpha={i / 10}" for i in range(59))
    for name, strategies in (("few", ("famo",)), ("many", many)):
        drawn.clear()
        directory = write_study(tmp_path / name, ("equal", *strategies))
        summary = write_report([directory], directory)
        counts.append(sorted(drawn))
        assert len(summary["ranking"]) == 1 + len(strategies)
    assert counts[0] == counts[1] == ["png"] * 6 + ["svg"] * 6
