"""Keeps rows of an evaluation on disk: in parts while it is under way, in one table in the end.

What was drawn is never drawn twice: an evaluation that was stopped reads its parts and goes on.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from carerl.runs.tables import arrow_type, write_parquet
from carerl.types import Example

Row = Mapping[str, Any]


class Parts:
    """Stores rows of fixed columns. ``folder`` holds the parts, ``table`` is the file that they become.

    ``columns``: Arrow type by name. ``key``: the columns that name a row; a row that is added again replaces the
    earlier one. The table is in the order of the key: a number by its value, a text by when it came first. ``later``:
    values of columns that older files lack. ``warn`` is called with parts that cannot be read; they are put aside, and
    what they held has to be drawn again."""

    def __init__(
        self,
        folder: Path,
        table: Path,
        columns: Mapping[str, str],
        key: Sequence[str],
        later: Row | None = None,
        warn: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.folder, self.table = folder, table
        self._columns, self._key, self._later, self._warn = columns, tuple(key), dict(later or {}), warn
        self._rows: list[Row] = []

    def add(self, rows: Iterable[Row]) -> None:
        """Adds rows. They stay in memory until :meth:`write_part` or :meth:`close`."""
        self._rows += rows

    def write_part(self) -> None:
        """Writes what was added since the last part to disk."""
        if self._rows:
            taken = [int(path.stem.removeprefix("part_")) for path in self.folder.glob("part_*.parquet")]
            self._write(self.folder / f"part_{max(taken, default=-1) + 1:05d}.parquet", self._rows)
            self._rows = []

    def read(self, columns: Sequence[str] | None = None) -> list[Row]:
        """Returns each row on disk once, as it was added last. ``columns``: those that are read, the key among them;
        None for all."""
        return self._newest(self._on_disk(columns))

    def close(self) -> Path:
        """Writes the whole table and removes the parts. Returns its path."""
        rows: list[Row] = [{**self._later, **row} for row in self._newest([*self._on_disk(), *self._rows])]
        came = {
            name: {value: k for k, value in enumerate(dict.fromkeys(row[name] for row in rows))} for name in self._key
        }
        texts = {name for name in self._key if self._columns[name] == "string"}
        rows.sort(key=lambda row: tuple(came[name][row[name]] if name in texts else row[name] for name in self._key))
        self._write(self.table, rows)
        self.remove()
        return self.table

    def remove(self) -> None:
        """Removes the parts, and forgets what was added."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self._rows = []

    def _newest(self, rows: Iterable[Row]) -> list[Row]:
        return list({tuple(row[name] for name in self._key): row for row in rows}.values())

    def _on_disk(self, columns: Sequence[str] | None = None) -> list[Row]:
        """Returns the rows of the table where there is one, else those of the parts. Every column of a part is read, so
        that one that is damaged anywhere is found now."""
        import pyarrow.parquet as pq

        found: list[Row] = []
        if self.table.is_file():
            found += pq.read_table(self.table, columns=columns).to_pylist()
            return found
        for path in sorted(self.folder.glob("part_*.parquet")):
            try:
                part = pq.read_table(path)
                found += (part.select(columns) if columns else part).to_pylist()
            except (OSError, ValueError) as error:
                self._warn(f"{path} cannot be read ({error}): its questions are asked again")
                path.rename(path.with_suffix(".damaged"))
        return found

    def _write(self, path: Path, rows: Sequence[Row]) -> None:
        import pyarrow as pa

        names = self._columns.items()
        write_parquet(
            path, pa.table({name: pa.array([row[name] for row in rows], arrow_type(kind)) for name, kind in names})
        )


def check_same(
    suite: str, number: int, row: Row, examples: Sequence[Example], prompt_of: Callable[[Example], str]
) -> None:
    """Raises ValueError unless a stored row is of the question that has this number now, with the same prompt and gold
    answer. ``row`` has ``example_id``, ``prompt`` and ``gold``."""
    example = examples[number] if number < len(examples) else None
    stored = (row["example_id"], row["prompt"], row["gold"])
    if example is None or stored != (example.id, prompt_of(example), example.gold):
        raise ValueError(
            f"question {number} of {suite} was {row['example_id']}, with its prompt and gold answer, and is "
            "not any more: the data or the prompt has changed"
        )
