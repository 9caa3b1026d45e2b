"""Which signals stop a run, and which end it at once. tests/e2e/test_commands.py sends them to real runs."""

from __future__ import annotations

import os
import pty
import signal
import sys
import threading
from pathlib import Path

import pytest

from carerl.controller.ending.stopping import Interrupted, StopFlag, starting


def test_a_second_sigterm_does_not_cut_the_save_short() -> None:
    """A deleted job gets one from Ray's job server and one from its pod's preStop hook."""
    with StopFlag() as stop:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        assert stop and stop.exit_code == 143


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_run_that_is_stopping(first: signal.Signals) -> None:
    with StopFlag() as stop:
        signal.raise_signal(first)
        assert stop.exit_code == 128 + first
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_what_ray_makes_of_sigterm_as_it_starts_is_a_stop() -> None:
    """Ray's handler exits with the signal's number and without a word, and stays until ours are put over it."""

    def rays(number: int, frame: object) -> None:
        sys.exit(number)

    with pytest.raises(Interrupted) as caught, StopFlag() as stop, starting(stop):
        signal.signal(signal.SIGTERM, rays)
        signal.raise_signal(signal.SIGTERM)
    assert caught.value.exit_code == 143 and "nothing to save" in str(caught.value)
    with StopFlag() as stop, starting(stop):
        signal.signal(signal.SIGTERM, rays)
        with stop.again():
            signal.raise_signal(signal.SIGTERM)
            assert stop.exit_code == 143
    with pytest.raises(SystemExit), StopFlag() as stop, starting(stop):
        sys.exit(3)


def test_a_request_from_another_thread_is_a_sigterm(capfd: pytest.CaptureFixture[str]) -> None:
    with StopFlag() as stop:
        thread = threading.Thread(target=stop.request, args=("node ab is being drained",))
        thread.start()
        thread.join()
        stop.request("node cd is being drained")
        assert stop.exit_code == 143
    assert capfd.readouterr().err.strip().splitlines() == [
        "node ab is being drained: finishing this step and saving; Ctrl-C ends at once"
    ]


def test_a_check_raises_once_a_stop_was_asked_for() -> None:
    with StopFlag() as stop:
        stop.check()
        signal.raise_signal(signal.SIGINT)
        with pytest.raises(Interrupted) as caught:
            stop.check()
    assert caught.value.exit_code == 130


def test_a_closed_terminal_ends_a_run_saved_but_not_under_nohup(capfd: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    try:
        with StopFlag() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert stop.exit_code == 128 + signal.SIGHUP
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # what nohup leaves to the process that it starts
        with StopFlag() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_run_whose_terminal_is_closed_goes_on_to_its_save(tmp_path: Path) -> None:
    script = (
        "import sys, time\nfrom pathlib import Path\nfrom carerl.controller.ending.stopping import StopFlag\n"
        "with StopFlag() as stop:\n"
        "    print('ready', flush=True)\n"
        "    while not stop:\n        time.sleep(0.01)\n"
        "    print('a step', flush=True)\n"
        f"    Path({str(tmp_path / 'saved')!r}).write_text(stop.signal.name)\n"
    )
    child, terminal = pty.fork()
    if child == 0:  # pragma: no cover
        os.execv(sys.executable, [sys.executable, "-c", script])
    try:
        shown = b""
        while b"ready" not in shown:
            shown += os.read(terminal, 1000)
    finally:
        os.close(terminal)
    _, ended = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(ended) == 0
    assert (tmp_path / "saved").read_text() == "SIGHUP"


def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopFlag():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
