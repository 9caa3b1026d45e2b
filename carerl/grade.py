r"""``python -m carerl.grade IN.jsonl OUT.jsonl [task=math] [workers=N] [seconds=5]``: grades responses.

    {"id": "q1", "gold": "\\frac12", "response": "... \\boxed{0.5}"}        a row of IN, an object a line
    {"id": "q1", "outcome": "correct", "extracted": "0.5"}                  its row of OUT, in the same order

``task`` is math, gsm8k, choice, countdown or selfaware. ``gold`` is a text, a number, or a list of them of which any
one is right. Further fields, all optional but where the task needs them: ``truncated`` (the length limit ended the
response), ``accepted`` (further right answers), ``choices`` (choice: [{"label", "text"}] or [[label, text]]),
``numbers`` (countdown; the target is ``gold``), ``answerable`` (selfaware; ``gold`` may be null or absent where false).
Unknown fields are ignored.

outcome: correct, wrong, abstained, unparsed, truncated, or invalid (grading it took longer than ``seconds``, too much
memory, or numbers too large). Nothing in a response can stop the command; a row that is not of this form is refused,
with file, line and field, before anything is graded. OUT is written whole, at the end.

Exit codes: 0 graded; 2 an argument or a row is refused; 130 interrupted; 1 anything else.
"""

from __future__ import annotations

import json
import math
import os
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from carerl.backends.grader_pool import GraderPool, Job
from carerl.config.errors import ConfigError, suggestion
from carerl.tasks.grading import GRADERS, Gold, Verdict
from carerl.types import Outcome, RunError

OPTIONS = ("task", "workers", "seconds")


class RowError(ValueError):
    """A row that is refused: where, which field, and why."""


