r"""Grade responses that you have already.

    carerl grade IN.jsonl OUT.jsonl [task=math] [workers=N] [seconds=5]

    {"id": "q1", "gold": "\\frac12", "response": "... \\boxed{0.5}"}        a row of IN, an object a line
    {"id": "q1", "outcome": "correct", "extracted": "0.5"}                  its row of OUT, in the same order

- is standard input, or standard output. task= is math, gsm8k, choice, countdown or selfaware; seconds= is processor
time for one response. Fields of a row (others are ignored):

id           a text or a whole number; several responses to one question may share it
response     a text
gold         a text, a number, or a list of them, any of which is right. Of a whole solution ("... #### 2") the marked
             value counts; more than 500 characters are refused
accepted     optional: further right answers
truncated    optional: true if the length limit ended the response
choices      choice only: texts, {label: text}, [{"label", "text"}] and more, as in a file that is trained on (see
             carerl/tasks/rows/choices.py); gold is then a label, a text or a place
numbers      countdown only; gold is the target
answerable   selfaware only; gold may be null or absent if it is false

In choice the last option that a response states counts, in any plain form ("B", "the best choice is B", "I'd go with
B", "not A, it is B"). Two options held open side by side name none; a denied, asked or supposed option does not count,
nor does a box with a formula that is no option. In selfaware a response abstains if it says that the answer is not
known; "Paris, although nobody knows why" and "I'm not sure, but I think it is Paris" are answers.

outcome is correct, wrong, abstained, unparsed, truncated, or invalid. An invalid row also says why in reason: time
(grading took more than seconds= of processor time), stalled, memory, limit (numbers too large), crash, error, response
(null, missing, or no text), or row (malformed in another way: no gold answer, no JSON ...). A bad row or response does
not affect the others. A line without a readable id has its place in OUT too, with the id null and its number in line.

OUT is written whole at the end, or not at all. It may not be IN, under whatever name. Bad rows are named on standard
error.

Exit codes: 0 every row has its verdict, invalid ones included; 3 the same, but there are lines without an id;
2 an argument is refused, or IN has not one row that could be graded (nothing is written); 130 interrupted, 1 anything
else (nothing is written).
"""

from __future__ import annotations

import json
import os
import stat
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from carerl import cli
from carerl.config.check.places import check_file
from carerl.config.reading.paths import local
from carerl.config.reading.scalars import real_number
from carerl.errors import ConfigError, suggestion
from carerl.grading import GRADERS, Verdict
from carerl.grading.pool import GraderPool
from carerl.runs.files import write_text
from carerl.tasks.rows.file_kinds import file_fault
from carerl.tasks.rows.graded import STANDARD, RefusedError, ResponseRow, place, read_rows
from carerl.text.printable import printable
from carerl.text.terminal import command
from carerl.types import Outcome

SHOWN = 5  # bad rows that are named


def _task(name: str, given: str) -> str:
    if given not in GRADERS:
        raise ConfigError(name, given, "there is no such grader", suggestion(given, GRADERS))
    return given


def _seconds(name: str, given: str) -> float:
    found = real_number(given)
    if found is None or not 0 < found <= 3600:
        raise ConfigError(name, given, "not a number of seconds from 0 to 3600", "write seconds=5")
    return found


@dataclass(frozen=True)
class Options:
    """The options of ``carerl grade``. ``workers``: 0 for as many as there are cores, at most eight."""

    task: str = cli.option("math", _task)
    workers: int = cli.option(0, cli.whole(1, 256, example=2))
    seconds: float = cli.option(5.0, _seconds)


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    return cli.answer(words, _grade, __doc__ or "", interrupted="ended at once; nothing was written")


