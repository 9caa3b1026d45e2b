"""Reads rows to grade: each has a response, its gold answer and what its grader needs (:mod:`carerl.grade`).

Options and gold answers are read as in a file that is trained on (:mod:`~carerl.tasks.rows.choices`,
:func:`carerl.grading.gold_answer`). A malformed row does not affect the others: it carries the reason instead of a job.
"""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

from carerl.calibration import without_statement
from carerl.grading import Gold, gold_answer
from carerl.grading.pool import Job
from carerl.tasks.rows.choices import find_choices, label_of, parse_choices
from carerl.tasks.rows.data import BLANK, parse_line
from carerl.tasks.rows.file_kinds import HEAD, content_fault, line_hint

STANDARD = Path("-")  # input or output


class RefusedError(ValueError):
    """A file that cannot be read, or that holds no row to grade."""


class RowError(ValueError):
    """Says what is wrong with a row: which field, and why."""


class ResponseError(RowError):
    """A row without a usable response; apart from that it could be graded."""


@dataclass(frozen=True, slots=True)
class ResponseRow:
    """A line of a file. ``identifier``: None if no id can be read. ``job``: None if ``reason`` is against it."""

    line: int
    identifier: str | int | None
    job: Job | None
    reason: str = ""


def read_rows(path: Path, task: str) -> list[ResponseRow]:
    """Returns all lines of a file that are not blank; :data:`STANDARD` is standard input.

    Raises RefusedError if the file cannot be read, is compressed or of another format, or has not one row that could be
    graded: then it is the wrong file, or the wrong task.
    """
    rows, name = [], place(path)
    try:
        for number, line in enumerate(_lines(path), 1):
            if number == 1 and (fault := content_fault(line[:HEAD], path.name)):
                raise RefusedError(f"{name}: {fault}")
            if line.strip(BLANK):
                rows.append(read_row(number, line, task))
    except OSError as error:
        raise RefusedError(f"{name}: cannot be read: {error}") from error
    if not rows:
        raise RefusedError(f"{name}: no rows: it is empty or holds only blank lines; give a file with an object a line")
    if all(row.reason.startswith("row:") for row in rows):
        first = f"{place(path, rows[0].line)}: {rows[0].reason}{_hint(path, rows[0])}"
        raise RefusedError(first if len(rows) == 1 else f"{first}; nor can any other of its {len(rows)} rows be graded")
    return rows


def place(path: Path, line: int | None = None) -> str:
    """Returns a file's name, or that of a line in it, for people."""
    name = "standard input" if path == STANDARD else str(path)
    return name if line is None else f"{name}:{line}"


def _lines(path: Path) -> Iterator[bytes]:
    if path == STANDARD:
        yield from sys.stdin.buffer
        return
    with path.open("rb") as lines:
        yield from lines


def _hint(path: Path, row: ResponseRow) -> str:
    """Returns what a file seems to be whose first row is no JSON; ``""`` if there is no telling."""
    if "not JSON" not in row.reason or not path.is_file():
        return ""
    with path.open("rb") as lines:
        found = line_hint(next(itertools.islice(lines, row.line - 1, None)), path)
    return f"; {found}" if found else ""


def read_row(number: int, line: bytes, task: str) -> ResponseRow:
    """Returns a line's job for the grader of ``task``, or the reason why there is none."""
    identifier = None
    try:
        value = parse_line(line)
        if not isinstance(value, dict):
            raise RowError(f"a row must be an object, not {type(value).__name__}")
        if not _is_id(value.get("id")):
            raise _refused("id", value, "a text or a whole number")
        identifier = value["id"]
        return ResponseRow(number, identifier, _job(value, task))
    except ValueError as error:
        part = "response" if isinstance(error, ResponseError) else "row"
        return ResponseRow(number, _salvaged_id(line) if identifier is None else identifier, None, f"{part}: {error}")


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _salvaged_id(line: bytes) -> str | int | None:
    """Returns the id of a row that is refused as a whole, as it is not UTF-8 or has a number too long to be read."""
    try:
        value = json.loads(line.decode("utf-8-sig", errors="replace"), strict=False, parse_int=_whole)
    except (ValueError, RecursionError):
        return None
    found = value.get("id") if isinstance(value, dict) else None
    return found if _is_id(found) and not (isinstance(found, str) and "\N{REPLACEMENT CHARACTER}" in found) else None


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) < 1000 else None


