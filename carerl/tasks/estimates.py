"""A suite's figures over its questions, with 95 % intervals: of the rows of :attr:`Evaluation.rows`.

They hold for a single run: what another seed would show, they do not know. Shares have Wilson's interval, F1 a BCa
bootstrap over the questions, an ECE that of the debiased estimate, as no interval about the plug-in covers; the figure
itself can lie above it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from carerl.calibration import Estimate, bootstrap_interval, debiased_ece, ece, share_interval
from carerl.grading.votes import ABSTENTION

Rows = Sequence[Mapping[str, Any]]


def right_share(row: Mapping[str, Any]) -> float | None:
    """Returns the share of a question's samples that is right: by ``rights`` where an evaluation has them (abstaining
    is right where nobody can know), else by the outcome. None where neither was counted."""
    if row.get("rights"):
        return float(sum(row["rights"]) / len(row["rights"]))
    return row["correct"] / row["samples"] if row.get("samples") and row.get("correct") is not None else None


def right_shares(rows: Rows) -> NDArray[np.float64] | None:
    """Returns :func:`right_share` of every question, (Q,); None where one has none."""
    shares = [right_share(row) for row in rows]
    return None if None in shares else np.array(shares, dtype=np.float64)


def same_votes(rows: Rows) -> int:
    """Returns the number of samples of a question; 0 where questions differ in it."""
    sizes = {int(row.get("samples") or 0) for row in rows}
    return sizes.pop() if len(sizes) == 1 else 0


def accuracy_interval(rows: Rows) -> Estimate | None:
    """Returns the share of right samples."""
    shares = right_shares(rows)
    return None if shares is None else share_interval(shares)


def majority_interval(rows: Rows) -> Estimate:
    """Returns the share of questions whose majority answer is right."""
    return share_interval(np.array([float(row["right"]) for row in rows]))


def ece_interval(rows: Rows) -> Estimate:
    """Returns the ECE of the majority's share of the votes."""
    confidence, right = (np.array([float(row[name]) for row in rows]) for name in ("confidence", "right"))
    debiased = debiased_ece(confidence, right)
    return Estimate(ece(confidence, right), debiased.low, debiased.high)


def hallucination_interval(rows: Rows) -> Estimate | None:
    """Returns the share of samples that assert something false."""
    votes = same_votes(rows)
    return share_interval([(row.get("wrong") or 0) / votes for row in rows]) if votes else None


def unanswerable_interval(rows: Rows) -> Estimate:
    """Returns F1 of calling a question unanswerable by a majority that abstains."""
    called = [row.get("majority") == ABSTENTION for row in rows]
    return f1_interval(called, [not row.get("answerable", True) for row in rows])


def f1_interval(called: Sequence[bool], truth: Sequence[bool]) -> Estimate:
    """Returns the F1 of ``called`` as a sign of ``truth``, (Q,) each. It is NaN where there is nothing to find and
    nothing was claimed."""
    called_Q, truth_Q = np.array(called, dtype=bool), np.array(truth, dtype=bool)

    def f1(weights_RQ: NDArray[np.float64]) -> NDArray[np.float64]:
        hits, claims, kinds = (weights_RQ @ flag.astype(float) for flag in (called_Q & truth_Q, called_Q, truth_Q))
        with np.errstate(invalid="ignore"):
            return np.asarray(2 * hits / (claims + kinds))

    if not (called_Q.any() or truth_Q.any()):
        return Estimate(float("nan"))
    value = float(f1(np.ones((1, len(called_Q))))[0])
    return bootstrap_interval(f1, value, None, len(called_Q))
