"""The command ``carerl``: the table of its verbs, and the one reader of their command lines.

A command is a module of this package with ``main(words) -> int``, and one line in :data:`COMMANDS`. It says what it
takes in a dataclass of :func:`option` fields and is carried out by :func:`answer`. ``carerl grade`` and
``python -m carerl.grade`` are the same.

Nothing heavy is imported here, so that ``carerl --help`` answers at once.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import field, fields
from typing import Any, TypeVar

from carerl import __version__
from carerl.config.reading.scalars import truth, whole_number
from carerl.errors import ConfigError, suggestion
from carerl.text.printable import printable
from carerl.text.terminal import command

COMMANDS = {
    "run": "train a model by a recipe, evaluate it, and write a report",
    "evaluate": "evaluate a model: a run, a checkpoint, a directory or a hub id",
    "compare": "compare runs: tables over seeds, accuracy against calibration",
    "sweep": "run a grid of recipes, settings and seeds; resumable",
    "rehearse": "take recipes through every part of a run on this machine, made small",
    "job": "submit a run to a Ray cluster as a job, and follow it",
    "rollouts": "read a run's responses in the terminal, one a page",
    "grade": "grade responses that you have already",
    "fetch": "put a model into the cache, for a machine that will be offline",
    "dashboard": "make the W&B workspace that compares regularizers",
}
HELP = ("-h", "--help", "help")
VERSION = ("-V", "--version", "version")

Reader = Callable[[str, str], Any]  # (option, text) -> value; raises ConfigError
OptionsT = TypeVar("OptionsT")


def main() -> int:
    """Runs the command line of this process. Returns its exit code."""
    return command(lambda: dispatch(sys.argv[1:]))


def dispatch(words: Sequence[str]) -> int:
    """Runs the verb that comes first with the words behind it. Returns its exit code; 2 for an unknown verb."""
    verb, *rest = words or ("--help",)
    if verb in HELP and not (rest and rest[0] in COMMANDS):
        print(usage())
        return 0
    if verb in HELP:  # carerl help run
        verb, rest = rest[0], [*rest[1:], "--help"]
    if verb in VERSION:
        print(f"carerl {__version__}")
        return 0
    if verb not in COMMANDS:
        print(printable(_no_such_verb(verb, rest)), file=sys.stderr)
        return 2
    _find_plugins_here()
    code: int = importlib.import_module(f"carerl.{verb}").main(rest)
    return code


def usage() -> str:
    """Returns what ``carerl --help`` prints: the verbs with a line each."""
    width = max(map(len, COMMANDS))
    return "\n".join(
        [
            "carerl VERB …: reinforcement learning for language models that stay calibrated",
            "",
            *(f"  {verb:<{width}}  {line}" for verb, line in COMMANDS.items()),
            "",
            "carerl VERB --help says what a verb takes, carerl --version which version this is.",
        ]
    )


def _no_such_verb(verb: str, rest: Sequence[str]) -> ConfigError:
    if "=" in verb:
        return ConfigError(verb, None, "a verb comes first", f"write carerl run {' '.join([verb, *rest])}")
    reason = f"there is no such verb; there are {', '.join(COMMANDS)}"
    return ConfigError("carerl", verb, reason, suggestion(verb.lstrip("-"), COMMANDS, "carerl "))


def _find_plugins_here() -> None:
    """Puts the working directory at the end of the module path, where ``plugins=[my_module]`` is found.

    ``python -m`` has it at the front; a script has its own directory instead.
    """
    here = os.getcwd()
    if here not in map(os.path.abspath, sys.path):
        sys.path.append(here)


def answer(
    words: Sequence[str] | None,
    body: Callable[[list[str]], int],
    help_text: str | None = None,
    *,
    bare: bool = False,
    interrupted: str = "ended at once",
) -> int:
    """Carries out a command and returns its exit code: help, refusals and Ctrl-C alike for all of them.

    Args:
        words: the command line; None for this process's own.
        body: does the work. A ConfigError that it raises is printed, code 2; a RunError or RunDirectoryError is printed
            without a traceback, code 1 or its own.
        help_text: printed for ``--help``; None where the body answers that itself.
        bare: whether the command does something without any words; otherwise its help is printed.
        interrupted: what Ctrl-C prints, code 130.
    """
    given = list(sys.argv[1:] if words is None else words)
    if help_text is not None and ({"-h", "--help"} & set(given) or not (given or bare)):
        print(help_text.strip())
        return 0
    try:
        return body(given)
    except ConfigError as error:
        print(printable(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(interrupted, file=sys.stderr)
        return 130
    except Exception as error:
        if not _expected(error):
            raise
        print(printable(error), *map(printable, getattr(error, "__notes__", [])), sep="\n", file=sys.stderr)
        return getattr(error, "exit_code", 1)


def _expected(error: Exception) -> bool:
    """Returns True if an error's message says all that a person needs."""
    from carerl.runs.directory import RunDirectoryError
    from carerl.types import RunError  # loads torch, as whatever raised one has done

    return isinstance(error, RunError | RunDirectoryError)


