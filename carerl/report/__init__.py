"""Shows a finished run or evaluation: pages, tables and pictures.

``run_page`` writes report.html of a run, ``profile`` says where its time went. ``evaluation_page`` writes report.html
of an evaluation by itself, ``evaluation_table`` prints the same on the terminal, and ``rollout_pages`` prints a step's
responses. ``posthoc`` calibrates afterwards, ``render`` fills in templates, ``smoothing`` smooths courses.
``compare/`` compares many runs, ``pictures/`` draws.

matplotlib and jinja2 are imported by the functions that need them, so that a run without a report loads neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from carerl.runs.directory import RunDirectory

__all__ = ["reliability_pictures", "write_evaluation_report", "write_report"]


def write_report(run_dir: str | Path | RunDirectory) -> Path:
    """Writes a run's report.html; see :func:`carerl.report.run_page.write_report`."""
    from carerl.report.run_page import write_report as write  # matplotlib and jinja2 take a second to load

    return write(run_dir)


def write_evaluation_report(run_directory: str | Path | RunDirectory) -> Path:
    """Writes an evaluation's report.html; see :func:`carerl.report.evaluation_page.write_evaluation_report`."""
    from carerl.report.evaluation_page import write_evaluation_report as write

    return write(run_directory)


def reliability_pictures(evaluation: Path) -> Mapping[str, bytes]:
    """Returns PNGs by suite; see :func:`carerl.report.pictures.reliability.reliability_pictures`."""
    from carerl.report.pictures.reliability import reliability_pictures as draw

    return draw(evaluation)
