"""Entry of the command `mtl`: parses, dispatches, and turns what happened into an exit code."""

from __future__ import annotations

import importlib
import io
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from mtl.cli.errors import BadInput, Failed, Interrupted
from mtl.cli.interrupt import Ending, end_on_signals
from mtl.cli.output import READABLE
from mtl.cli.torchrun import leads
from mtl.extras import missing

if TYPE_CHECKING:
    from mtl.cli.options import Command

DONE, FAILED, BAD_INPUT, RESUMABLE = 0, 1, 2, 75
_MODULES = {
    "auto": "deciding",
    "check-loss": "losses",
    "data": "preparing",
    "list": "showing",
    "predict": "predicting",
    "report": "showing",
    "schema": "schema",
    "search": "searching",
    "replay": "replaying",
    "submit": "submitting",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command. Exit codes: 0 done, 1 failed, 2 bad input, 75 stopped early and resumable."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=READABLE)
    asked: list[Command] = []
    ending = Ending(lambda number: _of_signal(number, asked))
    try:
        with end_on_signals(ending):
            code = _carried_out(arguments, asked, ending)
    except BadInput as error:
        if leads():  # of several processes of a run all find the same
            print(f"mtl: {' '.join(str(error).split())}", file=sys.stderr)
        return BAD_INPUT
    except ModuleNotFoundError as error:
        if (lacks := missing(error)) is None:
            raise
        print(f"mtl: {lacks}", file=sys.stderr)
        return BAD_INPUT
    except OSError as error:
        print(f"mtl: failed: {error.strerror or error} ({error.filename or 'output'})", file=sys.stderr)
        return FAILED
    except Failed as error:
        print(f"mtl: failed: {error}", file=sys.stderr)
        return FAILED
    except Interrupted as error:
        print(f"mtl: {error}", file=sys.stderr)
        return RESUMABLE
    except KeyboardInterrupt:
        text, code = _of_signal(ending.number or signal.SIGINT, asked)
        if leads():
            print(f"mtl: {text}", file=sys.stderr)
    return code


def _carried_out(arguments: Sequence[str] | None, asked: list[Command], ending: Ending) -> int:
    """Read what is asked for, which `asked` gets, and carry it out."""
    import mtl.cli.place  # noqa: F401, what is said of a signal in the midst of other imports needs it
    from mtl.cli.config_file import read_arguments  # needs the extra `study`, as the commands do
    from mtl.cli.contradictions import check_options

    options = read_arguments(arguments)
    asked.append(options)
    ending.load()
    # Commands load torch, scikit-learn and more; `mtl --help`, a mistyped option and options that contradict each
    # other need none of them.
    check_options(options)
    module = importlib.import_module(f"mtl.cli.{_MODULES.get(options.command, 'commands')}")
    ending.begin()
    code: int = getattr(module, options.command.replace("-", "_"))(options)
    return code


def _of_signal(number: int, asked: Sequence[Command]) -> tuple[str, int]:
    """What is said of a signal that ends a command outside of its runs, and the exit code."""
    how = "interrupted" if number == signal.SIGINT else f"ended by {signal.Signals(number).name}"
    code = FAILED if number == signal.SIGINT else 128 + number
    if not asked:
        return f"{how} before the command was read", code
    from mtl.cli.options import RunOptions
    from mtl.cli.place import what_is_kept

    (options,) = asked
    if not isinstance(options, RunOptions):
        return how, code
    try:
        kept = what_is_kept(options)
    except OSError as error:
        kept = f"{error.strerror} ({error.filename})"
    if kept is not None:
        return f"{how} before anything new was done; {kept}", RESUMABLE
    return f"{how} before any work was done", code


if __name__ == "__main__":
    sys.exit(main())
