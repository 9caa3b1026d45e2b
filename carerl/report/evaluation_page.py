"""Writes report.html of an evaluation by itself (``carerl evaluate``): one file, no network, light and dark."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from carerl.calibration import ESTIMATORS, reliability_bins
from carerl.metrics.table import format_number, shown_in, suite_column, suite_label
from carerl.report.decoding import decoding_section
from carerl.report.evaluation_table import (
    Lines,
    ScaledLines,
    cell_text,
    evaluation_rows,
    interval_words,
    scaled_rows,
    with_intervals,
)
from carerl.report.pictures.evaluation import OUTCOMES, coverage_lines, decision_bars, outcome_bars
from carerl.report.pictures.reliability import reliability
from carerl.report.posthoc import MAJORITY, Rescaled, kind_of, rescale
from carerl.report.render import badges, render, sampling_words
from carerl.runs.decoded import read_decoded
from carerl.runs.directory import RunDirectory
from carerl.runs.files import write_text
from carerl.runs.questions import Asked, reported
from carerl.runs.redaction import redact
from carerl.runs.tables import read_chosen, read_sample_texts
from carerl.tasks.decided import BINS
from carerl.tasks.text_metrics import PER_SAMPLE

SHOWN = 4  # samples of a kind
ROOM = 5  # benchmarks that have room beside each other with their intervals behind the figures
TEXT_LIMIT = 700  # characters of a prompt or response: what it begins and what it ends with
ESTIMATOR_WORDS: dict[str, str] = {
    "majority": "majority: the majority's share of the votes",
    "mean": "mean: each sample's own share of the votes",
    "answer_prob": "answer_prob: probability of the option that it names",
    "argmax": "argmax: probability of the likeliest option, which is the answer",
    "sequence": "sequence: length-normalised likelihood",
    "verbalized": "verbalized: the confidence stated",
}
# of the estimators whose answers are not the samples' own: where the share of right answers stands
ACCURACY = {MAJORITY: "eval/{suite}/maj", "argmax": "eval/{suite}/argmax_accuracy"}
Row = Mapping[str, Any]


def write_evaluation_report(run_directory: str | Path | RunDirectory) -> Path:
    """Reads the evaluation of step 0 back and writes report.html beside it; returns its path. The same directory gives
    the same page, byte for byte. The page of an evaluation that has not ended says so."""
    run = run_directory if isinstance(run_directory, RunDirectory) else RunDirectory(run_directory)
    config, summary = run.read_config(), run.read_summary() or {}
    model = redact(str((config.get("model") or {}).get("path") or summary.get("model") or ""))
    page = render(
        "evaluation.html.j2",
        title=f"{config.get('recipe') or summary.get('recipe') or run.name} · evaluation",
        subtitle=model if model else run.name,
        badges=badges(run, summary, []),
        config_text=yaml.safe_dump(redact(config), sort_keys=False, allow_unicode=True) if config else "",
        versions=[(name, value) for name, value in run.read_versions().items() if value is not None],
        **_contents(run, config),
    )
    write_text(run.report, page)
    return run.report


def _contents(run: RunDirectory, config: Row) -> dict[str, Any]:
    chosen = read_chosen(run.evaluations, base=True)
    if chosen is None:
        return {"ended": False}
    record, questions = chosen
    shown = reported(questions, record.get("reliability") or {})
    try:
        scaled = rescale(questions, shown, repeats=2) or []
    except ValueError:
        scaled = []
    record = with_intervals(record, questions, config)
    suites, lines = evaluation_rows(record, config)
    more, words = scaled_rows(record, questions, config)
    answered = {suite: found for suite, found in shown.items() if found.answered != 0}
    shares = outcome_shares(questions)
    return {
        "ended": True,
        "suites": [name or "all" for name in suites],
        "lines": _beside(lines, more),
        "notes": _notes(record, questions, words),
        "outcomes": outcome_bars({suite_label(s): of for s, of in shares.items()}) if shares else None,
        "reliability": _reliability(answered, scaled),
        "coverage": coverage_lines({suite_label(suite): found for suite, found in answered.items()})
        if answered
        else None,
        "decisions": decision_bars(histograms) if (histograms := decision_shares(record["metrics"])) else None,
        "silent": [suite_label(suite) for suite in shown if suite not in answered],
        "narrow": len(suites) > ROOM,
        "estimators": estimators(record, list(answered)),
        "estimator_columns": [suite_column(kind).label_in("column") for kind in PER_SAMPLE],
        "decoding": decoding_section(record, read_decoded(run.evaluations, record["step"])),
        "samples": samples(read_sample_texts(run.evaluations, record["step"]), questions),
    }


def _beside(lines: Lines, scaled: ScaledLines) -> list[tuple[str, list[str], bool]]:
    """Returns label, cells, and True for a line after post-hoc calibration, which stands under the line that it
    changes."""
    made: list[tuple[str, list[str], bool]] = [(label, cells, False) for label, cells in lines]
    rows = {metric.label_in("column"): metric.label_in("evaluation") for metric in shown_in("column")}
    last: dict[str, int] = {}  # by the line that is changed, how many stand under it already
    for plain, label, cells in scaled:
        named = rows.get(plain, plain)
        place = next((number for number, line in enumerate(made) if line[0] == named), len(made) - 1)
        below = last[named] = last.get(named, 0) + 1
        made.insert(place + below, (label, cells, True))
    return made


def _notes(record: Row, questions: Sequence[Row], words: Sequence[str]) -> list[str]:
    counts = dict.fromkeys(dict.fromkeys(str(row.get("suite")) for row in questions), 0)
    for row in questions:
        counts[str(row.get("suite"))] += 1
    lines = ["Asked: " + ", ".join(f"{count:,} of {suite_label(suite)}" for suite, count in counts.items()) + "."]
    if settings := record.get("sampling") or {}:
        lines.append(f"Sampled at {sampling_words(settings)}.")
    if record.get("intervals"):
        lines.append(f"{interval_words(record)}. They say nothing of another training seed.")
    return [*lines, *(line if line.endswith(".") else f"{line}." for line in words)]


def outcome_shares(questions: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Returns, by suite, the share of its samples with each outcome."""
    counts: dict[str, dict[str, int]] = {}
    for row in questions:
        of_suite = counts.setdefault(str(row.get("suite")), dict.fromkeys(OUTCOMES, 0))
        for outcome in OUTCOMES:
            of_suite[outcome] += int(row.get(outcome) or 0)
    return {
        suite: {outcome: count / sum(found.values()) for outcome, count in found.items()}
        for suite, found in counts.items()
        if sum(found.values())
    }


