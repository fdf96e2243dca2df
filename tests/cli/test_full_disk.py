"""A full disk ends a command with one line: the file, what is kept, and how to go on.

A limit on the size of files stands for the disk: both make a write fail that has been begun.
"""

import contextlib
import json
import resource

import pytest

from mtl.cli.main import main
from mtl.files.lineage import Event, write_events
from mtl.files.whole import write_whole
from mtl.study.rundir import open_run_directory

TINY = "tests/tiny.py:Tiny"


@contextlib.contextmanager
def files_of_at_most(size):
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, usual[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)


def train(out, *extra):
    return main(["train", TINY, "--steps=20", "--wandb=disabled", "--quiet", f"--out={out}", *extra])


@pytest.mark.parametrize(
    ("size", "file", "kept"),
    [
        (100, "config.yaml", ""),
        (4_000, "checkpoints/final-equal-0", "what was finished is saved, and the same command with --resume"),
        (48_000, "figures/", "all runs are finished and saved, and `mtl report"),
    ],
)
def test_the_file_is_named_with_what_is_kept_and_how_to_go_on(size, file, kept, tmp_path, capsys):
    out = tmp_path / "run"
    with files_of_at_most(size):
        assert train(out) == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1, said
    assert said.startswith(f"mtl: failed: File too large ({out}/{file}") and kept in said
    assert not list(out.rglob("*.partial"))
    assert train(out, "--resume") == 0
    assert len((out / "results.jsonl").read_text().splitlines()) == 1


def test_a_report_is_written_where_there_is_room_again(tmp_path, capsys):
    assert train(tmp_path / "run") == 0
    page = (tmp_path / "run" / "report.html").read_bytes()
    with files_of_at_most(10_000):
        assert main(["report", str(tmp_path / "run")]) == 1
    assert f"({tmp_path / 'run'}" in capsys.readouterr().err
    assert (tmp_path / "run" / "report.html").read_bytes() == page


def test_the_records_of_a_study_name_their_file(tmp_path):
    with open_run_directory(tmp_path / "run", resume=False) as directory:
        record = {"run": "final-equal-0", "status": "done", "metrics": {}}
        directory.append(record, {})
        before = directory.results_path.read_bytes()
        with files_of_at_most(len(before) + 10), pytest.raises(OSError, match="too large") as full:
            directory.append({**record, "run": "final-equal-1"}, {})
        assert full.value.filename == str(directory.results_path)
        assert directory.results_path.read_bytes().startswith(before)
        directory.append({**record, "run": "final-equal-2"}, {})
        lines = directory.results_path.read_text().splitlines()
        assert [json.loads(line)["run"] for line in lines] == ["final-equal-0", "final-equal-2"]


def test_schedules_and_small_files_name_themselves(tmp_path):
    event = Event("search", 0, 0, None, 0, None, {"lr": 0.1}, {})
    for name, write in (
        ("schedule.jsonl", lambda path: write_events(path, [event], 0)),
        ("summary.json", lambda path: write_whole(path, "0123456789")),
    ):
        with files_of_at_most(5), pytest.raises(OSError, match="too large") as full:
            write(tmp_path / name)
        assert full.value.filename == str(tmp_path / name)
