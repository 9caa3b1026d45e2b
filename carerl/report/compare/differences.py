"""Two runs on the same questions: what the one does better, with intervals that use the pairing.

For rows of one run each, where differences over seeds cannot be had. Questions are the same if suite, id, and a hash of
prompt and gold answer agree. Where an evaluation's samples, and with them its prompts, were not kept, the gold answer
alone is compared; then ids are trusted only if every question that two evaluations name alike has one gold answer, as
other data under the same ids would show in some of them.

Stars: Holm over all tests of all these tables together, as they are read together. They are about these questions and
these two runs: another seed of either can differ by more.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from carerl.calibration import Estimate, Judged, holm, paired_differences
from carerl.metrics.table import format_number, suite_column, suite_label
from carerl.report.compare.evaluated import Evaluated
from carerl.report.compare.rows import LEVEL, Comparison, Row
from carerl.report.compare.tables import TextTable
from carerl.runs.questions import Asked
from carerl.runs.tables import read_prompts

REPEATS = 10_000  # of bootstrap and simulation, so that p can be small enough for Holm's correction
COLUMNS = ("accuracy", "ece_debiased", "brier", "auroc")


Keys = dict[tuple[str, str], str]  # (suite, question) -> hash


@dataclass(frozen=True, slots=True)
class Matched:
    """Which questions of one suite two runs share. ``alone``, ``other_alone``: those that only the one, or only the
    other has; ``changed``: those of both by their ids, but with another prompt or gold answer."""

    ids: tuple[str, ...]
    alone: int
    other_alone: int
    changed: int


@dataclass(slots=True)
class Difference:
    """A row against its baseline on one suite: row − baseline by metric. ``p_holm``: corrected."""

    row: Row
    baseline: Row
    suite: str
    matched: Matched
    estimates: dict[str, Estimate]
    p_holm: dict[str, float] = field(default_factory=dict)

    def starred(self, metric: str) -> bool:
        return self.p_holm.get(metric, 1.0) < LEVEL


def question_differences(comparison: Comparison, evaluated: Mapping[str, Sequence[Evaluated]]) -> list[Difference]:
    """Of every row of one run whose baseline is of one run, suite by suite; empty where there is none."""
    alone = {row.label: row for row in comparison.rows if not row.is_base and len(row.runs) == 1}
    pairs = [(row, alone[row.baseline]) for row in alone.values() if row.baseline in alone]
    found = []
    for row, against in pairs:
        if row.label in evaluated and against.label in evaluated:
            found += _between(row, against, evaluated[row.label][0], evaluated[against.label][0])
    tests = [(one, name, e.p) for one in found for name, e in one.estimates.items() if e.p is not None]
    for (one, name, _), corrected in zip(tests, holm([p for _, _, p in tests]), strict=True):
        one.p_holm[name] = float(corrected)
    return found


def _between(row: Row, against: Row, mine: Evaluated, theirs: Evaluated) -> list[Difference]:
    prompts = [read_prompts(one.run.path / "evaluations", one.step) for one in (mine, theirs)]
    kept = all(prompts)
    hashed = [keys(one, found if kept else {}) for one, found in zip((mine, theirs), prompts, strict=True)]
    matched = match(hashed[0], hashed[1], kept)
    found = []
    for suite, shared in matched.items():
        if suite in mine.reported and suite in theirs.reported:
            pair = _only(mine.reported[suite], shared.ids), _only(theirs.reported[suite], shared.ids)
            found.append(Difference(row, against, suite, shared, _estimates(*pair) if shared.ids else {}))
    return found


def keys(one: Evaluated, prompts: Mapping[tuple[str, str], tuple[str, str]]) -> Keys:
    """A hash of prompt and gold answer for every (suite, question); of the gold answer alone without ``prompts``."""
    found = {}
    for question in one.questions:
        name = str(question.get("suite")), str(question.get("example_id"))
        prompt, gold = prompts.get(name, ("", question.get("gold")))
        found[name] = hashlib.sha256(f"{prompt}\x00{gold}".encode()).hexdigest()
    return found


def match(mine: Keys, theirs: Keys, with_prompts: bool) -> dict[str, Matched]:
    """By suite that both have. Without prompts one changed gold answer makes every question of both a changed one."""
    common = mine.keys() & theirs.keys()
    changed = {name for name in common if mine[name] != theirs[name]}
    if changed and not with_prompts:
        changed = common
    found = {}
    for suite in dict.fromkeys(name[0] for name in mine if name in common):
        ids = tuple(name[1] for name in mine if name in common and name not in changed and name[0] == suite)
        alone, other_alone = (sum(n[0] == suite and n not in common for n in asked) for asked in (mine, theirs))
        found[suite] = Matched(ids, alone, other_alone, sum(name[0] == suite for name in changed))
    return found


def _only(found: Asked, ids: Sequence[str]) -> Asked:
    place = {name: number for number, name in enumerate(found.ids)}
    index = [place[name] for name in ids]
    accuracy = None if found.accuracy is None else found.accuracy[index]
    return Asked(tuple(ids), found.confidence[index], found.right[index], accuracy, found.answered, found.votes)


def _estimates(mine: Asked, theirs: Asked) -> dict[str, Estimate]:
    """Accuracy over all samples (of the majority, where right is a probability), the rest of the majority's
    confidence."""
    places = np.arange(len(mine.ids))
    shares = [run.accuracy if run.binary else run.right for run in (mine, theirs)]
    judged = [Judged(share, share, mine.ids, places) for share in shares if share is not None]
    found: dict[str, Estimate] = {}
    if len(judged) == 2:
        found = paired_differences(judged[0], judged[1], metrics=("accuracy",), coverages=())
    found |= paired_differences(
        mine.judged,
        theirs.judged,
        metrics=[name for name in COLUMNS if name != "accuracy"],
        coverages=(),
        repeats=REPEATS,
        draws=REPEATS,
    )
    return {name: estimate for name, estimate in found.items() if math.isfinite(estimate.value)}


def difference_text(one: Difference, metric: str, separator: str = " ") -> str:
    """``+0.042* [+0.010, +0.074]``, with a star where it is one."""
    estimate = one.estimates.get(metric)
    if estimate is None:
        return "–"
    value, low, high = (format_number(x, 3, sign=True) for x in (estimate.value, estimate.low, estimate.high))
    interval = f"{separator}[{low}, {high}]" if math.isfinite(estimate.low) else ""
    return f"{value}{'*' if one.starred(metric) else ''}{interval}"


def tables(found: Sequence[Difference], separator: str = " ") -> list[TextTable]:
    """One a baseline and suite."""
    made = []
    for baseline, suite in dict.fromkeys((one.baseline.label, one.suite) for one in found):
        members = [one for one in found if (one.baseline.label, one.suite) == (baseline, suite)]
        lines = [
            [
                one.row.label,
                str(len(one.matched.ids)),
                *(difference_text(one, name, separator) for name in COLUMNS),
            ]
            for one in members
        ]
        columns = [suite_column(name) for name in COLUMNS]
        heads = [f"{column.label_in('column')} {'↑' if column.better > 0 else '↓'}" for column in columns]
        head = ["method", "questions", *heads]
        title = f"Differences to {baseline} over the questions of {suite_label(suite)}"
        made.append(TextTable(title, head, lines, [[one.row.label, baseline] for one in members]))
    return made


def notes(found: Sequence[Difference]) -> list[str]:
    if not found:
        return []
    tests = sum(len(one.p_holm) for one in found)
    lines = [
        "Row − baseline over the questions that both were asked, paired question by question (↑ more is better, ↓ less "
        "is better), with 95 % intervals: of the share of right samples (t, Bonett and Price; where only a probability "
        "of being right is known, the majority's), and of the majority's share of the votes as confidence: debiased "
        "ECE (from the intervals of both), Brier (studentised bootstrap) and AUROC (DeLong). One run each: they say "
        "nothing of other seeds.",
        f"* the difference is not 0: Holm-corrected over the {tests} tests of these tables, p < {LEVEL:g}. The "
        "intervals are not corrected.",
    ]
    for one in found:
        parts = [
            f"{count} {words}"
            for count, words in (
                (one.matched.alone, f"in {one.row.label} only"),
                (one.matched.other_alone, f"in {one.baseline.label} only"),
                (one.matched.changed, "of one id but not known to have one prompt and gold answer"),
            )
            if count
        ]
        if parts:
            lines.append(f"{suite_label(one.suite)}, {one.row.label}: unmatched questions: {', '.join(parts)}.")
    return lines
