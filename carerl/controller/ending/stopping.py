"""Ends a run at the next step, saved, for Ctrl-C, SIGTERM, SIGHUP (the terminal is closed) or a node that is drained.

A second Ctrl-C ends it at once. A second SIGTERM does not: both Ray and the pod send one to a deleted job, and whoever
sends SIGTERM has a deadline and SIGKILL. A call that is stuck does not keep a run from ending: see
:mod:`carerl.actors.health.asking`.
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
    """Says that a stop was asked for before there was anything to save."""

    def __init__(self, message: str, exit_code: int):
        super().__init__(message)
        self.exit_code = exit_code


class StopFlag:
    """Is set by a signal, and read by the loop between two steps: true once a stop was asked for.

    As a context manager it installs the handlers, and puts the old ones back. Off the main thread, where Python allows
    no handlers, it is a plain flag.
    """

    def __init__(
        self,
        signals: tuple[signal.Signals, ...] = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP),
    ) -> None:
        self.signal: signal.Signals | None = None
        self._signals = signals
        self._old: dict[int, object] = {}
        self._terminals: list[int] = []  # those of stdout (1) and stderr (2) that are terminals

    def __bool__(self) -> bool:
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """The exit code, 128 + the signal's number as shells report it; 0 if no stop was asked for."""
        return 128 + self.signal.value if self.signal else 0

    def code(self) -> int:
        """Returns ``exit_code``, for those who want a function."""
        return self.exit_code

    def request(self, reason: str) -> None:
        """Asks for a stop without a signal. It is answered like SIGTERM. May be called from any thread."""
        if self.signal is None:
            self._stop(signal.SIGTERM, reason)

    def check(self) -> None:
        """Raises Interrupted if a stop was asked for. Is called where there is nothing to save."""
        if self:
            raise Interrupted(NOTHING_YET, self.exit_code)

    @contextlib.contextmanager
    def again(self) -> Iterator[None]:
        """Installs the handlers once more, over those that Ray installed as it started."""
        for number in self._old:
            signal.signal(number, self._handle)
        yield

    def __enter__(self) -> StopFlag:
        self._terminals = [file for file in (1, 2) if os.isatty(file)]  # asked now: a closed one is not recognised
        if threading.current_thread() is threading.main_thread():
            for number in self._signals:
                if number == signal.SIGHUP and signal.getsignal(number) == signal.SIG_IGN:
                    continue  # nohup: the run shall outlive its terminal
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
        """Sends all output nowhere from now on. Writing to a closed terminal is an error, and would end the run before
        it is saved."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        for file in self._terminals:
            os.dup2(nowhere, file)
        os.close(nowhere)

    def _stop(self, number: signal.Signals, reason: str) -> None:
        """Sets the flag, and says so."""
        self.signal = number
        # Bypasses Python's buffers: a handler that waits for a lock of the code it interrupted never returns.
        with contextlib.suppress(OSError):  # a pipe or terminal that nobody reads any more
            os.write(2, f"\n{reason}: finishing this step and saving; Ctrl-C ends at once\n".encode())


@contextlib.contextmanager
def starting(stop: StopFlag) -> Iterator[None]:
    """Turns the silent exit that Ray's own handler makes of SIGTERM, while Ray starts, into a stop. Raises
    Interrupted."""
    try:
        yield
    except SystemExit as error:
        if error.code != signal.SIGTERM:
            raise
        if not stop:
            stop.request("SIGTERM")
        raise Interrupted(NOTHING_YET, stop.exit_code) from None
