"""Ctrl-C, SIGTERM, SIGHUP (the terminal is closed) and a node that is drained end a run at the next step, saved. A
second Ctrl-C ends it at once. A call that is stuck does not keep a run from ending: see
:mod:`carerl.actors.health.asking`.

A second SIGTERM does not: a deleted job is told both by Ray and by its pod, and who sends SIGTERM has a deadline and
SIGKILL of its own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType

from carerl.types import RunError

NOTHING_YET = "stopped before its first step: there is nothing to save"


class Interrupted(RunError):
    """A stop was asked for before there was anything to save."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class StopFlag:
    """Set by a signal, read by the loop between two steps.

    As a context manager it installs the handlers and puts the old ones back. Off the main thread, where
    Python allows no handlers, it is a plain flag.
    """

    def __init__(
        self,
        signals: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    ) -> None:
        self.signal: signal.Signals | None = None
        self._signals = signals
        self._old: dict[int, object] = {}
        self._terminals: list[int] = []  # of stdout and stderr

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """128 + the signal's number, as shells report it; 0 if none came."""
        return 128 + self.signal.value if self.signal else 0

    def code(self) -> int:
        """``exit_code``, for those who ask again and again."""
        return self.exit_code

    def request(self, reason: str) -> None:
        """A stop that no signal asks for, answered as SIGTERM is. From any thread."""
        if self.signal is None:
            self._stop(signal.SIGTERM, reason)

    def check(self) -> None:
        """To be called where a stop cannot be answered by saving. Raises Interrupted."""
        if self:
            raise Interrupted(NOTHING_YET, self.exit_code)

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """Puts the handlers in place once more, over those that Ray's start has put there."""
        for number in self._old:
            signal.signal(number, self._handle)
        yield

    def __enter__(self) -> StopFlag:
        self._terminals = [file for file in (1, 2) if os.isatty(file)]  # which one that was closed cannot be told from
        if threading.current_thread() is threading.main_thread():
            for number in self._signals:
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue  # nohup: it is to outlive its terminal
                self._old[number] = signal.signal(number, self._handle)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)  # type: ignore[arg-type]

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._leave_terminal()
        if self.signal is None:
            self._stop(signal.Signals(number), signal.Signals(number).name)
        elif number == signal.SIGINT:
            raise KeyboardInterrupt

    def _leave_terminal(self) -> None:
        """What is shown goes nowhere from now on: to write to a terminal that was closed is an error, and would end the
        run before it is saved."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for file in self._terminals:
            os.dup2(nowhere, file)
        os.close(nowhere)

    def _stop(self, number: signal.Signals, reason: str) -> None:
        self.signal = number
        # Written past Python's buffers: a handler that waits for a lock of the code it interrupted never returns.
        with contextlib.suppress(OSError):  # of a pipe or a terminal that nobody reads any more
            os.write(2, f"\n{reason}: finishing this step and saving; Ctrl-C ends at once\n".encode())


@contextlib.contextmanager
def starting(stop: StopFlag) -> Iterator[None]:
    """What Ray's own handler makes of SIGTERM while it starts, an exit without a word, as what the stop flag makes of
    it. Raises Interrupted."""
    try:
        yield
    except SystemExit as error:
        if error.code != signal.SIGTERM:
            raise
        if not stop:
            stop.request("SIGTERM")
        raise Interrupted(NOTHING_YET, stop.exit_code) from None
