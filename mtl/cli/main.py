"""Entry of the command `mtl`: parses, dispatches, and turns what happened into an exit code."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Sequence

from mtl.cli.errors import BadInput, Failed, Interrupted
from mtl.cli.output import READABLE
from mtl.cli.torchrun import leads
from mtl.extras import missing

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
    try:
        from mtl.cli.config_file import read_arguments  # needs the extra `study`, as the commands do
        from mtl.cli.contradictions import check_options

        options = read_arguments(arguments)
        # Commands load torch, scikit-learn and more; `mtl --help`, a mistyped option and options that contradict each
        # other need none of them.
        check_options(options)
        module = importlib.import_module(f"mtl.cli.{_MODULES.get(options.command, 'commands')}")
        code: int = getattr(module, options.command.replace("-", "_"))(options)
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
        print("mtl: interrupted before any work was done", file=sys.stderr)
        return FAILED
    return code


if __name__ == "__main__":
    sys.exit(main())
