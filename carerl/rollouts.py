"""Read a run's responses in the terminal, one a page: the prompt, the response, its reward, its divergence.

    carerl rollouts RUN [step=N] [outcome=wrong] [question=ID]

RUN is a run directory with rollout tables (tracking.rollouts_every).

step=        the step; the last one by default
outcome=     correct, wrong, abstained, unparsed, truncated or invalid
question=    an example's id, or the part behind the id's last slash

A response's tokens are coloured by their reverse KL to the reference, if the table has it.

Keys: n or the right arrow: next; p or the left arrow: previous; q: quit. Without a terminal every response is printed.

Exit codes: 0 shown; 2 an argument is refused, or there is nothing to show.
"""

from __future__ import annotations

import os
import shutil
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from rich.console import Console

from carerl import cli
from carerl.config.reading.paths import local
from carerl.report.rollout_pages import RolloutsError, Row, open_run, page, read_step, select
from carerl.text.printable import printable
from carerl.text.terminal import command

KEYS = {b"n": 1, b" ": 1, b"\r": 1, b"\n": 1, b"\x1b[C": 1, b"p": -1, b"\x1b[D": -1}
QUIT = (b"q", b"\x04", b"\x1b", b"")  # q, Ctrl-D, Escape, end of input


@dataclass(frozen=True)
class Options:
    """The options of ``carerl rollouts``. ``step``: None for the last one; ``""``: every outcome, every question."""

    step: int | None = cli.option(None, cli.whole(0))
    outcome: str = cli.option("")
    question: str = cli.option("")


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    return cli.answer(words, _rollouts, __doc__ or "", bare=True)


def _rollouts(words: list[str]) -> int:
    options, (path,) = cli.read(words, Options, "rollouts RUN")
    try:
        _, rows = read_step(open_run(local("RUN", path)), options.step)
        chosen = select(rows, options.outcome, options.question)
    except RolloutsError as error:
        print(f"rollouts: {printable(error)}", file=sys.stderr)
        return 2
    if not chosen:
        print("rollouts: the table is empty", file=sys.stderr)
        return 2
    if sys.stdout.isatty() and sys.stdin.isatty():
        with keys() as key, suppress(KeyboardInterrupt):
            browse(chosen, Console(highlight=False), key)
    else:
        console = Console(width=shutil.get_terminal_size((120, 24)).columns, highlight=False)
        for number, row in enumerate(chosen, 1):
            console.print(page(row, number, len(chosen)), soft_wrap=True)
            console.print()
    return 0


def browse(rows: Sequence[Row], console: Console, key: Callable[[], bytes]) -> None:
    """Shows a page, waits for a key, and goes on until the key is one of :data:`QUIT`."""
    at = 0
    while True:
        console.clear()
        console.print(page(rows[at], at + 1, len(rows)))
        console.print("n next   p previous   q quit", style="bright_black")
        pressed = key()
        while pressed not in KEYS and pressed not in QUIT:
            pressed = key()
        if pressed in QUIT:
            return
        at = min(max(at + KEYS[pressed], 0), len(rows) - 1)


@contextmanager
def keys() -> Iterator[Callable[[], bytes]]:
    """Yields a function that waits for a key press and returns its bytes; an arrow is three of them.

    Meanwhile the terminal passes on every key as it is pressed, so that a key typed while a page is drawn is not lost.
    """
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor, termios.TCSADRAIN)
        yield lambda: os.read(descriptor, 8)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


if __name__ == "__main__":
    sys.exit(command(main))
