"""`torchrun` for batch scripts: `python -m mtl.cli.launch --standalone --nproc-per-node N -m mtl train ...`.

It ends with the exit code of the command, where `torchrun` itself has 1 for all that is not 0, and hands on the signal
that a scheduler sends before the time limit.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main as torchrun


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code of the process that ended first with another one than 0; 75 after a signal."""
    signal.signal(signal.SIGUSR1, lambda _number, _frame: os.kill(os.getpid(), signal.SIGTERM))
    try:
        torchrun(arguments)
    except SignalException:
        return 75  # the processes have saved what there was, as at any signal
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 128 - failure.exitcode
    return 0


if __name__ == "__main__":
    sys.exit(main())
