"""Stops a study at the next step on Ctrl-C or a scheduler's signal, so that it is checkpointed first."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Gives a function that tells whether to stop; a second Ctrl-C ends the process as it would have at first.

    Further signals of a scheduler do not: it sends them to every process of a job, and again through the job's shell.
    """
    received: list[int] = []
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    if before[signal.SIGHUP] is signal.SIG_IGN:  # of `nohup`: the run is to survive the terminal
        del before[signal.SIGHUP]

    def handle(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        signal.signal(signal.SIGINT, before[signal.SIGINT])

    for number in before:
        signal.signal(number, handle)
    try:
        yield lambda: bool(received)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
