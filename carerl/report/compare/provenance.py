"""Where a comparison's numbers come from: of every row the runs, their recipe, seeds and code."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from string import ascii_lowercase
from typing import Any

from carerl.report.compare.rows import Comparison, Row
from carerl.runs.find import Run

FIELDS = ("key", "method", "recipe", "seed", "run", "code", "commit", "changed", "directory", "evaluates")


@dataclass(frozen=True, slots=True)
class Source:
    """A row's runs. ``key``: the letter that tables of text mark it with."""

    key: str
    row: Row

    @property
    def recipes(self) -> str:
        return ", ".join(dict.fromkeys(run.recipe for run in self.row.runs))

    @property
    def code(self) -> str:
        """One entry a version of the code, with the number of runs where they differ."""
        counts: dict[str, int] = {}
        for run in self.row.runs:
            counts[run.code] = counts.get(run.code, 0) + 1
        if len(counts) == 1:
            return next(iter(counts))
        return ", ".join(f"{code} ({count} runs)" for code, count in counts.items())

    @property
    def seeds(self) -> str:
        """``1000–1007`` where they follow one another.

        >>> from types import SimpleNamespace as N
        >>> Source("a", N(runs=[N(seed=s) for s in (3, 1, 2)])).seeds
        '1–3'
        """
        seeds = sorted({run.seed for run in self.row.runs})
        if len(seeds) > 2 and seeds[-1] - seeds[0] == len(seeds) - 1:
            return f"{seeds[0]}–{seeds[-1]}"
        return ", ".join(map(str, seeds))

    @property
    def text(self) -> str:
        runs = len(self.row.runs)
        return f"{self.recipes}; code {self.code}; {runs} run{'s' if runs > 1 else ''}, seeds {self.seeds}"


def sources(comparison: Comparison) -> list[Source]:
    """One a row, in their order; the keys are a … z, aa, ab …"""
    return [Source(_key(number), row) for number, row in enumerate(comparison.rows)]


def provenance_csv(comparison: Comparison) -> str:
    """One line per row and run. ``evaluates``: the run whose checkpoint an evaluation is of."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(FIELDS)
    for source in sources(comparison):
        for run in source.row.runs:
            cells = (source.key, source.row.label, run.recipe, run.seed, run.name, *_code(run), *_places(run))
            writer.writerow(map(csv_cell, cells))
    return stream.getvalue()


def csv_cell(value: Any) -> Any:
    """A cell of a CSV file, with a ``'`` before text that a spreadsheet would take for a formula. Numbers stay.

    >>> csv_cell("=HYPERLINK(1)"), csv_cell("-0.25 -0.5"), csv_cell(-1)
    ("'=HYPERLINK(1)", '-0.25 -0.5', -1)
    """
    if not isinstance(value, str) or not value.startswith(("=", "+", "-", "@", "\t", "\r")):
        return value
    return value if all(map(_is_number, value.split())) else f"'{value}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _code(run: Run) -> tuple[str, str, str]:
    changed = run.versions.get("dirty")
    return (
        str(run.versions.get("carerl") or ""),
        str(run.versions.get("commit") or ""),
        "" if changed is None else str(int(bool(changed))),
    )


def _places(run: Run) -> tuple[str, str]:
    return str(run.path), str(run.trained_in or "")


def _key(number: int) -> str:
    """a … z, aa, ab …

    >>> _key(0), _key(25), _key(26)
    ('a', 'z', 'aa')
    """
    letters = ""
    while number >= 0:
        letters = ascii_lowercase[number % 26] + letters
        number = number // 26 - 1
    return letters
