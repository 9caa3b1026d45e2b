"""Run a grid of recipes, settings and seeds on warm workers; resumable.

    carerl sweep recipe=care_grpo_tiny regularizer.alpha=0,.5,.8 seed=100,101
    carerl sweep sweep=regularizers_tiny seed=100,101,102 workers=2 out=sweeps/regularizers

A comma separates the values of a key, unless it stands in quotes or brackets. A key is given once.

sweep=NAME     takes the rows from recipes/sweeps/NAME.yaml instead of recipe=
out=DIR        the sweep's directory; the same command with the same out= resumes it
workers=1      cells that run at the same time
rehearse=true  every cell made small, on this machine, with outcomes by the toss of a coin; it lies beside the real
               sweep, in rehearse_<its name>

Cells that start from the same weights and are asked the same questions share the evaluation at step 0: the first makes
it. At its end the sweep compares its cells as `carerl compare DIR` does, in DIR/compare, and beside a paper's figures
where the spec names a publication. sweep=paper_3b is the table of the CARE-RFT paper.

Exit codes: 0 every cell is complete; 1 some are not; 2 the settings are refused.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

from carerl import cli
from carerl.config.reading.compose import label
from carerl.config.reading.paths import local
from carerl.config.rehearsal import PREFIX
from carerl.config.sweep import Spec, asked_for, bare_word, row_words
from carerl.errors import ConfigError
from carerl.text.printable import printable
from carerl.text.terminal import command


@dataclass(frozen=True)
class Options:
    """The sweep's own options, beside the settings of its cells."""

    sweep: str | None = cli.option(None)
    out: str = cli.option("", local)
    workers: int = cli.option(1, cli.whole(1, example=2))
    rehearse: bool = cli.option(False, cli.flag)


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    return cli.answer(words, _sweep, __doc__ or "", interrupted="ended at once; the same command resumes it")


def _sweep(words: list[str]) -> int:
    spec, grid, options = parse(words)
    from carerl.actors.cluster.jobs import check_storage
    from carerl.controller.sweeps.sweep import REHEARSE, cells, sweep

    directory = place(spec, options)
    check_storage("out", str(directory))
    plan = cells(spec.rows, grid, directory, spec.shared)
    overrides = ["tracking.display=quiet", *([REHEARSE] if options.rehearse else [])]
    ended = sweep(plan, options.workers, overrides, lambda text: print(text, flush=True), spec.published)
    absent = sorted(name for name, status in ended.items() if status != "completed")
    for name in absent:
        print(f"not complete: {name} ({ended[name]})")
    print(f"{len(ended) - len(absent)} of {len(ended)} cells complete in {directory}", flush=True)
    if len(absent) < len(ended):
        _compare(directory)
    return 1 if absent else 0


def place(spec: Spec, options: Options) -> Path:
    """Returns the sweep's directory. That of a rehearsal lies beside the real sweep's, so that one command serves
    both."""
    name = options.sweep or label(row_words(spec.rows[0])[0].partition("=")[2])
    real = Path(options.out or Path("sweeps") / name)
    return real.with_name(f"{PREFIX}{real.name}") if options.rehearse else real


def _compare(directory: Path) -> None:
    """Writes the comparison of the cells that are complete. A fault of it is told, and is none of the sweep's."""
    from carerl.report.compare.whole import compare

    out = directory / "compare"
    try:
        compare([str(directory)], out)
    except (ValueError, OSError) as error:
        print(printable(f"not compared: {' '.join(str(error).split())}"))
        print(printable(f"compare them with: carerl compare {directory}"))
        return
    print(printable(f"compared: {out / 'compare.html'}; in the terminal: carerl compare {directory}"))


def parse(words: Sequence[str]) -> tuple[Spec, dict[str, list[str]], Options]:
    """Returns what is to be run, the grid (key to values) and the sweep's own options. Raises ConfigError."""
    _check_keys(words)
    options, settings = cli.take(words, Options)
    spec, grid = asked_for(options.sweep, settings)
    return spec, grid, options


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
