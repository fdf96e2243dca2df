"""The command `mtl` as users start it: real processes, real signals."""

import json
import os
import signal
import time

import pytest

from mtl.cli.main import main
from mtl.study.rundir import open_run_directory
from tests.processes import start

TINY = "tests/tiny.py:Tiny"
DROPOUT = "tests/tiny.py:TinyWithDropout"


def finish(*arguments, code=0):
    process = start(*arguments)
    out, err = process.communicate(timeout=300)
    assert process.returncode == code, err
    return out, err


def compare(out, *extra):
    strategies = ["equal", "uncertainty", "famo", "mgda"]
    options = ["--seeds=2", "--epochs=40", "--wandb=disabled", f"--out={out}"]
    return ["compare", DROPOUT, "--strategies", *strategies, *options, *extra]


def wait_for_lines(path, lines, process):
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and len(path.read_text().splitlines()) >= lines:
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} did not reach {lines} lines; exit {process.poll()}: {process.stderr.read()}")


@pytest.mark.slow
def test_kill_9_in_the_middle_then_resume_equals_an_uninterrupted_comparison(tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert main(compare(whole)) == 0
    process = start(*compare(killed))
    wait_for_lines(killed / "results.jsonl", 6, process)
    time.sleep(0.3)  # somewhere inside the next run
    process.kill()
    process.communicate()
    before = (killed / "results.jsonl").read_bytes()
    assert 6 <= len(before.splitlines()) < 12
    with (killed / "results.jsonl").open("ab") as file:
        file.write(b'{"run": "final-mg')  # what a full disk or a crash may leave
    out, _ = finish(*compare(killed, "--resume"))
    after = (killed / "results.jsonl").read_bytes()
    assert after.startswith(before)  # nothing finished was repeated
    runs = [json.loads(line)["run"] for line in after.splitlines()]
    assert len(runs) == len(set(runs)) == 12
    assert f"{len(before.splitlines())} of 12 runs are finished already" in out
    assert (killed / "summary.json").read_bytes() == (whole / "summary.json").read_bytes()


FAMO = ["train", DROPOUT, "--strategy=famo", "--epochs=150", "--wandb=disabled"]


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """The record of a run that nothing happens to, as it is for all signals."""
    out = tmp_path_factory.mktemp("uninterrupted")
    assert main([*FAMO, f"--out={out}"]) == 0
    return json.loads((out / "results.jsonl").read_text())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_signal_stops_with_75_after_a_checkpoint_and_resume_gives_the_same(number, uninterrupted, tmp_path):
    stopped = tmp_path / "stopped"
    process = start(*FAMO, f"--out={stopped}")
    deadline = time.monotonic() + 60
    while not list((stopped / "checkpoints").glob("*.pt")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(number)
    if number != signal.SIGINT:
        process.send_signal(number)  # as a scheduler does, to the process and through the job's shell
    _, err = process.communicate(timeout=60)
    assert process.returncode == 75
    assert "--resume" in err and "Traceback" not in err
    assert main([*FAMO, f"--out={stopped}", "--resume"]) == 0
    resumed = json.loads((stopped / "results.jsonl").read_text())
    for key in ("metrics", "validation", "best_step", "skipped"):
        assert resumed[key] == uninterrupted[key], key


@pytest.mark.slow
def test_two_runs_into_one_directory_refuse(tmp_path, capsys):
    first = start(*compare(tmp_path / "run"))
    wait_for_lines(tmp_path / "run" / "results.jsonl", 1, first)
    assert main(compare(tmp_path / "run", "--resume")) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "is in use by another run" in err
    first.kill()
    first.communicate()


@pytest.mark.slow
def test_a_full_disk_fails_with_one_line_and_keeps_what_was_finished(tmp_path):
    """A limit on file size stands for the full disk: both make a write fail."""
    out = tmp_path / "run"
    assert main(["train", TINY, "--steps=4", "--wandb=disabled", f"--out={out}"]) == 0
    before = (out / "results.jsonl").read_bytes()
    import resource

    process = start(
        *compare(out / "second"),
        preexec_fn=lambda: (
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN),
            resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000)),
        ),
    )
    _, err = process.communicate(timeout=120)
    assert process.returncode == 1
    assert err.count("\n") == 1 and "mtl: failed" in err
    assert (out / "results.jsonl").read_bytes() == before


def test_mtl_works_without_a_network_and_without_wandb(tmp_path):
    """An import hook hides wandb; the study says so once and goes on."""
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, *rest: None if name == 'wandb' else find(name, *rest)\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"}
    arguments = ["train", TINY, "--steps=4", f"--out={tmp_path / 'run'}"]
    process = start(*arguments, env=environment)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 0
    assert err.count("pip install 'mtl-lab[wandb]'") == 1


def test_help_and_version_are_quick_to_reach():
    out, _ = finish("--help")
    assert "compare" in out and "report" in out
    assert finish("--version")[0].startswith("mtl 0.")


def test_a_study_is_forgotten_only_while_nothing_has_begun(tmp_path):
    with open_run_directory(tmp_path / "run", resume=False) as directory:
        directory.write_config(config := {"benchmark": "tiny", "tasks": {}, "seeds": [0]})
        directory.checkpoint("a").parent.mkdir()
        directory.forget()
        assert directory.config() == config
        directory.checkpoint("a").parent.rmdir()
        directory.forget()
        assert directory.config() is None