# -- options -----------------------------------------------------------------------------------------------------------


def text(name: str, given: str) -> str:
    """Returns the text as it was typed."""
    return given


def flag(name: str, given: str) -> bool:
    """Returns a truth value. Raises ConfigError."""
    found = truth(given)
    if found is None:
        raise ConfigError(name, given, "it is true or false", f"write {name}=true or {name}=false")
    return found


def whole(least: int, most: int | None = None, unit: str = "", example: int = 1) -> Reader:
    """Returns a reader of whole numbers in base ten between two bounds."""
    bounds = f", {least} or more" if most is None else f" from {least} to {most}"

    def read(name: str, given: str) -> int:
        found = whole_number(given)
        if found is None or found < least or (most is not None and found > most):
            reason = f"not a whole number{unit and ' of '}{unit}{bounds}"
            raise ConfigError(name, given, reason, f"write {name}={example}")
        return found

    return read


def option(default: Any, read: Reader = text) -> Any:
    """Returns a field of an options dataclass: ``name=text`` is read by ``read``."""
    return field(default=default, metadata={"read": read})


def take(words: Sequence[str], options: type[OptionsT]) -> tuple[OptionsT, list[str]]:
    """Returns the options among the words (the last of a name counts), and the other words in order.

    Raises ConfigError for a value that its reader refuses.
    """
    readers = {f.name: f.metadata["read"] for f in fields(options) if "read" in f.metadata}  # type: ignore[arg-type]
    found: dict[str, Any] = {}
    rest = []
    for word in words:
        name, equals, given = word.partition("=")
        if equals and name in readers:
            found[name] = readers[name](name, given)
        else:
            rest.append(word)
    return options(**found), rest


def read(words: Sequence[str], options: type[OptionsT], form: str) -> tuple[OptionsT, list[str]]:
    """Returns the options among the words, and the arguments between them.

    ``form`` is the command with its arguments, ``grade IN.jsonl OUT.jsonl`` or ``compare RUN…`` (one or more). Raises
    ConfigError for a word that looks like an option and is none, and for too few or too many arguments.
    """
    found, rest = take(words, options)
    verb, *wanted = form.split()
    known = [f"{f.name}=" for f in fields(options)]  # type: ignore[arg-type]
    for word in filter(_like_an_option, rest):
        name, equals, given = word.partition("=")
        reason = f"carerl {verb} has no such option; it has {', '.join(known) or 'none'}"
        remedy = suggestion(name.lstrip("-"), known) + (f"; a file of this name is ./{word}" if wanted else "")
        raise ConfigError(name, given if equals else None, reason, remedy)
    if rest and not wanted:
        raise ConfigError(rest[0], None, "an option is written key=value, without spaces", f"it has {', '.join(known)}")
    several, least = form.endswith("…"), len(wanted)
    if len(rest) < least or (len(rest) > least and not several):
        reason = f"{len(rest)} given, {'at least ' if several else ''}{least} wanted"
        raise ConfigError(" ".join(wanted), " ".join(rest) or None, reason, f"write carerl {form}; --help says more")
    return found, rest


def _like_an_option(word: str) -> bool:
    """Returns True for ``-x`` and ``name=text``, unless there is a file of this name; ``-`` is a stream."""
    name, equals, _ = word.partition("=")
    return not os.path.exists(word) and ((word.startswith("-") and word != "-") or bool(equals and name.isidentifier()))
