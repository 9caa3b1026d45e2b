"""Run a grid of recipes, settings and seeds on warm workers; resumable.

    carerl sweep recipe=care_grpo_tiny regularizer.alpha=0,.5,.8 seed=100,101
    carerl sweep sweep=regularizers_tiny seed=100,101,102 workers=2 out=sweeps/regularizers

A comma separates the values of a key, unless it stands in quotes or brackets. A key is given once.

sweep=NAME     takes the rows from recipes/sweeps/NAME.yaml instead of recipe=
out=DIR        the sweep's directory; the same command with the same out= resumes it
workers=1      cells that run at the same time

Exit codes: 0 every cell is complete; 1 some are not; 2 the settings are refused.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from carerl import cli
from carerl.config.reading.compose import label
from carerl.config.reading.paths import local
from carerl.config.sweep import bare_word, row_words, split_values, sweep_rows
from carerl.errors import ConfigError
from carerl.text.terminal import command


@dataclass(frozen=True)
class Options:
    """The sweep's own options, beside the settings of its cells."""

    sweep: str | None = cli.option(None)
    out: str = cli.option("", local)
    workers: int = cli.option(1, cli.whole(1, example=2))


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    return cli.answer(words, _sweep, __doc__ or "", interrupted="ended at once; the same command resumes it")


def _sweep(words: list[str]) -> int:
    rows, grid, options = parse(words)
    from carerl.controller.sweeps.sweep import cells, sweep

    name = options.sweep or label(row_words(rows[0])[0].partition("=")[2])
    directory = Path(options.out or Path("sweeps") / name)
    plan = cells(rows, grid, directory)
    ended = sweep(plan, options.workers, ["tracking.display=quiet"], lambda text: print(text, flush=True))
    absent = sorted(name for name, status in ended.items() if status != "completed")
    for name in absent:
        print(f"not complete: {name} ({ended[name]})")
    print(f"{len(ended) - len(absent)} of {len(ended)} cells complete in {directory}")
    print(f"compare them with: carerl compare {directory}")
    return 1 if absent else 0


def parse(words: Sequence[str]) -> tuple[list[str], dict[str, list[str]], Options]:
    """Returns the rows, the grid (key to values) and the sweep's own options. Raises ConfigError."""
    _check_keys(words)
    options, settings = cli.take(words, Options)
    grid = {key: text for key, _, text in (word.partition("=") for word in settings)}
    recipes = grid.pop("recipe", None)
    rows = [f"recipe={shlex.quote(name)}" for name in split_values("recipe", recipes or "") if name]
    if options.sweep is not None:
        if rows:
            reason = f"the rows of sweep={options.sweep} name their recipes"
            raise ConfigError("recipe", recipes, reason, "leave one of the two out")
        rows = sweep_rows(options.sweep)
    if not rows:
        raise ConfigError("recipe", None, "no recipe is given", "write recipe=NAME[,NAME…] or sweep=NAME")
    return rows, {key: split_values(key, text) for key, text in grid.items()}, options


def _check_keys(words: Sequence[str]) -> None:
    """Raises ConfigError for a word that is not ``key=value``, and for a key that is given twice."""
    for before, word in zip(["", *words], words, strict=False):
        if "=" not in word:
            raise bare_word(word, before)
    own = {field.name for field in fields(Options)}
    given: dict[str, str] = {}
    for key, _, text in (word.partition("=") for word in words):
        if key in given:
            together = f", in one word: {key}={given[key]},{text}" if key not in own else ""
            raise ConfigError(key, text, f"it is given twice, before as {given[key]}", f"write it once{together}")
        given[key] = text


if __name__ == "__main__":
    sys.exit(command(main))
