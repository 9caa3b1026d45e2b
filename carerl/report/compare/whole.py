"""A whole comparison: from the directories of runs and sweeps to the files that a person reads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from carerl.config.load import parse
from carerl.config.published import read_published
from carerl.config.reading.compose import compose, merge, recipe_names
from carerl.config.reading.scalars import native
from carerl.errors import ConfigError
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.page import write_comparison
from carerl.report.compare.views import View, published_views, views
from carerl.runs.find import find_runs, find_sweeps, read_run, settings_of
from carerl.runs.sweep_file import Cell, read_cells, read_publication, why_absent


@dataclass(frozen=True, slots=True)
class Compared:
    """Holds a comparison, the views beside its main table, and the files that show both."""

    comparison: Comparison
    views: Sequence[View]
    written: Sequence[Path]


def compare(paths: Sequence[str], out: Path, baseline: str = "") -> Compared:
    """Compares the runs behind ``paths`` (:func:`carerl.runs.find.find_runs`), and writes the comparison into ``out``.
    The runs of a sweep that names a publication stand beside its figures.

    Raises ValueError or OSError if there is nothing to compare, or if nothing can be written."""
    sweeps = find_sweeps(paths)
    cells = [cell for sweep in sweeps for cell in read_cells(sweep)]
    comparison = Comparison.of([read_run(path) for path in find_runs(paths)], baseline, cells)
    names = dict.fromkeys(filter(None, map(read_publication, sweeps)))
    awaited = [found for cell in cells if names and why_absent(cell.directory) and (found := _settings(cell))]
    beside: list[View] = []
    for name in names:
        try:
            beside += published_views(comparison, read_published(name), awaited)
        except ConfigError as error:  # it is broken, or of another machine's ./recipes: the runs are not
            beside.append(View(f"Beside {name}", [f"Not shown: {error.field}: {error.reason}."], []))
    beside += views(comparison)
    return Compared(comparison, beside, write_comparison(comparison, beside, out))


def _settings(cell: Cell) -> dict[str, Any]:
    """Returns the settings (flat) that recipe and words name for a cell without a result; none if they cannot be read.
    Nothing is imported: the file that lists the cells may be a stranger's."""
    try:
        asked = parse(cell.words)
        recipe, scale = asked.pop("recipe", None), asked.pop("scale", "")
        if recipe not in recipe_names():
            return {}
        return settings_of(native(merge(compose(str(recipe), scale=str(scale)), asked)))
    except ConfigError:
        return {}
