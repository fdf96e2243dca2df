"""Files of a run that a crash, a full disk or an editor left damaged: each is named, and costs no more than itself."""

import json
import shutil

import pytest

from mtl.cli.main import main
from mtl.files.json_lines import append_line, read_lines
from mtl.files.lineage import offset_before, read_events
from mtl.study.rundir import RunDirectory

TINY = "tests/tiny.py:Tiny"


def call(*arguments):
    return main([*map(str, arguments)])


def compare(out, *extra):
    options = ["--strategies", "equal", "rlw", "--no-single-task", "--steps=4", "--wandb=disabled", "--quiet"]
    return call("compare", TINY, *options, "--out", out, *extra)


def lines(path):
    return path.read_bytes().splitlines(keepends=True)


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    out = tmp_path_factory.mktemp("compared") / "run"
    assert compare(out, "--seeds=1") == 0
    return out


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    out = tmp_path_factory.mktemp("searched") / "run"
    arguments = ["--members=4", "--interval=2", "--steps=8", "--wandb=disabled", "--quiet", "--quantile=0.5"]
    assert call("search", TINY, *arguments, "--out", out) == 0
    return out


@pytest.fixture
def copied(tmp_path):
    def copy(directory):
        return shutil.copytree(directory, tmp_path / "copy")

    return copy


def test_a_finished_run_whose_newline_is_missing_is_kept_by_the_next_writer(compared, copied):
    out = copied(compared)
    path = out / "results.jsonl"
    path.write_bytes(path.read_bytes().rstrip(b"\n"))
    before = path.read_bytes()
    assert compare(out, "--seeds=2", "--resume") == 0
    assert path.read_bytes().startswith(before + b"\n")
    assert [json.loads(line)["run"][-1] for line in lines(path)] == ["0", "0", "1", "1"]


@pytest.mark.parametrize("rest", [b'{"run": "final-', b'{"run": "\xc3', b"\0\0\0"])
def test_half_a_line_is_cut_off_by_the_next_writer(rest, tmp_path):
    path = tmp_path / "some.jsonl"
    append_line(path, {"a": 1})
    path.write_bytes(path.read_bytes() + rest)
    assert read_lines(path).cut == 2 and not read_lines(path).damaged
    append_line(path, {"a": float("nan")})
    assert path.read_bytes() == b'{"a": 1}\n{"a": null}\n'


@pytest.mark.parametrize("damage", [b"{broken\n", b'{"run": "\xff"}\n', b"[1]\n", b'{"run": "x"}\n'])
def test_a_damaged_result_is_named_and_only_that_run_is_repeated(damage, compared, copied, capsys):
    out = copied(compared)
    path = out / "results.jsonl"
    first, second = lines(path)
    path.write_bytes(damage + second)
    assert [record["run"] for record in RunDirectory(out).records()] == [json.loads(second)["run"]]
    assert compare(out, "--seeds=1", "--resume") == 0
    error = capsys.readouterr().err
    assert "results.jsonl, line 1: no finished run can be read there" in error and "Traceback" not in error
    assert json.loads(lines(path)[-1])["metrics"] == json.loads(first)["metrics"] and len(lines(path)) == 3


@pytest.mark.parametrize("at", [0, 3, 4, 5])
def test_a_damaged_event_costs_no_number_of_a_search(at, searched, copied, capsys):
    out = copied(searched)
    path = out / "schedule.jsonl"
    events = lines(path)
    events[at] = b'{"search": "\xff\n'
    path.write_bytes(b"".join(events))
    assert len(read_events(path)) == len(events) - 1
    whole = json.loads((searched / "summary.json").read_text())
    assert call("report", out) == 0
    summary = json.loads((out / "summary.json").read_text())
    assert summary["best"] == whole["best"] and summary["runs"] == whole["runs"]
    assert f"schedule.jsonl, line {at + 1}: left out" in (out / "report.html").read_text()
    assert "Traceback" not in capsys.readouterr().err


def test_a_search_that_begins_anew_does_not_cut_off_what_stands_behind_a_damaged_event(tmp_path):
    path = tmp_path / "schedule.jsonl"
    path.write_bytes(b'{"search": "a"}\n{broken\n{"search": "a"}\n')
    assert offset_before(path, "b") == path.stat().st_size
    path.write_bytes(path.read_bytes() + b'{"search": "b"}\n{"sear')
    assert offset_before(path, "b") == path.stat().st_size - 22 == 40
    assert offset_before(path, "c") == path.stat().st_size - 6


def test_without_its_settings_a_run_is_not_gone_on_with(compared, copied, capsys):
    out = copied(compared)
    (out / "config.yaml").unlink()
    before = (out / "results.jsonl").read_bytes()
    for extra in (["--resume"], []):
        assert compare(out, "--seeds=2", "--lr=0.5", *extra) == 2
        assert "holds a run without its config.yaml" in capsys.readouterr().err
    assert (out / "results.jsonl").read_bytes() == before and not (out / "config.yaml").exists()


@pytest.mark.parametrize("content", [b"command: compare\nseeds: [1\n", b"command: \xff\n", b"- 1\n"])
def test_damaged_settings_are_named_with_their_line(content, compared, copied, capsys):
    out = copied(compared)
    (out / "config.yaml").write_bytes(content)
    assert compare(out, "--seeds=1", "--resume") == 2
    error = capsys.readouterr().err
    assert "config.yaml" in error and error.count("\n") == 1
    assert "line" in error or content == b"- 1\n"


def test_a_line_of_the_schedule_that_is_no_event_is_named(searched, copied):
    out = copied(searched)
    path = out / "schedule.jsonl"
    path.write_bytes(path.read_bytes() + b'{"search": "search"}\n')
    number = len(lines(path))
    assert any(f"schedule.jsonl, line {number}: no event" in damage for damage in RunDirectory(out).damages())
    assert call("report", out) == 0
    assert f"schedule.jsonl, line {number}: left out" in (out / "report.html").read_text()