def decision_shares(metrics: Mapping[str, float]) -> dict[str, list[float]]:
    """Maps a benchmark with decisions to its histogram of p(decision)."""
    line, found = shown_in("parts/decision_bins")[0].name, {}
    for suite in dict.fromkeys(name.split("/")[1] for name in metrics if name.count("/") == 2):
        shares = [metrics.get(line.format(suite=suite, n=n)) for n in range(BINS)]
        if None not in shares:
            found[suite_label(suite)] = [share for share in shares if share is not None]
    return found


def _reliability(answered: Mapping[str, Asked], scaled: Sequence[Rescaled]) -> list[dict[str, str]]:
    """Draws a diagram for each suite: by its votes and, where it can be fitted, after each scaler."""
    panels = []
    for suite, found in answered.items():
        states = {"share of the votes": _bins(found, found.confidence)}
        for one in scaled:
            if one.fit.estimator == MAJORITY:
                states[one.fit.scaler.sign] = _bins(found, one.confidence[suite])
        svg = reliability(suite, states)
        if svg:
            note = f"{len(found.ids):,} questions"
            note += f", {found.votes} votes each" if found.votes else ""
            panels.append({"title": suite_label(suite), "note": note, "svg": svg})
    return panels


def _bins(found: Asked, confidence: Any) -> list[dict[str, float]]:
    return [vars(b) for b in reliability_bins(confidence, found.right)]


def estimators(record: Row, suites: Sequence[str]) -> list[tuple[str, list[tuple[str, list[str]]]]]:
    """Maps a benchmark to a line for each estimator of confidence that it was measured by."""
    metrics, intervals = record["metrics"], record.get("intervals") or {}
    made = []
    for suite in suites:
        lines = []
        for estimator in ESTIMATORS:
            names = [f"calibration/{suite}/{kind_of(estimator, kind)}" for kind in PER_SAMPLE]
            if estimator in ACCURACY:
                names[0] = ACCURACY[estimator].format(suite=suite)
            if any(name in metrics for name in names[1:]):
                cells = [cell_text(name, metrics.get(name), intervals.get(name)) for name in names]
                lines.append((ESTIMATOR_WORDS[estimator], cells))
        if len(lines) > 1:
            made.append((suite_label(suite), lines))
    return made


def samples(rows: Sequence[Row], questions: Sequence[Row]) -> list[tuple[str, list[dict[str, str]]]]:
    """Maps a kind to a few samples of it, the most confident first, from one benchmark after the other. Confidence is
    the share of a question's samples that gave the majority answer, and the sample is one of those."""
    judged = {(row.get("suite"), row.get("example_id")): row for row in questions}
    kinds: dict[str, Callable[[Row, Row], bool]] = {
        "Right and confident": lambda s, q: s["outcome"] == "correct" and q["right"] == 1,
        "Wrong and confident": lambda s, q: s["outcome"] == "wrong" and q["right"] == 0 and _of_majority(s, q),
        "Abstained": lambda s, q: s["outcome"] == "abstained",
        "Cut off before an answer": lambda s, q: s["outcome"] == "truncated",
        "No answer found": lambda s, q: s["outcome"] == "unparsed",
    }
    made = []
    for kind, is_one in kinds.items():
        found: dict[str, dict[str, tuple[Row, Row]]] = {}
        for sample in rows:
            question = judged.get((sample["suite"], sample["example_id"]))
            if question is not None and is_one(sample, question):
                found.setdefault(sample["suite"], {}).setdefault(sample["example_id"], (sample, question))
        ranked = [sorted(of.values(), key=lambda pair: -(pair[1].get("confidence") or 0)) for of in found.values()]
        turns = [pair for turn in range(SHOWN) for of in ranked for pair in of[turn : turn + 1]]
        if turns:
            made.append((kind, [_sample(*pair) for pair in turns[:SHOWN]]))
    return made


def _of_majority(sample: Row, question: Row) -> bool:
    """Tells whether a wrong answer is the one that won the vote; spellings that were merged count as it."""
    answers = question.get("answers")
    answer = answers[sample["sample"]] if answers else sample["answer"]
    return answer is not None and answer == question.get("majority")


def _sample(sample: Row, question: Row) -> dict[str, str]:
    shown = {name: _cut(sample.get(name)) for name in ("prompt", "response", "answer", "gold")}
    return shown | {
        "suite": suite_label(str(sample["suite"])),
        "confidence": format_number(question.get("confidence"), 2),
        "tokens": str(sample.get("tokens") or ""),
    }


def _cut(value: Any) -> str:
    """Keeps the beginning and the end of a long text: a response ends in its answer."""
    text = "–" if value is None else str(value)
    half = TEXT_LIMIT // 2
    return (
        text if len(text) <= TEXT_LIMIT else f"{text[:half]}\n … {len(text) - 2 * half:,} characters …\n{text[-half:]}"
    )
