"""Writes report.html: one run as one page that needs no network, in light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from carerl.metrics.table import format_number, metric_line, shown_in, summary_rows
from carerl.report.pictures.curves import coefficient_histogram, curve, panels, time_split
from carerl.report.pictures.reliability import reliability
from carerl.report.render import badges, render, sampling_words
from carerl.runs.directory import RunDirectory
from carerl.runs.files import write_text
from carerl.runs.jsonl import read_metrics
from carerl.runs.redaction import redact
from carerl.runs.tables import read_evaluations, read_question_counts, read_rollouts

SAMPLES = 4  # rollouts shown of each kind, right and not
TEXT_LIMIT = 600  # characters shown of a prompt or response
SETTINGS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("algorithm", ("algorithm.name", "algorithm.group_size", "algorithm.minibatches")),
    ("regularizer", ("regularizer.name", "regularizer.beta", "regularizer.alpha", "regularizer.estimator")),
    ("task", ("task.name",)),
    ("model", ("model.path", "model.base_recipe")),
    ("steps", ("steps", "prompts_per_step")),
    ("optimizer", ("learner.optimizer.lr", "learner.schedule.name")),
    ("rollout", ("rollout.engine", "rollout.temperature", "rollout.max_new_tokens")),
    ("evaluation", ("evaluation.samples", "evaluation.temperature")),
)


def write_report(run_dir: str | Path | RunDirectory) -> Path:
    """Reads a run directory back and writes its report.html; returns the path.

    A run that is not finished has a page, too, without the missing parts. The same directory gives the same page, byte
    for byte.
    """
    run = run_dir if isinstance(run_dir, RunDirectory) else RunDirectory(run_dir)
    config = run.read_config()
    summary = run.read_summary() or {}
    rows = read_metrics(run.metrics)
    evaluations = read_evaluations(run.evaluations)
    questions = read_question_counts(run.evaluations)
    base, final = _base_and_final(summary, evaluations)
    step, samples = _samples(run)
    recipe, seed = (config.get(name) or summary.get(name, "") for name in ("recipe", "seed"))
    page = render(
        "report.html.j2",
        title=f"{recipe or run.name} · seed {seed}",
        subtitle=config.get("description") or run.name,
        badges=badges(run, summary, rows),
        verdict=verdict(base, final),
        summary=_summary(base, final),
        summary_notes=_summary_notes(base, final, evaluations, questions),
        settings=_settings(config),
        config_text=yaml.safe_dump(redact(config), sort_keys=False, allow_unicode=True) if config else "",
        versions=[(name, value) for name, value in run.read_versions().items() if value is not None],
        reliability=_reliability(evaluations),
        curves=_curves(rows, questions),
        samples=samples,
        samples_step=step,
    )
    write_text(run.report, page)
    return run.report


def verdict(base: Mapping[str, float], final: Mapping[str, float]) -> str:
    """Says how accuracy and trust changed, in one or two sentences made from the numbers."""
    if not base or not final:
        return ""
    moved = [_moved(metric.name, metric.label_in("verdict"), base, final) for metric in shown_in("verdict")]
    text = "; ".join(sentence for sentence in moved if sentence is not None)
    before, after = base.get("eval/entropy"), final.get("eval/entropy")
    if before and after is not None:
        text += f"{'; ' if text else ''}entropy is {100 * after / before:.0f} % of the base's"
    return text + "." if text else ""


def _moved(name: str, label: str, base: Mapping[str, float], final: Mapping[str, float]) -> str | None:
    before, after = base.get(name), final.get(name)
    if before is None or after is None:
        return None
    line = metric_line(name)
    first, last = format_number(before, line.digits), format_number(after, line.digits)
    if first == last:
        return f"{label} stayed at {last}"
    direction = "rose" if after > before else "fell"
    judged = "" if (after > before) == (line.better > 0) else " (worse)"
    return f"{label} {direction} from {first} to {last}{judged}"


def _base_and_final(
    summary: Mapping[str, Any], evaluations: Sequence[Mapping[str, Any]]
) -> tuple[dict[str, float], dict[str, float]]:
    """Returns the summary's metrics; those of the first and last evaluation, if the run has not finished."""
    base, final = dict(summary.get("base") or {}), dict(summary.get("final") or {})
    if not base and evaluations and evaluations[0]["step"] == 0:
        base = dict(evaluations[0].get("metrics") or {})
    if not final and evaluations and evaluations[-1]["step"] > 0:
        final = dict(evaluations[-1].get("metrics") or {})
    return base, final


def _summary(base: Mapping[str, float], final: Mapping[str, float]) -> list[dict[str, str]]:
    shown = []
    for name, before, after in summary_rows(base, final):
        line = metric_line(name)
        change = None if before is None or after is None else after - before
        text = format_number(change, line.digits, sign=True)
        gain = line.better * round(change or 0.0, line.digits)
        shown.append(
            {
                "label": line.label,
                "base": format_number(before, line.digits),
                "after": format_number(after, line.digits),
                "change": text,
                "tone": "good" if gain > 0 else "bad" if gain < 0 else "",
            }
        )
    return shown


