r"""``python -m carerl.grade IN.jsonl OUT.jsonl [task=math] [workers=N] [seconds=5]``: grades responses.

    {"id": "q1", "gold": "\\frac12", "response": "... \\boxed{0.5}"}        a row of IN, an object a line
    {"id": "q1", "outcome": "correct", "extracted": "0.5"}                  its row of OUT, in the same order

``task`` is math, gsm8k, choice, countdown or selfaware. ``gold`` is a text, a number, or a list of them of which any
one is right; of a whole solution (``... #### 2``) what it marks, and one of more than 500 characters is refused.
Further fields, all optional but where the task needs them: ``truncated`` (the length limit ended the response),
``accepted`` (further right answers), ``choices`` (choice: as in a file that is trained on, see
``carerl/tasks/rows/choices.py``: texts, {label: text}, [{"label", "text"}] ...; ``gold`` is a label, a text or a
place), ``numbers`` (countdown; the target is ``gold``), ``answerable`` (selfaware; ``gold`` may be null or absent
where false). Unknown fields are ignored. An id may occur more than once, for several responses to a question. ``-`` is
standard input, or standard output.

In ``choice`` the last option that a response states counts, in any plain form ("B", "the best choice is B", "I'd go
with B", "not A, it is B"); two held open side by side name none, and so does one that is denied, asked or supposed. A
box with a formula that is no option does not answer. In ``selfaware`` a response abstains that says that the answer is
not known; "Paris, although nobody knows why" and "I'm not sure, but I think it is Paris" are answers.

outcome: correct, wrong, abstained, unparsed, truncated, or invalid. A row of outcome invalid also says why, in
``reason``: ``time`` (grading it took more than ``seconds`` of processor time), ``stalled``, ``memory``, ``limit``
(numbers too large), ``crash``, ``error``, ``response`` (null, missing, or no text), or ``row`` (not of this form in
another way: without a gold answer, no JSON ...). Neither such a row nor anything in a response keeps the others from
being graded. A line that no id can be read from has its place in OUT too, with the id null and its number in ``line``.

OUT is written whole, at the end, or not at all. It may not be IN, under whatever name. Bad rows are named on standard
error.

Exit codes: 0 every row has its verdict, invalid ones included; 3 so it has, but there are lines without an id;
2 an argument is refused, or not one row is of this form (nothing is written); 130 interrupted, 1 anything else (nothing
is written).
"""

from __future__ import annotations

import itertools
import json
import math
import os
import stat
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from carerl.config.check.places import check_file
from carerl.config.reading.paths import local
from carerl.errors import ConfigError, suggestion
from carerl.grading import GRADERS, Verdict
from carerl.grading.pool import GraderPool
from carerl.tasks.rows.file_kinds import HEAD, content_fault, file_fault, line_hint
from carerl.tasks.rows.graded import Row, read_row
from carerl.text.printable import printable
from carerl.text.terminal import command
from carerl.types import Outcome, RunError

OPTIONS = ("task", "workers", "seconds")
STANDARD = Path("-")  # input or output
SHOWN = 5  # bad rows that are named


