"""Fills in the templates of pages, and makes the parts that pages of runs and of evaluations share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from carerl.metrics.table import clock
from carerl.runs.directory import RunDirectory


def render(template: str, **values: Any) -> str:
    """Fills in a template of ``carerl/report/templates``; everything but finished SVG is escaped."""
    environment = Environment(
        loader=PackageLoader("carerl.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    css = (Path(__file__).parent / "templates" / "style.css").read_text()
    text = environment.get_template(template).render(css=css, **values) + "\n"
    return text.encode("utf-8", "replace").decode()  # JSON can hold halves of a character, which no file can


def badges(run: RunDirectory, summary: Mapping[str, Any], rows: Sequence[Mapping[str, float]]) -> list[str]:
    """Returns the facts at a page's top: status, steps, time, commit and name of the run."""
    shown = [str(summary.get("status", "not finished"))]
    steps = summary.get("steps") or (int(max(row["step"] for row in rows)) if rows else None)
    if steps is not None:
        shown.append(f"{steps} steps")
    if summary.get("seconds") is not None:
        shown.append(clock(summary["seconds"]))
    commit = run.read_versions().get("commit")
    if commit:
        shown.append(f"commit {str(commit)[:10]}{' + changes' if run.read_versions().get('dirty') else ''}")
    shown.append(run.name)
    return shown


def sampling_words(settings: Mapping[str, Any]) -> str:
    """Puts the settings of an evaluation's sampling into words; top-p and top-k only where they cut.

    >>> sampling_words({"every": 50, "samples": 16, "temperature": 1.0, "top_p": 1.0, "top_k": -1, "seed": 12345})
    'temperature 1, 16 samples per question, seed 12345'
    """
    words = {
        "temperature": "temperature {:g}",
        "top_p": "top-p {:g}",
        "top_k": "top-k {}",
        "samples": "{} samples per question",
        "seed": "seed {}",
    }
    idle = {"top_p": 1.0, "top_k": -1}
    shown = [name for name in words if settings.get(name) is not None and settings[name] != idle.get(name)]
    return ", ".join(words[name].format(settings[name]) for name in shown)
