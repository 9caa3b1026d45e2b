"""Publications: the figures of a paper's table, which a comparison shows beside ours.

They lie in ``recipes/published/NAME.yaml``. Beside a row of the paper stand our runs with its ``settings``, or our base
where it has ``base: true``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from carerl.config.reading.compose import find, read_yaml, recipe_folders
from carerl.config.reading.scalars import native
from carerl.config.schema import RunConfig
from carerl.errors import ConfigError, suggestion
from carerl.metrics.table import find_metric

KEYS = ("source", "settings", "notes", "columns", "rows")
ROW_KEYS = ("label", "base", "settings", "figures")


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """Holds a row of a paper's table. ``settings``: what our runs beside it have (dotted name to value). ``base``: True
    where our model before training stands beside it."""

    label: str
    figures: tuple[float | None, ...]
    settings: Mapping[str, Any]
    base: bool

    def is_of(self, settings: Mapping[str, Any]) -> bool:
        """Returns True if a trained run with these settings (flat) stands beside the row."""
        return not self.base and all(settings.get(key) == value for key, value in self.settings.items())


@dataclass(frozen=True, slots=True)
class Published:
    """Holds a paper's table. ``settings``: what its figures were made with, under our settings' names. ``columns``: the
    paper's label, and our metrics that stand beside it, of several the first that a run has."""

    name: str
    source: str
    settings: Mapping[str, Any]
    notes: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    rows: tuple[PublishedRow, ...]


def published_names() -> list[str]:
    return sorted({path.stem for folder in recipe_folders() for path in (folder / "published").glob("*.yaml")})


def read_published(name: str, asked_by: str = "published") -> Published:
    """Reads a publication. Raises ConfigError, under the field ``asked_by`` if there is none of this name."""
    known = published_names()
    if name not in known:
        raise ConfigError(asked_by, name, "there is no publication of this name", suggestion(name, known))
    tree = native(read_yaml(find(f"published/{name}", asked_by)))
    _refuse_unknown(name, tree, ("description", *KEYS), KEYS)
    if not isinstance(tree["source"], str):
        raise ConfigError(f"{name}.source", tree["source"], "not text", "name the paper")
    notes = tree["notes"]
    if not isinstance(notes, list) or not all(isinstance(note, str) for note in notes):
        raise ConfigError(f"{name}.notes", notes, "not a list of sentences", "write [] where there is nothing to say")
    columns = _columns(name, tree["columns"])
    rows = tree["rows"]
    if not isinstance(rows, list) or not rows:
        raise ConfigError(f"{name}.rows", rows, "not a list of rows", "write a row with label, settings and figures")
    read = tuple(_row(f"{name}.rows[{number}]", row, list(columns)) for number, row in enumerate(rows))
    for number, row in enumerate(read):
        for other in read[:number]:
            if other.label == row.label or (other.base, other.settings) == (row.base, row.settings):
                reason = f"it has the label or the settings of {other.label}: no run could be told apart"
                raise ConfigError(f"{name}.rows[{number}]", row.label, reason, "give it its own")
    return Published(name, tree["source"], _settings(f"{name}.settings", tree["settings"]), tuple(notes), columns, read)


def _refuse_unknown(where: str, tree: Any, known: tuple[str, ...], needed: tuple[str, ...]) -> None:
    """Refuses what is no mapping, a key that is not known, and the lack of one that is needed. Raises ConfigError."""
    if not isinstance(tree, dict):
        raise ConfigError(where, tree, "not a mapping of keys to values", f"write {', '.join(needed)}")
    for key in tree:
        if key not in known:
            raise ConfigError(f"{where}.{key}", tree[key], f"there are {', '.join(known)}", suggestion(str(key), known))
    for key in needed:
        if key not in tree:
            raise ConfigError(f"{where}.{key}", None, "it is missing", f"write {key}:")


def _columns(name: str, tree: Any) -> dict[str, tuple[str, ...]]:
    if not isinstance(tree, dict) or not tree:
        raise ConfigError(f"{name}.columns", tree, "not a mapping of labels to metrics", "write MATH: eval/math500/maj")
    columns = {}
    for label, metrics in tree.items():
        found = metrics if isinstance(metrics, list) else [metrics]
        for metric in found or [None]:
            if not isinstance(metric, str) or find_metric(metric) is None:
                reason = "no metric of this name is declared"
                raise ConfigError(f"{name}.columns.{label}", metric, reason, "see carerl/tasks/text_metrics.py")
        columns[str(label)] = tuple(found)
    return columns


def _row(where: str, tree: Any, columns: list[str]) -> PublishedRow:
    _refuse_unknown(where, tree, ROW_KEYS, ("label", "figures"))
    figures, base = tree["figures"], tree.get("base", False)
    if not isinstance(tree["label"], str):
        raise ConfigError(f"{where}.label", tree["label"], "not text", "name the row as the paper does")
    if not isinstance(figures, list) or len(figures) != len(columns):
        reason = f"there are {len(columns)} columns: {', '.join(columns)}"
        raise ConfigError(f"{where}.figures", figures, reason, "write a figure for each, null where there is none")
    for label, figure in zip(columns, figures, strict=True):
        number = isinstance(figure, int | float) and not isinstance(figure, bool)
        if figure is not None and not (number and math.isfinite(figure)):
            reason = f"the figure of {label} is not a number"
            raise ConfigError(f"{where}.figures", figure, reason, "write a number, or null where there is none")
    if not isinstance(base, bool) or base == ("settings" in tree):
        reason = "a row is our base (base: true) or has settings, and not both"
        raise ConfigError(f"{where}.base", base, reason, "write one of the two")
    settings = {} if base else _settings(f"{where}.settings", tree["settings"])
    if not base and not settings:
        raise ConfigError(f"{where}.settings", settings, "every run would stand beside it", "write what its runs have")
    return PublishedRow(tree["label"], tuple(figures), settings, base)


def _settings(where: str, tree: Any) -> dict[str, Any]:
    if not isinstance(tree, dict):
        raise ConfigError(where, tree, "not a mapping of settings to values", "write {regularizer.name: none}")
    for key in tree:
        known = RunConfig.__dataclass_fields__
        if str(key).partition(".")[0] not in known:
            raise ConfigError(f"{where}.{key}", tree[key], "a run has no such setting", suggestion(str(key), known))
    return {str(key): value for key, value in tree.items()}