def _grade(words: list[str]) -> int:
    options, (source, out) = cli.read(words, Options, "grade IN.jsonl OUT.jsonl")
    read, written = _path("IN.jsonl", source), _path("OUT.jsonl", out)
    _check_files(read, written)
    try:
        rows = read_rows(read, options.task)
    except RefusedError as error:
        print(printable(error), file=sys.stderr)
        return 2
    bad = [row for row in rows if row.job is None]
    for row in bad[:SHOWN]:
        print(f"{place(read, row.line)}: {printable(row.reason)}: its outcome is invalid", file=sys.stderr)
    if len(bad) > SHOWN:
        print(f"... and {len(bad) - SHOWN} rows more of outcome invalid", file=sys.stderr)
    verdicts = _verdicts(rows, options)
    try:
        _write(written, rows, verdicts)
    except OSError as error:
        print(f"grade: {printable(error)}", file=sys.stderr)
        return 1
    print(_summary(verdicts, written), file=sys.stderr if written == STANDARD else sys.stdout)
    nameless = sum(row.identifier is None for row in rows)
    if nameless:
        print(f"grade: {nameless} lines without an id that can be read; their rows have the id null", file=sys.stderr)
    return 3 if nameless else 0


def _path(argument: str, word: str) -> Path:
    return STANDARD if word == "-" else Path(local(argument, word))


def _check_files(source: Path, out: Path) -> None:
    """Raises ConfigError for files that cannot be read or written."""
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


def _one_file(source: Path, out: Path) -> bool:
    """Returns True if both are one ordinary file, also by links, other spellings, or a shell's < and >."""
    try:
        read = os.fstat(sys.stdin.fileno()) if source == STANDARD else source.stat()
        written = os.fstat(sys.stdout.fileno()) if out == STANDARD else out.stat()
    except (OSError, ValueError):  # no file yet, or a closed stream
        return False
    return stat.S_ISREG(read.st_mode) and os.path.samestat(read, written)


def _verdicts(rows: Sequence[ResponseRow], options: Options) -> list[Verdict]:
    """Returns a verdict for each row. Raises RunError if no grader process can be kept running."""
    jobs = [row.job for row in rows if row.job is not None]
    columns = TextColumn("grading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    workers = options.workers or min(8, len(os.sched_getaffinity(0)))
    with (
        Progress(*columns, disable=not sys.stderr.isatty(), transient=True, console=Console(stderr=True)) as bar,
        GraderPool(workers, options.seconds) as pool,
    ):
        task = bar.add_task("grading", total=len(jobs))
        graded = iter(pool.grade(jobs, lambda done: bar.advance(task, done)))
    return [Verdict(Outcome.INVALID, None, row.reason) if row.job is None else next(graded) for row in rows]


def _write(path: Path, rows: Sequence[ResponseRow], verdicts: Sequence[Verdict]) -> None:
    """Writes the outcomes, all or nothing; what is no ordinary file (a pipe, a terminal) is written to as it is."""
    text = "".join(json.dumps(_result(row, verdict)) + "\n" for row, verdict in zip(rows, verdicts, strict=True))
    if path == STANDARD:
        sys.stdout.write(text)
        sys.stdout.flush()
    elif path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
    else:
        write_text(path.resolve(), text)  # of a link, the file that it leads to


def _result(row: ResponseRow, verdict: Verdict) -> dict[str, Any]:
    found = {"id": row.identifier, "outcome": verdict.outcome.value, "extracted": verdict.extracted}
    if verdict.outcome is Outcome.INVALID:
        found["reason"] = verdict.reason
    if row.identifier is None:
        found["line"] = row.line
    return found


def _summary(verdicts: Sequence[Verdict], out: Path) -> str:
    """Returns the line that counts the outcomes, with the reasons of invalid ones."""
    counts = Counter(verdict.outcome for verdict in verdicts)
    reasons = Counter(v.reason.partition(":")[0] for v in verdicts if v.outcome is Outcome.INVALID)
    why = f" ({', '.join(f'{reason} {count}' for reason, count in reasons.most_common())})" if reasons else ""
    return f"{len(verdicts)} graded: " + ", ".join(f"{o} {counts[o]}" for o in Outcome) + f"{why}; written: {out}"


if __name__ == "__main__":
    sys.exit(command(main))
