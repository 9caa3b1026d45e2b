"""What a run leaves behind and what a person sees: trackers, display, tables, plots, pages.

=================== ==================================================================
module              holds
=================== ==================================================================
``run_directory``   one directory per run: its name, paths and lock
``jsonl``           metrics.jsonl, written and read back
``wandb_tracker``   Weights & Biases in a background thread (``wandb_content``: what goes along beside metrics)
``redaction``       what may leave the machine
``dashboards``      the W&B workspace and report that compare regularizers
``gauges``          metrics as Prometheus gauges
``trackers``        the protocol, and the fan-out over them
``records``         rollout tables and evaluations on disk (``samples``: what an evaluation sampled)
``display``         plain and quiet displays; ``live``: the live panel
``metric_names``    every metric that a run logs, with unit and meaning
``metric_table``    label, format and direction of those that tables show
``summary``         the end table, base → after (``evaluation_table``: of one model by itself)
``html``            report.html (``plots``, ``svg``: its pictures)
``evaluation_page`` report.html of an evaluation by itself (``evaluation_plots``: its pictures)
``questions``       an evaluation's questions as arrays, and intervals over them
``comparison``      runs grouped over seeds (``row_labels``; ``run_files``, ``sweep_file``: found and read from disk)
``evaluated``       the evaluations behind a comparison's rows (``question_differences``: two of them, paired)
``calibration_rows`` calibration of each row, before and after temperature scaling
``frontier``        curves over alpha and beta, and what they have in common (``trajectories``: over tokens)
``views``           what is held equal: beta, divergence, tokens (``frontier_plots``, ``labels``: the pictures)
``side_by_side``    reliability, coverage, right against wrong, method by method (``side_by_side_plots``)
``figures``         all pictures of a comparison (``scatter``: accuracy against calibration)
``compare_page``    a comparison as page and directory (``compare_tables``, ``compare_files``, ``provenance``)
``rollout_pages``   a step's responses for the terminal
=================== ==================================================================

matplotlib, jinja2, pyarrow and wandb are imported by the modules and functions that need them, so that
a run that shows a plain line loads none of them.
"""

from __future__ import annotations

from pathlib import Path

from carerl.report.display import Display, make_display
from carerl.report.jsonl import JsonlTracker, read_metrics
from carerl.report.records import write_evaluation, write_rollouts
from carerl.report.run_directory import RunDirectory, RunDirectoryError
from carerl.report.samples import SampleStore
from carerl.report.summary import print_summary, summary_table, summary_text
from carerl.report.trackers import Tracker, Trackers, make_trackers
from carerl.report.wandb_tracker import WandbTracker

__all__ = [
    "Display",
    "JsonlTracker",
    "RunDirectory",
    "RunDirectoryError",
    "SampleStore",
    "Tracker",
    "Trackers",
    "WandbTracker",
    "make_display",
    "make_trackers",
    "print_summary",
    "read_metrics",
    "summary_table",
    "summary_text",
    "write_evaluation",
    "write_evaluation_report",
    "write_report",
    "write_rollouts",
]


def write_report(run_dir: str | Path | RunDirectory) -> Path:
    """Write a run's report.html; see :func:`carerl.report.html.write_report`."""
    from carerl.report.html import write_report as write  # matplotlib and jinja2 take a second to load

    return write(run_dir)


def write_evaluation_report(run_directory: str | Path | RunDirectory) -> Path:
    """Write an evaluation's report.html; see :func:`carerl.report.evaluation_page.write_evaluation_report`."""
    from carerl.report.evaluation_page import write_evaluation_report as write

    return write(run_directory)
