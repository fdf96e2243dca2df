"""A comparison that is killed while it trains several seeds together goes on where it was."""

import time

import pytest

from mtl.cli.main import main
from tests.processes import finish, start, wait
from tests.written import records_of


@pytest.mark.slow
def test_kill_9_then_resume_equals_an_uninterrupted_comparison(tmp_path):
    def compare(out):
        options = ["--seeds=3", "--epochs=60", "--wandb=disabled", "--no-single-task", f"--out={out}"]
        return ["compare", "tests/tiny.py:TinyWithDropout", "--strategies", "equal", "famo", "mgda", *options]

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(compare(whole)) == 0
    process = start(*compare(killed))
    results = killed / "results.jsonl"
    wait(process, lambda: results.exists() and len(results.read_text().splitlines()) >= 3)
    time.sleep(0.2)  # somewhere inside the next population
    process.kill()
    process.communicate()
    before = results.read_bytes()
    assert 3 <= len(before.splitlines()) < 9
    finish(start(*compare(killed), "--resume"))
    assert results.read_bytes().startswith(before) and len(records_of(killed)) == 9
    assert (killed / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()