@dataclass(frozen=True, slots=True)
class Options:
    source: Path
    out: Path
    task: str = "math"
    workers: int = 1
    seconds: float = 5.0


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or {"-h", "--help"} & set(words):
        print(__doc__)
        return 0
    try:
        options = parse_options(words)
        ids, jobs = read_rows(options.source, options.task)
    except (ConfigError, RowError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        verdicts = _grade(jobs, options)
        write_rows(options.out, ids, verdicts)
    except KeyboardInterrupt:
        print("ended at once; nothing was written", file=sys.stderr)
        return 130
    except (RunError, OSError) as error:
        print(f"grade: {error}", file=sys.stderr)
        return 1
    counts = Counter(verdict.outcome for verdict in verdicts)
    print(f"{len(verdicts)} graded: " + ", ".join(f"{o} {counts[o]}" for o in Outcome) + f"; written: {options.out}")
    return 0


def _grade(jobs: Sequence[Job], options: Options) -> list[Verdict]:
    columns = TextColumn("grading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with (
        Progress(*columns, disable=not sys.stderr.isatty(), transient=True, console=_console()) as bar,
        GraderPool(options.workers, options.seconds) as pool,
    ):
        task = bar.add_task("grading", total=len(jobs))
        return pool.grade(jobs, lambda done: bar.advance(task, done))


def _console() -> Any:
    from rich.console import Console

    return Console(stderr=True)


def parse_options(words: Sequence[str]) -> Options:
    """Raises ConfigError naming the argument."""
    paths: list[Path] = []
    given: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name in OPTIONS:
            given[name] = value
        elif equals and name.isidentifier() and not Path(word).exists() and len(paths) == 2:
            raise ConfigError(name, value, "not an option of this command", suggestion(name, OPTIONS))
        else:
            paths.append(Path(word))
    if len(paths) != 2:
        reason = f"{len(paths)} files are given, not two"
        raise ConfigError("IN.jsonl OUT.jsonl", None, reason, "write python -m carerl.grade IN.jsonl OUT.jsonl")
    source, out = paths
    if not source.is_file():
        raise ConfigError("IN.jsonl", str(source), "there is no such file", "give a file of rows to grade")
    if out.is_dir() or not out.absolute().parent.is_dir():
        raise ConfigError("OUT.jsonl", str(out), "not a file in an existing directory", "give another path")
    task = given.get("task", "math")
    if task not in GRADERS:
        raise ConfigError("task", task, "there is no such grader", suggestion(task, GRADERS))
    workers = given.get("workers", str(min(8, len(os.sched_getaffinity(0)))))
    if not (workers.isdecimal() and 1 <= int(workers) <= 256):
        raise ConfigError("workers", workers, "not a whole number from 1 to 256", "write workers=2")
    try:
        seconds = float(given.get("seconds", "5"))
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= 3600:
        raise ConfigError("seconds", given["seconds"], "not a number of seconds from 0 to 3600", "write seconds=5")
    return Options(source, out, task, int(workers), seconds)


def read_rows(path: Path, task: str) -> tuple[list[Any], list[Job]]:
    """Ids and jobs of all rows. Raises RowError at the first row that is not of the form."""
    ids, jobs = [], []
    for where, row in _objects(path):
        identifier = row.get("id")
        if not isinstance(identifier, str | int) or isinstance(identifier, bool):
            raise _refused(where, "id", row, "a text or a whole number")
        if not isinstance(row.get("response"), str):
            raise _refused(where, "response", row, "a text")
        truncated = row.get("truncated") or False
        if not isinstance(truncated, bool):
            raise _refused(where, "truncated", row, "true or false")
        ids.append(identifier)
        jobs.append(Job(task, row["response"], _gold(row, where, task), truncated))
    return ids, jobs


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                where = f"{path}:{number}"
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                    if not text.strip():
                        continue
                    row = json.loads(text, strict=False)
                except RecursionError as error:
                    raise RowError(f"{where}: not JSON that can be read: nested too deep") from error
                except ValueError as error:
                    raise RowError(f"{where}: not JSON: {error}") from error
                if not isinstance(row, dict):
                    raise RowError(f"{where}: a row must be an object, not {type(row).__name__}")
                yield where, row
    except OSError as error:
        raise RowError(f"{path}: cannot be read: {error}") from error


def _refused(where: str, field: str, row: dict[str, Any], wanted: str) -> RowError:
    if field not in row:
        return RowError(f"{where}: field {field!r} is missing; it must be {wanted}")
    shown = ascii(row[field])
    return RowError(
        f"{where}: field {field!r} must be {wanted}, not {shown if len(shown) < 80 else shown[:77] + '...'}"
    )


def _gold(row: dict[str, Any], where: str, task: str) -> Gold:
    answerable = row.get("answerable", True)
    if not isinstance(answerable, bool):
        if answerable is not None:
            raise _refused(where, "answerable", row, "true or false")
        answerable = True
    given = row.get("gold")
    may_lack = task == "selfaware" and not answerable
    golds = [] if given is None and may_lack else _texts(row, "gold", where)
    if not golds and not may_lack:
        raise _refused(where, "gold", row, "a text, a number, or a list of them with at least one")
    further = _texts(row, "accepted", where) if row.get("accepted") is not None else []
    accepted = tuple(dict.fromkeys([*golds, *further]))
    choices: tuple[tuple[str, str], ...] = ()
    numbers: tuple[int, ...] = ()
    target = None
    if task == "choice":
        choices = _choices(row, where)
        if not any(a in (label, text) for a in accepted for label, text in choices):
            raise _refused(where, "gold", row, "the label or the text of one of the choices")
    if task == "countdown":
        given_numbers = row.get("numbers")
        if not isinstance(given_numbers, list) or not given_numbers or not all(type(n) is int for n in given_numbers):
            raise _refused(where, "numbers", row, "a list of whole numbers")
        numbers = tuple(given_numbers)
        try:
            target = int(golds[0])
        except ValueError as error:
            raise _refused(where, "gold", row, "a whole number, the target") from error
    return Gold(accepted, choices, numbers, target, answerable)


def _texts(row: dict[str, Any], field: str, where: str) -> list[str]:
    values = row[field] if isinstance(row.get(field), list) else [row.get(field)]
    texts = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise _refused(where, field, row, "a text, a number, or a list of them")
        if isinstance(value, float):
            if not math.isfinite(value):
                raise _refused(where, field, row, "a finite number")
            value = int(value) if value.is_integer() and abs(value) < 1e15 else format(Decimal(repr(value)), "f")
        text = str(value).strip()
        if not text:
            raise _refused(where, field, row, "not empty")
        texts.append(text)
    return texts


def _choices(row: dict[str, Any], where: str) -> tuple[tuple[str, str], ...]:
    found = []
    wanted = 'a list of {"label", "text"} or [label, text] with different labels'
    given = row.get("choices")
    for option in given if isinstance(given, list) else []:
        pair = [option.get("label"), option.get("text")] if isinstance(option, dict) else option
        if not (isinstance(pair, list) and len(pair) == 2 and all(isinstance(p, str) and p.strip() for p in pair)):
            raise _refused(where, "choices", row, wanted)
        found.append((pair[0].strip(), pair[1]))
    if not found or len({label for label, _ in found}) < len(found):
        raise _refused(where, "choices", row, wanted)
    return tuple(found)


def write_rows(path: Path, ids: Sequence[Any], verdicts: Sequence[Verdict]) -> None:
    """All or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            for identifier, verdict in zip(ids, verdicts, strict=True):
                row = {"id": identifier, "outcome": verdict.outcome.value, "extracted": verdict.extracted}
                file.write(json.dumps(row) + "\n")
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


if __name__ == "__main__":
    sys.exit(main())
