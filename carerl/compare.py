"""Compare runs: tables over seeds, and one page of accuracy against calibration.

    python -m carerl.compare RUN… [out=DIR] [baseline=NAME]

RUN is a run directory, one of carerl.evaluate's, a pattern, or a directory with runs below it (such as a sweep's).
Writes compare.html (one file, no network), compare.csv, compare.md, compare.tex (booktabs), provenance.csv and
differences.csv into DIR (default: compare), and every picture as SVG and PNG below DIR/figures.

Runs on text benchmarks make the paper's table (MATH, GSM8K, SelfAware, TruthfulQA, ECE), others the tiny world's. Runs
that differ in alpha or beta only are joined to a curve; further tables hold beta, the divergence reached, or the tokens
generated equal. Cells that a sweep was asked for and that have no result are listed with the reason. Stars mark
differences from the baseline, and a second table has the differences with their one-sided 95 % bounds. The baseline is
named by a row's label, recipe or regularizer; by default it is the row whose regularizer is none.

Under each row stands the same after temperature scaling, fitted on the run's own validation suite, where it has one
(task.validation_questions). Where a row and its baseline are one run each, intervals and paired differences are over
the questions that both were asked.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from carerl.config.check.places import check_writable
from carerl.config.reading.paths import local
from carerl.report.compare.comparison import Comparison
from carerl.report.compare.page import FIGURES, terminal_table, terminal_tables, write_comparison
from carerl.report.compare.rows import ComparisonError
from carerl.report.compare.tables import difference_notes, main_tables, notes
from carerl.report.compare.views import views
from carerl.runs.find import find_runs, find_sweeps, read_run
from carerl.runs.sweep_file import read_cells
from carerl.text.printable import printable
from carerl.text.terminal import command

OPTIONS = ("out", "baseline")


def main(arguments: Sequence[str] | None = None) -> int:
    """0: compared; 2: nothing to compare, or an argument that makes no sense."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help"} & set(arguments):
        print(__doc__.strip() if __doc__ else "")
        return 0
    try:
        paths, options = _parse(arguments)
        out = Path(options.get("out") or "compare")
        check_writable("out", out)
        cells = [cell for sweep in find_sweeps(paths) for cell in read_cells(sweep)]
        runs = [read_run(path) for path in find_runs(paths)]
        comparison = Comparison.of(runs, options.get("baseline", ""), cells)
        beside = views(comparison)
        written = write_comparison(comparison, beside, out)
    except (ValueError, OSError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        print(f"compare: {printable('; '.join(lines))}", file=sys.stderr)
        return 2
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
    texts = [path for path in written if path.parent == out]
    figures = len(written) - len(texts)
    console.print(printable(f"written: {', '.join(map(str, texts))}; {figures} pictures in {out / FIGURES}"))
    return 0


def _parse(arguments: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    paths: list[str] = []
    options: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if equals and name in OPTIONS:
            options[name] = local(name, value) if name == "out" else value
        elif argument.startswith("-") or (equals and not Path(argument).exists() and "/" not in name):
            raise ComparisonError(
                f"{argument}: unknown option; there are {', '.join(f'{o}=' for o in OPTIONS)} and --help"
            )
        else:
            paths.append(local("RUN", argument))
    if not paths:
        raise ComparisonError("name at least one run, pattern or directory; --help says more")
    return paths, options


if __name__ == "__main__":
    sys.exit(command(main))
