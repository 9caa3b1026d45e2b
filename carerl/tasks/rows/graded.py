"""Reads a row to grade: an object with its response, its gold answer and what its grader needs
(:mod:`carerl.grade`)."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from carerl.calibration import without_statement
from carerl.grading import Gold, gold_answer
from carerl.grading.pool import Job
from carerl.tasks.rows.choices import find_choices, label_of, parse_choices
from carerl.tasks.rows.data import parse_line


class RowError(ValueError):
    """Says what is wrong with a row: which field, and why."""


class ResponseError(RowError):
    """Reports a row whose response cannot be read. The rest of the row is in order."""


@dataclass(frozen=True, slots=True)
class Row:
    """Holds a line of the input: its number, its id (None if none can be read), and a job, or why there is no job."""

    line: int
    identifier: str | int | None
    job: Job | None
    reason: str = ""


def read_row(number: int, line: bytes, task: str) -> Row:
    identifier = None
    try:
        value = parse_line(line)
        if not isinstance(value, dict):
            raise RowError(f"a row must be an object, not {type(value).__name__}")
        if not _is_id(value.get("id")):
            raise _refused("id", value, "a text or a whole number")
        identifier = value["id"]
        return Row(number, identifier, _job(value, task))
    except ValueError as error:
        part = "response" if isinstance(error, ResponseError) else "row"
        return Row(number, _salvaged_id(line) if identifier is None else identifier, None, f"{part}: {error}")


def _is_id(value: Any) -> bool:
    return isinstance(value, str | int) and not isinstance(value, bool)


def _salvaged_id(line: bytes) -> str | int | None:
    """Returns the id of a row that is refused as a whole: one with bytes that are not UTF-8, or with a number too long
    to read."""
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
    """Returns the labels that a field of gold answers names."""
    given = row[field] if isinstance(row.get(field), list) else [row.get(field)]
    try:
        return [label_of(value, choices, "", field) for value in given if value is not None]
    except ValueError as error:
        raise RowError(f"field {str(error).removeprefix(': ')}") from error
