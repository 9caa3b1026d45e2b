"""Reads the rows of data sets: from a local ``.jsonl`` file, or from a split of a data set on the Hugging Face hub.

Every row comes with its place, ``file:line`` or ``data set/split/number``, and every error names it.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from .file_kinds import file_fault, line_hint

Row = Mapping[str, Any]
MAX_DEPTH = 100  # of brackets in a row
COMMIT = re.compile(r"[0-9a-f]{40}")
SOURCE_COMMIT = re.compile(r"@([0-9a-f]{40})\b")
BLANK = b" \t\r\n\v\f\xef\xbb\xbf"  # blanks, and a byte order mark


def read_jsonl(path: Path) -> Iterable[tuple[str, Any]]:
    """Yields (place, value) of every line that is not blank.

    Raises ValueError for a file that does not hold rows (:mod:`~carerl.tasks.rows.file_kinds`). Raises it with the
    line's number for a line that :func:`parse_line` refuses, or that holds half of a surrogate pair, which no tokenizer
    takes.
    """
    if fault := file_fault(path):
        raise ValueError(f"{path}: {fault}")
    first = True
    with path.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{path.name}:{number}"
            if not line.strip(BLANK):
                continue
            try:
                value = parse_line(line)
                if b"\\u" in line:
                    json.dumps(value, ensure_ascii=False).encode()
            except UnicodeEncodeError as error:
                raise ValueError(f"{where}: half of a surrogate pair, which is no text") from error
            except json.JSONDecodeError as error:
                hint = line_hint(line, path if first else None)
                raise ValueError(f"{where}: {error}{hint and '; '}{hint}") from error
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from error
            first = False
            yield where, value
    if first:
        raise ValueError(f"{path}: no rows: it holds only blank lines; give a file with an object a line")


class _ValueRefused(ValueError):
    """Reports a value that Python's parser accepts, but JSON does not have."""


def _pairs(found: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(found)
    if len(made) < len(found):
        keys = [key for key, _ in found]
        twice = next(key for key in made if keys.count(key) > 1)
        raise _ValueRefused(f"the key {twice!r} is there {keys.count(twice)} times in one object; leave one")
    return made


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _ValueRefused(f"{text[:40]} is larger than any number that is read; write it as a text")
    return value


def _constant(text: str) -> Any:
    raise _ValueRefused(f"{text} is no number, and no JSON; write a number, a text in quotes, or null")


# one decoder for all lines: json.loads would make one for each
_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_pairs, parse_float=_number, parse_constant=_constant)


def parse_line(line: bytes) -> Any:
    """Returns the value of a line of JSON. Control characters in a text are accepted.

    Raises ValueError for a line that is not UTF-8 or not JSON (then a JSONDecodeError), for NaN and infinities, for a
    key that an object has twice, for a whole number with more digits than Python reads (4,300), and for brackets nested
    deeper than ``MAX_DEPTH``.
    """
    try:
        value = _DECODER.decode(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 (byte {error.start + 1} of the line)") from error
    except json.JSONDecodeError as error:
        error.args = (f"not JSON ({error})",)
        raise
    except _ValueRefused as error:
        raise ValueError(str(error)) from error
    except ValueError as error:
        raise ValueError("a whole number of too many digits; write it as a text") from error
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error
    if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _deeper(value, MAX_DEPTH):
        raise ValueError(_TOO_DEEP)
    return value


_TOO_DEEP = f"nested deeper than {MAX_DEPTH} brackets"


def _deeper(value: Any, depth: int) -> bool:
    """Returns True if a value is nested in more than ``depth`` brackets."""
    level = [value]
    for _ in range(depth + 1):
        inner = [v.values() if isinstance(v, dict) else v for v in level if isinstance(v, list | dict)]
        if not inner:
            return False
        level = [part for parts in inner for part in parts]
    return True


def read_hub(name: str, subset: str, split: str, revision: str = "") -> Iterable[tuple[str, Any]]:
    """Yields (place, row) of a split, at ``revision`` ('': the newest). Raises ValueError, with the hub's own message,
    if it cannot be loaded, and if the cache gives the rows of another commit."""
    from datasets import load_dataset

    try:
        rows = load_dataset(name, subset or None, split=split, revision=revision or None)
    except Exception as error:  # the library raises many kinds: of the network, of the hub, of the format
        raise ValueError(
            f"{name} ({split}): cannot be loaded from the hub ({type(error).__name__}: {error}); "
            "to use a local copy write task.data_dir=, the directory that holds its .jsonl file"
        ) from error
    found = _commits(rows)
    if COMMIT.fullmatch(revision) and found and revision not in found:
        raise ValueError(
            f"{name} ({split}): the cache holds commit {found[0]}, and the run was started with {revision}; go on "
            "where the hub answers, or write task.data_dir=, the directory that holds its .jsonl file"
        )
    for number, row in enumerate(rows):
        yield f"{name}/{split}/{number}", row


def _commits(rows: Any) -> list[str]:
    """Returns the commits in a data set's download addresses; empty if they name none."""
    sources = getattr(getattr(rows, "info", None), "download_checksums", None) or {}
    return sorted({found.group(1) for source in sources if (found := SOURCE_COMMIT.search(str(source)))})


def as_row(value: Any, where: str) -> Row:
    """Returns a row, which must be an object. Raises ValueError."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: a row must be an object, not {type(value).__name__}")
    return value


def text_field(row: Row, where: str, *names: str) -> str:
    """Returns the first of the named fields that holds text. Raises ValueError if none does."""
    text = next((row[name] for name in names if row.get(name)), None)
    if not isinstance(text, str) or not text.strip():
        others = f" (or {', '.join(map(repr, names[1:]))})" if names[1:] else ""
        raise ValueError(f"{where}: no text in {names[0]!r}{others}")
    return text
