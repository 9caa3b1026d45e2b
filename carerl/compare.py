"""Compare runs: tables over seeds, and one page of accuracy against calibration.

    carerl compare RUN… [out=DIR] [baseline=NAME]

RUN is a run or an evaluation, a pattern, or a directory with runs below it (such as a sweep's). The command writes
compare.html (one file, no network), compare.csv, compare.md, compare.tex (booktabs), provenance.csv and
differences.csv into DIR (default: compare), and every picture as SVG and PNG below DIR/figures.

Runs on text benchmarks make the paper's table (MATH, GSM8K, SelfAware, TruthfulQA, ECE), others the tiny world's. Runs
that differ only in alpha, beta or the weight of anchors are joined to a curve. Further tables compare at equal beta, at
equal divergence, or at an equal number of tokens, generated or, with anchors, trained; they interpolate between a
curve's points and never beyond its ends. Cells of a sweep that have no result are listed with the reason. Where a sweep
names a publication (recipes/published), the paper's figures stand beside ours.

Stars mark differences from the baseline (Holm-corrected); a second table has these differences with their one-sided
95 % bounds. baseline= names a row by its label, recipe or regularizer; the default is the row without a penalty.

Under each row stands the same row after temperature scaling and after isotonic regression of its confidences, if the
run has a validation suite to fit them on (task.validation_questions). If a row and its baseline are one run each,
intervals and paired differences are taken over the questions that both were asked (matched by id, prompt and gold
answer) instead of over seeds.

Exit codes: 0 compared; 2 an argument is refused, or there is nothing to compare.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from carerl import cli
from carerl.config.check.places import check_writable
from carerl.config.reading.paths import local
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.page import FIGURES, terminal_table, terminal_tables
from carerl.report.compare.tables import difference_notes, main_tables, notes
from carerl.report.compare.views import View
from carerl.report.compare.whole import compare
from carerl.text.printable import printable
from carerl.text.terminal import command


@dataclass(frozen=True)
class Options:
    """The options of ``carerl compare``. ``baseline``: a row's name; ``""`` for the row without a penalty."""

    out: str = cli.option("compare", local)
    baseline: str = cli.option("")


def main(words: Sequence[str] | None = None) -> int:
    """Runs the command. Returns its exit code."""
    return cli.answer(words, _compare, __doc__ or "", bare=True)


def _compare(words: list[str]) -> int:
    options, given = cli.read(words, Options, "compare RUN…")
    paths, out = [local("RUN", path) for path in given], Path(options.out or "compare")
    check_writable("out", out)
    try:
        compared = compare(paths, out, options.baseline)
    except (ValueError, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        print(f"compare: {printable('; '.join(lines))}", file=sys.stderr)
        return 2
    _show(compared.comparison, compared.views)
    texts = [path for path in compared.written if path.parent == out]
    figures = len(compared.written) - len(texts)
    print(printable(f"written: {', '.join(map(str, texts))}; {figures} pictures in {out / FIGURES}"))
    return 0


def _show(comparison: Comparison, beside: Sequence[View]) -> None:
    """Prints the tables, their notes, and what is missing from them."""
    terminal = sys.stdout.isatty()
    width = shutil.get_terminal_size().columns if terminal else 400
    console = Console(width=width, highlight=False, markup=False, emoji=False)  # names of runs are text
    tables, first = terminal_tables(comparison, width), len(main_tables(comparison))
    main, paired = tables[:first], tables[first:]
    for tables, lines in ((main, notes(comparison)), (paired, difference_notes(comparison))):
        for shown in tables:
            console.print(shown)
        for line in lines:
            console.print(printable(line), style="bright_black")
        if paired:
            console.print()
    for view in beside:
        if not view.tables:
            console.print(printable(view.title), style="bold")
        for table in view.tables:
            console.print(terminal_table(table))
        for line in view.notes:
            console.print(printable(line), style="bright_black")
        console.print()
    for words, reason in comparison.absent:
        console.print(printable(f"absent: {words} ({reason})"), style="yellow")
    for name, reason in comparison.left_out:
        console.print(printable(f"left out: {name} ({reason})"), style="yellow")


if __name__ == "__main__":
    sys.exit(command(main))
