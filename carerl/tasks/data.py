"""Rows of data sets: a local ``.jsonl`` file, or a split of a data set of the Hugging Face hub.

Every row comes with its place, ``file:line`` or ``data set/split/number``, and every error names it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

Row = Mapping[str, Any]


def read_jsonl(path: Path) -> Iterable[tuple[str, Any]]:
    """(place, value) of every line that is not blank. Raises ValueError for a missing file and for what is no JSON."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file; give a .jsonl file that exists")
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, 1):
            where = f"{path.name}:{number}"
            if not line.strip():
                continue
            try:
                yield where, json.loads(line)
            except json.JSONDecodeError as error:
                raise ValueError(f"{where}: not JSON ({error})") from error


def read_hub(name: str, subset: str, split: str) -> Iterable[tuple[str, Any]]:
    """(place, row) of a split. Raises ValueError if it cannot be loaded, the hub's own message included."""
    from datasets import load_dataset

    try:
        rows = load_dataset(name, subset or None, split=split)
    except Exception as error:  # the library raises many kinds: of the network, of the hub, of the format
        raise ValueError(
            f"{name} ({split}): cannot be loaded from the hub ({type(error).__name__}: {error}); "
            "to use a local copy write task.data_dir=, the directory that holds its .jsonl file"
        ) from error
    for number, row in enumerate(rows):
        yield f"{name}/{split}/{number}", row


def as_row(value: Any, where: str) -> Row:
    """A row must be an object. Raises ValueError."""
    if not isinstance(value, Mapping):
        raise ValueError(f"{where}: a row must be an object, not {type(value).__name__}")
    return value


def text_field(row: Row, where: str, *names: str) -> str:
    """The first of the named fields that holds text. Raises ValueError if none does."""
    text = next((row[name] for name in names if row.get(name)), None)
    if not isinstance(text, str) or not text.strip():
        others = f" (or {', '.join(map(repr, names[1:]))})" if names[1:] else ""
        raise ValueError(f"{where}: no text in {names[0]!r}{others}")
    return text
