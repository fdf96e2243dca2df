"""What a signal in the first moments of a command says: what is there, and how to go on."""

import signal
from pathlib import Path

import pytest

from mtl.cli.main import main
from tests.processes import finish, start, wait

STOPPED = '''
import os, pathlib, signal, time
from tests.tiny import Tiny

class Stopped(Tiny):
    """Gets a signal at the moment that the file beside it names."""

    def load(self):
        self._signal("load")
        try:
            self._signal("load, in an import")
        except BaseException as error:
            raise ImportError("initialization failed") from error
        return super().load()

    def model(self, tasks, inputs):
        self._signal("model")
        return super().model(tasks, inputs)

    def _signal(self, moment):
        asked = pathlib.Path(__file__).with_name("moment.txt").read_text().split(":")
        if moment == asked[0]:
            os.kill(os.getpid(), signal.Signals[asked[1]])
            time.sleep(60)
'''
COMMANDS = {
    "train": ["--steps=6"],
    "compare": ["--steps=6", "--strategies", "equal", "famo", "--seeds=1"],
    "search": ["--steps=6", "--method=random", "--members=2", "--search", "lr=1e-3:1e-2"],
    "auto": ["--time=1s"],
}


@pytest.fixture
def stopped(tmp_path):
    """A benchmark, and a function that names the moment at which it gets a signal."""
    (tmp_path / "stopped.py").write_text(STOPPED)
    moment = tmp_path / "moment.txt"
    moment.write_text("never:")
    return f"{tmp_path}/stopped.py:Stopped", lambda name, number: moment.write_text(f"{name}:{number.name}")


def begun(command, benchmark, out):
    """The arguments by which a study is gone on with that has a finished run."""
    arguments = [command, benchmark, "--wandb=disabled", "--quiet", f"--out={out}", *COMMANDS[command]]
    if command == "auto":  # what a killed one leaves; it is never read
        out.mkdir()
        (out / "auto.json").touch()
        (out / "results.jsonl").write_text('{"run": "a", "strategy": "equal", "phase": "search", "status": "done"}\n')
    else:
        assert main(arguments) == 0
    return [*arguments, "--resume"]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    ("command", "moment"),
    [("train", "load"), ("compare", "model"), ("search", "load, in an import"), ("search", "model"), ("auto", "load")],
)
def test_a_signal_before_a_study_goes_on_says_what_is_there(command, moment, number, stopped, tmp_path):
    benchmark, at = stopped
    arguments = begun(command, benchmark, out := tmp_path / "run")
    at(moment, number)
    before = (out / "results.jsonl").read_text()
    said = finish(start(*arguments), code=75)
    how = "interrupted" if number == signal.SIGINT else "ended by SIGTERM"
    count = len(before.splitlines())
    runs = "1 finished run" if count == 1 else f"{count} finished runs"
    assert said.splitlines()[-1] == (
        f"mtl: {how} before anything new was done; {out} keeps what was saved before ({runs}), and the same command "
        f"with --resume --out {out} continues"
    )
    assert (out / "results.jsonl").read_text() == before and not (out / "failures").exists()


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_torch_is_imported_is_answered_at_once(number, stopped, tmp_path):
    arguments = begun("train", stopped[0], out := tmp_path / "run")
    process = start(*arguments)
    wait(process, lambda: "libtorch" in Path(f"/proc/{process.pid}/maps").read_text())
    process.send_signal(number)
    said = finish(process, code=75)
    assert said.count("\n") == 1 and f"(1 finished run), and the same command with --resume --out {out}" in said


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_a_signal_before_there_is_anything_leaves_nothing_behind(number, code, stopped, tmp_path):
    benchmark, at = stopped
    at("load", number)
    out = tmp_path / "run"
    arguments = ["train", benchmark, "--steps=6", "--wandb=disabled", "--quiet", f"--out={out}"]
    assert "before any work was done" in finish(start(*arguments), code=code)
    at("never", number)
    assert main(arguments) == 0, "no --resume is needed"


def test_ctrl_c_between_the_settings_and_the_first_run_takes_the_settings_back(tmp_path, monkeypatch, capsys):
    def interrupted(*_arguments, **_options):
        raise KeyboardInterrupt

    out = tmp_path / "run"
    arguments = ["train", "tests/tiny.py:Tiny", "--steps=4", "--wandb=disabled", "--quiet", f"--out={out}"]
    monkeypatch.setattr("mtl.cli.commands.Tracker", interrupted)
    assert main(arguments) == 1
    assert capsys.readouterr().err == "mtl: interrupted before any work was done\n"
    monkeypatch.undo()
    assert main(arguments) == 0


def test_signals_are_handled_as_before_once_a_command_is_over():
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    assert main(["list", "methods"]) == 0
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
