"""Read a run's responses in the terminal, one a page: what was asked, said, rewarded, and how far from the reference.

    python -m carerl.rollouts RUN [step=N] [outcome=wrong] [question=ID]

RUN is a run directory with rollout tables (tracking.rollouts_every). step: the last one by default. outcome: one of
correct, wrong, abstained, unparsed, truncated, invalid. question: an example's id, or what stands behind its last
slash. A response's tokens are coloured by their reverse KL to the reference, where the table has it.

Keys: n or the right arrow: next; p or the left arrow: previous; q: quit. Where the output is no terminal every
response is printed.
"""

from __future__ import annotations

import os
import shutil
import sys
import termios
import tty
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from rich.console import Console

from carerl.config.reading.paths import local
from carerl.errors import ConfigError
from carerl.report.rollout_pages import RolloutsError, Row, open_run, page, read_step, select
from carerl.text.printable import printable
from carerl.text.terminal import command

OPTIONS = ("step", "outcome", "question")
KEYS = {b"n": 1, b" ": 1, b"\r": 1, b"\n": 1, b"\x1b[C": 1, b"p": -1, b"\x1b[D": -1}
QUIT = (b"q", b"\x04", b"\x1b", b"")  # q, Ctrl-D, Escape, end of input


def main(arguments: Sequence[str] | None = None) -> int:
    """0: shown; 2: nothing to show, or an argument that makes no sense."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(__doc__.strip() if __doc__ else "")
        return 0
    try:
        path, options = _parse(arguments)
        path = local("RUN", path)
        step = options.get("step")
        _, rows = read_step(open_run(path), None if step is None else int(step))
        rows_shown = select(rows, options.get("outcome", ""), options.get("question", ""))
    except (RolloutsError, ConfigError) as error:
        print(f"rollouts: {printable(error)}", file=sys.stderr)
        return 2
    if not rows_shown:
        print("rollouts: the table is empty", file=sys.stderr)
        return 2
    if sys.stdout.isatty() and sys.stdin.isatty():
        with keys() as key, suppress(KeyboardInterrupt):
            browse(rows_shown, Console(highlight=False), key)
    else:
        console = Console(width=shutil.get_terminal_size((120, 24)).columns, highlight=False)
        for number, row in enumerate(rows_shown, 1):
            console.print(page(row, number, len(rows_shown)), soft_wrap=True)
            console.print()
    return 0


def browse(rows: Sequence[Row], console: Console, key: Callable[[], bytes]) -> None:
    """Shows a page, waits for a key, and so on until it is one of :data:`QUIT`."""
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
    """What waits for a key press, an arrow being three bytes together. For the whole time the terminal passes keys on
    as they are pressed; what was typed while a page was drawn is not lost."""
    descriptor = sys.stdin.fileno()
    before = termios.tcgetattr(descriptor)
    try:
        tty.setcbreak(descriptor, termios.TCSADRAIN)
        yield lambda: os.read(descriptor, 8)
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def _parse(arguments: Sequence[str]) -> tuple[str, dict[str, str]]:
    paths: list[str] = []
    options: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name in OPTIONS:
            options[name] = value
        elif argument.startswith("-") or (equals and not os.path.exists(argument)):
            raise RolloutsError(
                f"{argument}: unknown option; there are {', '.join(f'{o}=' for o in OPTIONS)} and --help"
            )
        else:
            paths.append(argument)
    if len(paths) != 1:
        raise RolloutsError("name one run directory; --help says more")
    if "step" in options and not options["step"].isdecimal():
        raise RolloutsError(f"step={options['step']}: give a step's number")
    return paths[0], options


if __name__ == "__main__":
    sys.exit(command(main))