def _job(row: dict[str, Any], task: str) -> Job:
    truncated = row.get("truncated") or False
    if not isinstance(truncated, bool):
        raise _refused("truncated", row, "true or false")
    gold = _gold(row, task)
    if not isinstance(row.get("response"), str):
        raise ResponseError(_refused("response", row, "a text"))
    return Job(task, without_statement(row["response"]), gold, truncated)


def _refused(field: str, row: dict[str, Any], wanted: str) -> RowError:
    if field not in row:
        return RowError(f"field {field!r} is missing; it must be {wanted}")
    shown = json.dumps(row[field])
    return RowError(f"field {field!r} must be {wanted}, not {shown if len(shown) < 80 else shown[:77] + '...'}")


def _gold(row: dict[str, Any], task: str) -> Gold:
    answerable = row.get("answerable", True)
    if not isinstance(answerable, bool):
        if answerable is not None:
            raise _refused("answerable", row, "true or false")
        answerable = True
    given = row.get("gold")
    may_lack = task == "selfaware" and not answerable
    golds = [] if given is None and may_lack else _texts(row, "gold")
    if not golds and not may_lack:
        raise _refused("gold", row, "a text, a number, or a list of them with at least one")
    further = _texts(row, "accepted") if row.get("accepted") is not None else []
    accepted = tuple(dict.fromkeys([*_stated(golds, "gold", task), *_stated(further, "accepted", task)]))
    choices: tuple[tuple[str, str], ...] = ()
    numbers: tuple[int, ...] = ()
    target = None
    if task == "choice":
        choices = _choices(row)
        accepted = tuple(dict.fromkeys([*_labels(row, "gold", choices), *_labels(row, "accepted", choices)]))
    if task == "countdown":
        given_numbers = row.get("numbers")
        if not isinstance(given_numbers, list) or not given_numbers or not all(type(n) is int for n in given_numbers):
            raise _refused("numbers", row, "a list of whole numbers")
        numbers = tuple(given_numbers)
        try:
            target = int(golds[0])
        except ValueError as error:
            raise _refused("gold", row, "a whole number, the target") from error
    return Gold(accepted, choices, numbers, target, answerable)


def _stated(golds: list[str], field: str, task: str) -> list[str]:
    """Returns the values that gold answers state. Raises RowError."""
    try:
        return [gold_answer(text, task) for text in golds]
    except ValueError as error:
        raise RowError(f"field {field!r} {error}") from error


def _texts(row: dict[str, Any], field: str) -> list[str]:
    values = row[field] if isinstance(row.get(field), list) else [row.get(field)]
    texts = []
    for value in values:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise _refused(field, row, "a text, a number, or a list of them")
        if isinstance(value, float):
            if not math.isfinite(value):
                raise _refused(field, row, "a finite number")
            value = int(value) if value.is_integer() and abs(value) < 1e15 else format(Decimal(repr(value)), "f")
        text = str(value).strip()
        if not text:
            raise _refused(field, row, "not empty")
        texts.append(text)
    return texts


def _choices(row: dict[str, Any]) -> tuple[tuple[str, str], ...]:
    try:
        found = parse_choices(find_choices(row, ""), "")
    except ValueError as error:
        raise RowError(f"field {str(error).removeprefix(': ')}") from error
    if not found:
        raise _refused("choices", row, "two or more options")
    return found


def _labels(row: dict[str, Any], field: str, choices: tuple[tuple[str, str], ...]) -> list[str]:
    """Returns the labels of the options that a field of gold answers names. Raises RowError."""
    given = row[field] if isinstance(row.get(field), list) else [row.get(field)]
    try:
        return [label_of(value, choices, "", field) for value in given if value is not None]
    except ValueError as error:
        raise RowError(f"field {str(error).removeprefix(': ')}") from error
