"""``python -m carerl.sweep recipe=A,B key=v1,v2 seed=100,101``: a grid of runs on warm workers, resumable.

    python -m carerl.sweep recipe=care_grpo_tiny regularizer.alpha=0,.5,.8 seed=100,101
    python -m carerl.sweep sweep=regularizers_tiny seed=100,101,102 workers=2 out=sweeps/regularizers

A comma separates the values of a key, unless it stands in quotes or brackets. ``sweep=NAME`` takes its rows from
``recipes/sweeps/NAME.yaml``. ``out=`` is the sweep's directory (the same one again goes on with it); ``workers=`` runs
so many cells at a time. Exit codes: 0 every cell is complete; 1 some are not; 2 the settings are refused.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

from carerl.config.reading.compose import label
from carerl.config.reading.paths import local
from carerl.config.reading.scalars import whole_number
from carerl.config.sweep import bare_word, row_words, split_values, sweep_rows
from carerl.errors import ConfigError
from carerl.text.printable import printable
from carerl.text.terminal import command

OPTIONS = ("out", "workers", "sweep")


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or "--help" in words or "-h" in words:
        print(__doc__)
        return 0
    try:
        rows, grid, options = _parse(words)
        from carerl.controller.sweeps.sweep import cells, sweep

        name = options.get("sweep") or label(row_words(rows[0])[0].partition("=")[2])
        directory = Path(options.get("out") or Path("sweeps") / name)
        plan = cells(rows, grid, directory)
        overrides = ["tracking.display=quiet"]
        ended = sweep(plan, int(options.get("workers", 1)), overrides, lambda text: print(text, flush=True))
    except ConfigError as error:
        print(printable(error), file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("ended at once; the same command goes on with it", file=sys.stderr)
        return 130
    absent = sorted(name for name, status in ended.items() if status != "completed")
    for name in absent:
        print(f"not complete: {name} ({ended[name]})")
    print(f"{len(ended) - len(absent)} of {len(ended)} cells complete in {directory}")
    print(f"compare them with: python -m carerl.compare {directory}")
    return 1 if absent else 0


def _parse(words: Sequence[str]) -> tuple[list[str], dict[str, list[str]], dict[str, str]]:
    """Rows, grid and the sweep's own options."""
    rows: list[str] = []
    given: dict[str, str] = {}
    grid: dict[str, list[str]] = {}
    for before, word in zip(["", *words], words, strict=False):
        if "=" not in word:
            raise bare_word(word, before)
    for word in words:
        key, _, text = word.partition("=")
        if key in given:
            together = f", in one word: {key}={given[key]},{text}" if key not in OPTIONS else ""
            raise ConfigError(key, text, f"it is given twice, before as {given[key]}", f"write it once{together}")
        given[key] = text
        if key == "recipe":
            rows = [f"recipe={shlex.quote(name)}" for name in split_values(key, text) if name]
        elif key not in OPTIONS:
            grid[key] = split_values(key, text)
    options = {key: text for key, text in given.items() if key in OPTIONS}
    if "sweep" in options:
        if rows:
            reason = f"the rows of sweep={options['sweep']} name their recipes"
            raise ConfigError("recipe", given["recipe"], reason, "leave one of the two out")
        rows = sweep_rows(options["sweep"])
    if not rows:
        raise ConfigError("recipe", None, "no recipe is given", "write recipe=NAME[,NAME…] or sweep=NAME")
    if (whole_number(options.get("workers", "1")) or 0) < 1:
        raise ConfigError("workers", options["workers"], "not a positive whole number", "write workers=2")
    if "out" in options:
        options["out"] = local("out", options["out"])
    return rows, grid, options


if __name__ == "__main__":
    sys.exit(command(main))