class RefusedError(ValueError):
    """A file that cannot be read, or holds no row to grade."""


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
        rows = read_rows(options.source, options.task)
    except (ConfigError, RefusedError) as error:
        print(printable(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return _interrupted()
    bad = [row for row in rows if row.job is None]
    for row in bad[:SHOWN]:
        print(f"{_place(options.source, row.line)}: {printable(row.reason)}: its outcome is invalid", file=sys.stderr)
    if len(bad) > SHOWN:
        print(f"... and {len(bad) - SHOWN} rows more of outcome invalid", file=sys.stderr)
    try:
        verdicts = _grade(rows, options)
        write_rows(options.out, rows, verdicts)
    except KeyboardInterrupt:
        return _interrupted()
    except (RunError, OSError) as error:
        print(f"grade: {printable(error)}", file=sys.stderr)
        return 1
    print(_summary(verdicts, options.out), file=sys.stderr if options.out == STANDARD else sys.stdout)
    nameless = sum(row.identifier is None for row in rows)
    if nameless:
        print(f"grade: {nameless} lines without an id that can be read; their rows have the id null", file=sys.stderr)
    return 3 if nameless else 0


def _interrupted() -> int:
    print("ended at once; nothing was written", file=sys.stderr)
    return 130


def _summary(verdicts: Sequence[Verdict], out: Path) -> str:
    counts = Counter(verdict.outcome for verdict in verdicts)
    reasons = Counter(v.reason.partition(":")[0] for v in verdicts if v.outcome is Outcome.INVALID)
    why = f" ({', '.join(f'{reason} {count}' for reason, count in reasons.most_common())})" if reasons else ""
    return f"{len(verdicts)} graded: " + ", ".join(f"{o} {counts[o]}" for o in Outcome) + f"{why}; written: {out}"


def _grade(rows: Sequence[Row], options: Options) -> list[Verdict]:
    """A verdict for each row."""
    jobs = [row.job for row in rows if row.job is not None]
    columns = TextColumn("grading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with (
        Progress(*columns, disable=not sys.stderr.isatty(), transient=True, console=_console()) as bar,
        GraderPool(options.workers, options.seconds) as pool,
    ):
        task = bar.add_task("grading", total=len(jobs))
        graded = iter(pool.grade(jobs, lambda done: bar.advance(task, done)))
    return [Verdict(Outcome.INVALID, None, row.reason) if row.job is None else next(graded) for row in rows]


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
            paths.append(STANDARD if word == "-" else Path(local(("IN.jsonl", "OUT.jsonl")[len(paths) > 0], word)))
    if len(paths) != 2:
        reason = f"{len(paths)} files are given, not two"
        raise ConfigError("IN.jsonl OUT.jsonl", None, reason, "write python -m carerl.grade IN.jsonl OUT.jsonl")
    source, out = paths
    if source != STANDARD and (not source.exists() or source.is_dir()):
        reason, _, remedy = file_fault(source).partition("; ")
        raise ConfigError("IN.jsonl", str(source), reason, remedy)
    if out != STANDARD and (out.is_dir() or not out.absolute().parent.is_dir()):
        raise ConfigError("OUT.jsonl", str(out), "not a file in an existing directory", "give another path")
    if _one_file(source, out):
        reason = f"it is the file {source} itself: the responses would be overwritten by their outcomes"
        raise ConfigError("OUT.jsonl", str(out), reason, "give another path for the outcomes")
    if out != STANDARD and (out.is_file() or not out.exists()):
        check_file("OUT.jsonl", out)
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


def _one_file(source: Path, out: Path) -> bool:
    """Whether both are one ordinary file, by links, other spellings, or a shell's < and > as well."""
    try:
        read = os.fstat(sys.stdin.fileno()) if source == STANDARD else source.stat()
        written = os.fstat(sys.stdout.fileno()) if out == STANDARD else out.stat()
    except (OSError, ValueError):  # no file yet, or a stream that is none
        return False
    return stat.S_ISREG(read.st_mode) and os.path.samestat(read, written)


def read_rows(path: Path, task: str) -> list[Row]:
    """All lines that are not blank. Raises RefusedError if the file cannot be read, is compressed or of another format,
    or if it has lines and not one of them is of the form: then it is the wrong file, or the wrong task."""
    rows = []
    try:
        for number, line in enumerate(_lines(path), 1):
            if number == 1 and (fault := content_fault(line[:HEAD], path.name)):
                raise RefusedError(f"{path}: {fault}")
            if line.strip():
                rows.append(read_row(number, line, task))
    except OSError as error:
        raise RefusedError(f"{path}: cannot be read: {error}") from error
    if rows and all(row.reason.startswith("row:") for row in rows):
        first = f"{_place(path, rows[0].line)}: {rows[0].reason}{_hint(path, rows[0])}"
        raise RefusedError(first if len(rows) == 1 else f"{first}; nor can any other of its {len(rows)} rows be graded")
    return rows


def _hint(path: Path, row: Row) -> str:
    """What a file is whose first row is no JSON, where that can be told."""
    if "not JSON" not in row.reason or not path.is_file():
        return ""
    with path.open("rb") as lines:
        found = line_hint(next(itertools.islice(lines, row.line - 1, None)), path)
    return f"; {found}" if found else ""


def _lines(path: Path) -> Iterator[bytes]:
    if path == STANDARD:
        yield from sys.stdin.buffer
        return
    with path.open("rb") as lines:
        yield from lines


def _place(path: Path, line: int) -> str:
    return f"{'standard input' if path == STANDARD else path}:{line}"


def write_rows(path: Path, rows: Sequence[Row], verdicts: Sequence[Verdict]) -> None:
    """All or nothing; what is no ordinary file (a pipe, a terminal) is written to as it is."""
    lines = (json.dumps(_result(row, verdict)) + "\n" for row, verdict in zip(rows, verdicts, strict=True))
    if path == STANDARD:
        sys.stdout.writelines(lines)
        sys.stdout.flush()
        return
    if path.exists() and not path.is_file():
        with path.open("w", encoding="utf-8") as file:
            file.writelines(lines)
        return
    path = path.resolve()  # of a link, what it leads to
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8") as file:
            file.writelines(lines)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _result(row: Row, verdict: Verdict) -> dict[str, Any]:
    found = {"id": row.identifier, "outcome": verdict.outcome.value, "extracted": verdict.extracted}
    if verdict.outcome is Outcome.INVALID:
        found["reason"] = verdict.reason
    if row.identifier is None:
        found["line"] = row.line
    return found


if __name__ == "__main__":
    sys.exit(command(main))
