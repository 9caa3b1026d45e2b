"""What a finished run or evaluation looks like: pages, tables and pictures.

``run_page`` writes report.html of a run (``profile``: where its time went), ``evaluation_page`` that of an evaluation
by itself (``evaluation_table``: the same for the terminal), ``rollout_pages`` shows a step's responses there.
``compare/`` joins many runs, ``pictures/`` draws.

matplotlib and jinja2 are imported by the functions that need them: a run that shows a plain line loads neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from carerl.runs.directory import RunDirectory

__all__ = ["reliability_pictures", "write_evaluation_report", "write_report"]


def write_report(run_dir: str | Path | RunDirectory) -> Path:
    """Write a run's report.html; see :func:`carerl.report.run_page.write_report`."""
    from carerl.report.run_page import write_report as write  # matplotlib and jinja2 take a second to load

    return write(run_dir)


def write_evaluation_report(run_directory: str | Path | RunDirectory) -> Path:
    """Write an evaluation's report.html; see :func:`carerl.report.evaluation_page.write_evaluation_report`."""
    from carerl.report.evaluation_page import write_evaluation_report as write

    return write(run_directory)


def reliability_pictures(evaluation: Path) -> Mapping[str, bytes]:
    """Return PNGs by suite; see :func:`carerl.report.pictures.evaluation.reliability_pictures`."""
    from carerl.report.pictures.evaluation import reliability_pictures as draw

    return draw(evaluation)
