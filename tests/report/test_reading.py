from __future__ import annotations

from pathlib import Path

import pytest

from mtl.report import write_report
from mtl.report.read import read_runs, read_study
from mtl.report.summary import summarize
from tests.report.fake_study import write_study


def test_a_line_cut_short_is_ignored_counted_and_left_alone(tmp_path: Path) -> None:
    directory = write_study(tmp_path, ("equal", "famo"), histories=False)
    whole, _ = read_runs(directory)
    path = directory / "results.jsonl"
    path.write_bytes(path.read_bytes() + b'{"run": "final-famo-9", "strategy": "f\xc3')
    before = path.read_bytes()
    study = read_study([directory])
    (said,) = study.unreadable
    assert f"{directory.name}/results.jsonl, line {len(whole) + 1}: left out" in said
    assert len(study.runs) == len(whole)
    assert path.read_bytes() == before


def test_lines_that_are_no_runs_are_counted(tmp_path: Path) -> None:
    directory = write_study(tmp_path, ("equal",), histories=False)
    with (directory / "results.jsonl").open("a") as file:
        file.write('[1, 2]\n{"run": "x"}\n\n')
    runs, (said,) = read_runs(directory)
    assert f"lines {len(runs) + 1}, {len(runs) + 2}: left out" in said


def test_a_damaged_line_or_history_costs_itself_and_is_named(tmp_path: Path) -> None:
    directory = write_study(tmp_path, ("equal", "famo"))
    path = directory / "results.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[2] = b'{"run": "\xff"}\n'
    path.write_bytes(b"".join(lines))
    history = next((directory / "history").glob("final-famo-*"))
    history.write_bytes(b'{"weights":\n [1.0, \xff')
    runs, said = read_runs(directory)
    assert len(runs) == len(lines) - 1
    assert "results.jsonl, line 3: left out" in said[0] and f"{history.name}: not UTF-8 at byte 20" in said[1]
    history.write_bytes(b'{"weights":\n [1.0, ')
    assert f"{history.name}, line 2" in read_runs(directory)[1][1]
    assert len(summarize(read_study([directory]))["strategies"]) == 2


def test_of_one_run_the_last_line_counts(tmp_path: Path) -> None:
    directory = write_study(tmp_path, ("equal",), histories=False)
    path = directory / "results.jsonl"
    last = path.read_text().splitlines()[-1]
    path.write_text(last.replace('"done"', '"failed"') + "\n" + last + "\n")
    runs, _ = read_runs(directory)
    assert [run.status for run in runs] == ["done"]


def test_parts_of_an_array_merge_to_the_whole(tmp_path: Path) -> None:
    whole = summarize(read_study([write_study(tmp_path / "whole", ("equal", "famo", "nash"), histories=False)]))
    parts = [
        write_study(tmp_path / f"part{seed}", ("equal", "famo", "nash"), (seed,), histories=False) for seed in (0, 1, 2)
    ]
    assert summarize(read_study(parts)) == whole


def test_parts_that_share_runs_count_them_once(tmp_path: Path) -> None:
    first = write_study(tmp_path / "a", ("equal", "famo"), histories=False)
    second = write_study(tmp_path / "b", ("equal", "nash"), histories=False)
    summary = summarize(read_study([first, second]))
    assert summary["strategies"]["equal"]["runs"] == 3
    assert set(summary["strategies"]) == {"equal", "famo", "nash"}
    assert "occur more than once" in summary["remarks"][0]


def test_settings_that_differ_are_named(tmp_path: Path) -> None:
    first = write_study(tmp_path / "a", ("equal",), (0,), histories=False)
    second = write_study(tmp_path / "b", ("equal",), (1,), histories=False, config={"steps": 10})
    (remark,) = read_study([first, second]).remarks
    assert "steps (940; 10)" in remark


def test_different_benchmarks_refuse(tmp_path: Path) -> None:
    first = write_study(tmp_path / "a", ("equal",), histories=False)
    second = write_study(tmp_path / "b", ("equal",), histories=False, config={"benchmark": "qm9"})
    with pytest.raises(ValueError, match=r"(?s)'multidigits'.*'qm9'"):
        read_study([first, second])


def test_a_search_beside_a_comparison_is_refused(tmp_path: Path) -> None:
    first = write_study(tmp_path / "a", ("equal",), histories=False)
    second = write_study(tmp_path / "b", ("equal",), histories=False, config={"command": "search"})
    with pytest.raises(ValueError, match=r"b' is a search and '.*a' is none"):
        write_report([first, second], tmp_path)


def test_bad_directories_are_said_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no run directory"):
        read_study([tmp_path])
    (tmp_path / "config.yaml").write_text("a: [1")
    with pytest.raises(ValueError, match=r"config.yaml, line 1: not YAML: [^\n]*$"):
        read_study([tmp_path])
    (tmp_path / "config.yaml").write_text("a: 1")
    with pytest.raises(ValueError, match=r"config.yaml, line 1: object missing required field (benchmark|tasks)"):
        read_study([tmp_path])
    (tmp_path / "config.yaml").write_text("benchmark: b\ntasks:\n  left:\n    metrics: 3\n")
    with pytest.raises(ValueError, match=r"config.yaml, line 4: \$.tasks.left.metrics: expected object, got int"):
        read_study([tmp_path])
    (tmp_path / "config.yaml").write_text("{benchmark: b, tasks: {}}")
    with pytest.raises(ValueError, match="no finished run"):
        read_study([tmp_path])
    with pytest.raises(ValueError, match="no run directory is given"):
        read_study([])