def _summary_notes(
    base: Mapping[str, float],
    final: Mapping[str, float],
    evaluations: Sequence[Mapping[str, Any]],
    questions: Mapping[int, int],
) -> list[str]:
    """Says what a reader must know to read the table: the sampling, whether it was alike, and what the rows mean."""
    notes = []
    if evaluations and (settings := evaluations[-1].get("sampling") or {}):
        notes.append(f"Evaluated at {sampling_words(settings)}.")
    if evaluations:
        first, last = (questions.get(record["step"]) for record in (evaluations[0], evaluations[-1]))
        if first and last and first != last:
            notes.append(
                f"The last evaluation asked {last:,} questions, the first {first:,}: their ECEs cannot be compared, "
                "as an ECE tends to be higher on fewer questions."
            )
    return notes + [note for name, _, _ in summary_rows(base, final) if (note := metric_line(name).note)]


def _settings(config: Mapping[str, Any]) -> list[tuple[str, str]]:
    shown = []
    for title, keys in SETTINGS:
        parts = []
        for key in keys:
            value: Any = config
            for part in key.split("."):
                value = value.get(part) if isinstance(value, Mapping) else None
            if value is None or value == "":
                continue
            last = key.rsplit(".", 1)[-1]
            parts.append(str(value) if last in ("name", "steps", "path") else f"{last.replace('_', ' ')} {value}")
        if parts:
            shown.append((title, redact(", ".join(parts))))
    return shown


def _reliability(evaluations: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Draws base against final for every name that either has; one state if there is only one evaluation."""
    if not evaluations:
        return []
    first, last = evaluations[0], evaluations[-1]
    panels = []
    for name in dict.fromkeys([*(first.get("reliability") or {}), *(last.get("reliability") or {})]):
        states = {}
        for record in (first, last) if last is not first else (first,):
            label = "base" if record["step"] == 0 else f"step {record['step']}"
            states[label] = (record.get("reliability") or {}).get(name) or []
        svg = reliability(name, states)
        if svg:
            counts = ", ".join(f"{state}: n = {sum(b['count'] for b in bins):,g}" for state, bins in states.items())
            panels.append({"title": name, "note": counts, "svg": svg})
    return panels


def _curves(rows: list[dict[str, float]], questions: Mapping[int, int]) -> list[dict[str, str]]:
    """Draws the curves. ``questions``: how many each evaluation asked, by step."""
    most = max(questions.values(), default=0)
    fewer = {step: asked for step, asked in questions.items() if asked < most}
    shown = []
    for panel in panels():
        svg = curve(panel, rows, fewer)
        if svg:
            note = panel.note
            if panel.biased and fewer:
                asked = "–".join(f"{count:,}" for count in sorted({min(fewer.values()), max(fewer.values())}))
                note += (
                    f" Hollow: {asked} of {most:,} questions. An ECE tends to be higher on fewer, so compare hollow "
                    "points with hollow ones only."
                )
            shown.append({"title": panel.title, "note": note, "svg": svg})
    histogram = coefficient_histogram(rows)
    if histogram:
        note = (
            "Shares of sampled tokens, logarithmic. Above 0 the penalty lowers a token's probability, below 0 it "
            "raises it. Means over the first and the last tenth of the steps."
        )
        shown.append({"title": "What the penalty asks of tokens", "note": note, "svg": histogram})
    split = time_split(rows)
    if split:
        shown.append({"title": "A step's time", "note": "Seconds; running median.", "svg": split})
    return shown


def _samples(run: RunDirectory) -> tuple[int | None, list[dict[str, str]]]:
    """Returns the first few right and the first few other samples of the last rollout table, one per question."""
    tables = sorted(run.rollouts.glob("step_*.parquet"))
    if not tables:
        return None, []
    rows = read_rollouts(tables[-1])
    chosen: list[dict[str, Any]] = []
    for wanted in (True, False):
        seen: set[Any] = set()
        for row in rows:
            if bool(row.get("correct")) is wanted and row.get("example_id") not in seen and len(seen) < SAMPLES:
                seen.add(row.get("example_id"))
                chosen.append(row)
    step = rows[0].get("step") if rows else None
    return step, [_sample(row) for row in chosen]


def _sample(row: Mapping[str, Any]) -> dict[str, str]:
    shown = {name: _cut(row.get(name)) for name in ("outcome", "prompt", "response", "answer", "gold")}
    shown |= {name: format_number(row.get(name), 2) for name in ("reward", "advantage", "mean_logprob")}
    shown["tone"] = "good" if row.get("correct") else "bad"
    return shown


def _cut(value: Any) -> str:
    text = "–" if value is None else str(value)
    return text if len(text) <= TEXT_LIMIT else text[:TEXT_LIMIT] + " …"
