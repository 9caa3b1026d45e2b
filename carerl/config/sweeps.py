"""Sweep specs: ``recipes/sweeps/NAME.yaml`` lists the rows of a comparison, each the words of a command line."""

from __future__ import annotations

from carerl.config.compose import read_file
from carerl.config.errors import ConfigError


def sweep_rows(name: str) -> list[str]:
    """The rows of a sweep spec. Raises ConfigError."""
    tree = read_file(f"sweeps/{name}", "sweep")
    rows = tree.get("rows")
    unknown = sorted(set(tree) - {"description", "rows"})
    if unknown:
        raise ConfigError(f"{name}.{unknown[0]}", tree[unknown[0]], "a sweep spec has description and rows", "drop it")
    if not isinstance(rows, list) or not rows or not all(isinstance(row, str) and "recipe=" in row for row in rows):
        raise ConfigError(
            f"{name}.rows", rows, "not a list of command lines", "write each as 'recipe=NAME key=value …'"
        )
    return rows
