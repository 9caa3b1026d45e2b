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
from dataclasses import dataclass, field, replace

import numpy as np

from carerl.calibration import Estimate, Judged, holm, paired_differences
from carerl.report.compare.evaluated import Evaluated
from carerl.report.compare.rows import LEVEL, Row
from carerl.runs.questions import Asked
from carerl.runs.tables import read_prompts

REPEATS = 10_000  # of bootstrap and simulation, so that p can be small enough for Holm's correction
COLUMNS = ("accuracy", "ece_debiased", "brier", "auroc")


Keys = dict[tuple[str, str], str]  # (suite, question) -> hash


@dataclass(frozen=True, slots=True)
class Matched:
    """Says which questions of one suite two runs share. ``alone`` and ``other_alone`` count those that only one of them
    has; ``changed`` counts those that both have by id, but with another prompt or gold answer."""

    ids: tuple[str, ...]
    alone: int
    other_alone: int
    changed: int


@dataclass(frozen=True, slots=True)
class Difference:
    """Compares a row with its baseline on one suite: row − baseline by metric. ``p_holm``: corrected p-values."""

    row: Row
    baseline: Row
    suite: str
    matched: Matched
    estimates: Mapping[str, Estimate]
    p_holm: Mapping[str, float] = field(default_factory=dict)

    def starred(self, metric: str) -> bool:
        return self.p_holm.get(metric, 1.0) < LEVEL


def question_differences(rows: Sequence[Row], evaluated: Mapping[str, Sequence[Evaluated]]) -> list[Difference]:
    """Compares every row of one run whose baseline is of one run, suite by suite; empty without such a row."""
    alone = {row.label: row for row in rows if not row.is_base and len(row.runs) == 1}
    pairs = [(row, alone[row.baseline]) for row in alone.values() if row.baseline in alone]
    found = []
    for row, against in pairs:
        if row.label in evaluated and against.label in evaluated:
            found += _between(row, against, evaluated[row.label][0], evaluated[against.label][0])
    tests = [(i, name, e.p) for i, one in enumerate(found) for name, e in one.estimates.items() if e.p is not None]
    p_holm: list[dict[str, float]] = [{} for _ in found]
    for (i, name, _), corrected in zip(tests, holm([p for _, _, p in tests]), strict=True):
        p_holm[i][name] = float(corrected)
    return [replace(one, p_holm=corrected) for one, corrected in zip(found, p_holm, strict=True)]


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
    """Hashes prompt and gold answer of every (suite, question); the gold answer alone without ``prompts``."""
    found = {}
    for question in one.questions:
        name = str(question.get("suite")), str(question.get("example_id"))
        prompt, gold = prompts.get(name, ("", question.get("gold")))
        found[name] = hashlib.sha256(f"{prompt}\x00{gold}".encode()).hexdigest()
    return found


def match(mine: Keys, theirs: Keys, with_prompts: bool) -> dict[str, Matched]:
    """Matches the questions of each suite that both have. Without prompts, one changed gold answer makes every
    common question a changed one."""
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
    """Returns the differences of accuracy over all samples (over majorities, where right is a probability), and of the
    calibration of the majority's confidence."""
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
