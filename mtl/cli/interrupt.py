"""What a signal does: it stops a study at the next step, to be checkpointed first, or ends a command."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Callable, Iterator
from types import FrameType
from typing import NoReturn

from mtl.cli.errors import Interrupted
from mtl.cli.torchrun import leads, number_of_processes

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP)


class Ended(KeyboardInterrupt):
    """A signal ends the command.

    After a plain `KeyboardInterrupt` in an import, a caught one too, Python ends a process as if by the signal.
    """


class Ending:
    """Ends a command by a signal, where none of its runs is there to be stopped by it.

    Libraries may make another exception of what a signal raises in their midst: numpy, of an import that was cut short,
    one that looks like a broken installation. So the process is left at once as long as there is nothing to be left in
    order, and later it is asked whether a signal has come.

    Args:
        told: gives what is said of a signal, and the exit code.
    """

    def __init__(self, told: Callable[[int], tuple[str, int]]) -> None:
        self.told = told
        self.number: int | None = None  # of the signal that has come
        self._process, self._reading, self._loading = os.getpid(), True, False

    def load(self) -> None:
        """The command is known, and `told` can say what is there; what it needs is imported next."""
        self._reading, self._loading = False, True
        if self.number is not None:
            self._leave(self.number)

    def begin(self) -> None:
        """The command is at work."""
        self._loading = False

    def hear(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal."""
        if os.getpid() != self._process:  # a process that was forked off, and has no handler of its own yet
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        if self.number is not None and number != signal.SIGINT:
            return  # a scheduler sends its own twice
        if self._loading or self.number is not None:
            self._leave(number)
        self.number = number
        if not self._reading:
            raise Ended

    def _leave(self, number: int) -> NoReturn:
        text, code = self.told(number)
        if leads():
            os.write(2, f"mtl: {text}\n".encode(errors="replace"))
        os._exit(code)


_heard: list[Ending] = []  # of the command that this process carries out


@contextlib.contextmanager
def end_on_signals(ending: Ending) -> Iterator[None]:
    """Until a study hears them itself, signals end the command with `KeyboardInterrupt`.

    Of several processes of `torchrun` each leaves all but Ctrl-C to `torchrun`, which waits for them.
    """
    before = {number: signal.getsignal(number) for number in _SIGNALS[: 1 if number_of_processes() > 1 else None]}
    before = {number: handler for number, handler in before.items() if handler is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, ending.hear)
    _heard.append(ending)
    try:
        with as_interrupt():
            yield
    finally:
        _heard.remove(ending)
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def as_interrupt() -> Iterator[None]:
    """Whatever a library has made of a signal in its midst is `KeyboardInterrupt` again."""
    try:
        yield
    except Exception as error:
        if isinstance(error, Interrupted) or not any(ending.number for ending in _heard):
            raise
        raise Ended from error


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
