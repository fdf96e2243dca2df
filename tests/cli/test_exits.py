"""With which exit code a study ends, and what it says and leaves, when something goes wrong."""

import json
from pathlib import Path

import pytest

from mtl.cli.main import main
from tests.tiny import Tiny

TINY = "tests/tiny.py:Tiny"
HERE = "tests/cli/test_exits.py"


class FailsInTheMiddle(Tiny):
    """Its model raises a ValueError of its own once it has been called a few hundred times."""

    name = "fails-in-the-middle"

    def model(self, tasks, inputs):
        made, calls = super().model(tasks, inputs), [0]

        def count(_module, _inputs):
            calls[0] += 1
            if calls[0] > 30:
                raise ValueError("a number of the user's own")

        made.register_forward_pre_hook(count)
        return made


def call(command, benchmark, out, *arguments):
    return main([command, benchmark, "--wandb=disabled", "--out", str(out), *arguments])


def records(out):
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    ("command", "extra"),
    [("train", ["--nan-limit=1"]), ("compare", ["--strategies", "equal", "--seeds=1", "--nan-limit=1"])],
)
def test_a_study_none_of_whose_runs_was_trained_to_its_end_has_failed(command, extra, tmp_path, capsys):
    assert call(command, TINY, tmp_path / "run", "--lr=1e30", "--optimizer=sgd", "--steps=40", *extra) == 1
    assert {r["status"] for r in records(tmp_path / "run") if r["phase"] == "final"} == {"diverged"}
    assert "no run was trained to its end (diverged)" in capsys.readouterr().err
    assert (tmp_path / "run" / "report.html").exists()


def test_a_search_of_which_no_run_survives_has_failed(tmp_path, capsys):
    options = ["--method=random", "--members=2", "--search", "lr=1e29:1e30", "optimizer=sgd", "weight_decay=0,0.1"]
    assert call("search", TINY, tmp_path / "run", "--steps=20", "--nan-limit=1", *options) == 1
    assert "no run was trained to its end" in capsys.readouterr().err


def test_a_run_that_fails_is_named_with_its_traceback_and_the_study_with_it(tmp_path, capsys):
    out = tmp_path / "run"
    assert call("train", f"{HERE}:FailsInTheMiddle", out, "--steps=80") == 1
    error = capsys.readouterr().err
    (record,) = records(out)
    assert record["status"] == "failed" and record["error"] == "ValueError: a number of the user's own"
    assert f"final-equal-0 failed: {record['error']} (traceback: {out / record['traceback']})" in error
    assert "in count" in (out / record["traceback"]).read_text() and "Traceback" not in error


def test_an_error_in_the_midst_of_a_search_is_a_failure_and_no_bad_input(tmp_path, monkeypatch, capsys):
    from mtl.search.search import Search

    def broken(*_arguments):
        raise ValueError("hours later")

    monkeypatch.setattr(Search, "_segment", broken)
    out = tmp_path / "run"
    assert call("search", TINY, out, "--members=4", "--steps=8") == 1
    error = capsys.readouterr().err
    assert f"mtl: failed: ValueError: hours later (traceback: {out / 'failures' / 'search.txt'})" in error
    assert "in broken" in (out / "failures" / "search.txt").read_text() and (out / "config.yaml").exists()
    compared = tmp_path / "compared"
    arguments = ["--tune=random", "--budget=2", "--strategies", "equal", "--seeds=1", "--no-single-task", "--steps=8"]
    assert call("compare", TINY, compared, *arguments) == 1
    assert "in broken" in (compared / "failures" / "compare.txt").read_text()


@pytest.mark.parametrize("command", ["train", "search"])
def test_ctrl_c_while_the_report_is_written_says_that_all_runs_are_saved(command, tmp_path, monkeypatch, capsys):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("mtl.report.write_report", interrupted)
    out = tmp_path / "run"
    extra = ["--members=4", "--quiet"] if command == "search" else ["--quiet"]
    assert call(command, TINY, out, "--steps=8", *extra) == 75
    error = capsys.readouterr().err
    assert f"all runs are finished and saved, and `mtl report {out}` writes their report" in error
    monkeypatch.undo()
    assert main(["report", str(out)]) == 0 and (Path(out) / "report.html").exists()


def test_a_second_ctrl_c_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    from mtl.study.watchers import Watchers

    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(Watchers, "end", interrupted)
    assert call("train", TINY, tmp_path / "run", "--steps=8") == 75
    assert "what was finished is saved, and the same command with --resume" in capsys.readouterr().err
