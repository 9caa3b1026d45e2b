"""``python -m carerl.sweep recipe=A,B key=v1,v2 seed=100,101``: a grid of runs on warm workers, resumable.

    python -m carerl.sweep recipe=care_grpo_tiny regularizer.alpha=0,.5,.8 seed=100,101
    python -m carerl.sweep sweep=regularizers_tiny seed=100,101,102 workers=2 out=sweeps/regularizers

A comma separates the values of a key. ``sweep=NAME`` takes its rows from ``recipes/sweeps/NAME.yaml``.
``out=`` is the sweep's directory (the same one again goes on with it); ``workers=`` runs so many cells at a
time. Exit codes: 0 every cell is complete; 1 some are not; 2 the settings are refused.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from carerl.config.errors import ConfigError
from carerl.config.printable import printable
from carerl.config.sweeps import bare_word, sweep_rows


def main(argv: Sequence[str] | None = None) -> int:
    words = list(sys.argv[1:] if argv is None else argv)
    if not words or "--help" in words or "-h" in words:
        print(__doc__)
        return 0
    try:
        rows, grid, options = _parse(words)
        from carerl.controller.sweep import cells, sweep

        directory = Path(options.get("out") or Path("sweeps") / (options.get("sweep") or rows[0].split("=")[-1]))
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
    grid: dict[str, list[str]] = {}
    options: dict[str, str] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals:
            raise bare_word(word)
        if key in ("out", "workers", "sweep"):
            options[key] = text
        elif key == "recipe":
            rows = [f"recipe={name}" for name in text.split(",")]
        else:
            grid[key] = _values(text)
    if "sweep" in options:
        rows = sweep_rows(options["sweep"])
    if not rows:
        raise ConfigError("recipe", None, "no recipe is given", "write recipe=NAME[,NAME…] or sweep=NAME")
    if not options.get("workers", "1").isdigit() or int(options.get("workers", "1")) < 1:
        raise ConfigError("workers", options["workers"], "not a positive whole number", "write workers=2")
    return rows, grid, options


def _values(text: str) -> list[str]:
    """The values between commas outside of brackets: ``0,.5`` are two, ``[0.9,0.95]`` is one."""
    values, depth = [""], 0
    for character in text:
        depth += (character in "[{") - (character in "]}")
        if character == "," and depth == 0:
            values.append("")
        else:
            values[-1] += character
    return values


if __name__ == "__main__":
    ended = main()
    if "carerl.actors.ray_cluster" in sys.modules:
        sys.modules["carerl.actors.ray_cluster"].leave(ended)
    sys.exit(ended)
