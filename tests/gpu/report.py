"""Rows of a result, and how a section writes them."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Row:
    """One finding of a section."""

    section: str
    name: str
    value: Any
    bar: str = ""
    ok: bool | None = None
    """Whether the value holds the bar; None where there is none."""

    def __str__(self) -> str:
        mark = {True: "ok  ", False: "FAIL", None: "    "}[self.ok]
        return f"   {mark} {self.name} = {self.value} {self.bar and f'({self.bar})'}".rstrip()

    def line(self) -> str:
        """Returns it as a line of JSON."""
        return json.dumps(asdict(self), default=str) + "\n"


class Report:
    """Appends a section's rows to a file as they are found, so that a section that is killed loses none."""

    def __init__(self, section: str, file: Path):
        self._section, self._file = section, file

    def tell(self, name: str, value: Any) -> None:
        """Writes a value that is held to nothing."""
        self._write(Row(self._section, name, value))

    def at_most(self, name: str, value: float, most: float) -> None:
        """Writes a value that must not be larger. NaN is."""
        self._write(Row(self._section, name, value, f"<= {most:g}", value <= most))

    def at_least(self, name: str, value: float, least: float) -> None:
        """Writes a value that must not be smaller. NaN is."""
        self._write(Row(self._section, name, value, f">= {least:g}", value >= least))

    def near(self, name: str, value: float, wanted: float, share: float) -> None:
        """Writes a value that must not be further from the one that is wanted than ``share`` of it. NaN is."""
        bar = f"{wanted:.3g} within {share:.0%}"
        self._write(Row(self._section, name, value, bar, abs(value - wanted) <= share * wanted))

    def equal(self, name: str, value: Any, wanted: Any) -> None:
        """Writes a value that must be the one that is wanted."""
        self._write(Row(self._section, name, value, f"= {wanted}", value == wanted))

    def failed(self, name: str, value: Any) -> None:
        """Writes what should not have happened."""
        self._write(Row(self._section, name, value, "must not happen", False))

    def _write(self, row: Row) -> None:
        append(self._file, row)
        print(row, flush=True)


def append(file: Path, row: Row) -> list[Row]:
    """Appends a row to a file; returns it as the only one of a list."""
    with file.open("a", encoding="utf-8") as lines:
        lines.write(row.line())
    return [row]


def whole_lines(file: Path) -> None:
    """Cuts a last line that was not written to its end off a file, so that another can be appended."""
    if file.exists():
        kept = file.read_bytes()
        file.write_bytes(kept[: kept.rfind(b"\n") + 1])


def read(file: Path) -> list[Row]:
    """Returns the rows of a file. A last line that was not written to its end is left out."""
    if not file.exists():
        return []
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [Row(**json.loads(line)) for line in lines if line.endswith("\n")]
