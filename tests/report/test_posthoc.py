"""Post-hoc calibration of an evaluation: every scaler against a fit on the same arrays, what it says it leaves alone,
and whether it helps. Its outputs are in ``compare/test_calibration.py`` and in the evaluation's own tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from carerl.calibration import Isotonic, Temperature, brier, ece, fit_isotonic, fit_temperature, scale_confidence
from carerl.report.posthoc import (
    ESTIMATORS,
    MAJORITY,
    SCALERS,
    Rescaled,
    fit_label,
    judged_by,
    measures_of,
    plain_measures,
    rescale,
)
from carerl.runs.questions import Asked, reported

VOTES = 16
CLIP = 1e-3  # of probabilities
Rows = list[dict[str, Any]]


def rows_of(suite: str, count: int, seed: int, decisions: bool = True) -> Rows:
    """Votes that are right with .8, whatever their majority, and unanimous ones with .95; decisions likewise, .95 above
    .9999. Low confidences are too low and high ones too high, so that no temperature mends both. One question in ten,
    and one sample in ten, has no answer and is wrong."""
    rng = np.random.default_rng([seed, *suite.encode()])
    rows: Rows = []
    for k in range(count):
        share = 0.0 if k % 10 == 0 else int(rng.integers(3, VOTES + 1)) / VOTES
        chance = 0.0 if not share else 0.95 if share == 1 else 0.8
        row = {
            "suite": suite,
            "example_id": f"{suite}/{k}",
            "confidence": share,
            "right": float(rng.random() < chance),
            "samples": VOTES,
            "correct": 10,
            "wrong": 5,
            "abstained": 0,
            "unparsed": 1,
            "truncated": 0,
            "invalid": 0,
        }
        if decisions:
            for probs, rights in (("decision_probs", "decision_rights"), ("argmax_probs", "argmax_rights")):
                p = 1 - 10.0 ** -rng.uniform(0.2, 5, 4)
                there = rng.random(4) > 0.1
                right = there & (rng.random(4) < np.where(p > 0.9999, 0.95, 0.8))
                row[probs] = [float(one) if is_there else None for one, is_there in zip(p, there, strict=True)]
                row[rights] = [float(one) for one in right]
        rows.append(row)
    return rows


QUESTIONS = rows_of("truthfulqa", 400, 1) + rows_of("gsm8k", 300, 2, decisions=False) + rows_of("validation", 300, 3)
SHOWN = reported(QUESTIONS, {})


def scaled(questions: Sequence[dict[str, Any]] = QUESTIONS) -> dict[tuple[str, str], Rescaled]:
    found = rescale(questions, SHOWN, repeats=2)
    assert found is not None
    return {(one.fit.estimator, one.fit.scaler.name): one for one in found}


def arrays(suite: str, probs: str, rights: str) -> tuple[np.ndarray, np.ndarray]:
    rows = [row for row in QUESTIONS if row["suite"] == suite]
    c = [0.0 if p is None else p for row in rows for p in row[probs]]
    return np.array(c), np.array([y for row in rows for y in row[rights]])


def test_every_estimator_has_every_scaler_in_order() -> None:
    assert list(scaled()) == [(estimator, scaler.name) for estimator in ESTIMATORS for scaler in SCALERS]
    assert ESTIMATORS == ("majority", "answer_prob", "argmax") and len(SCALERS) == 2


@pytest.mark.parametrize(
    ("estimator", "columns"),
    [("answer_prob", ("decision_probs", "decision_rights")), ("argmax", ("argmax_probs", "argmax_rights"))],
)
def test_decisions_are_fitted_on_the_samples_of_validation_with_the_clip_of_probabilities(
    estimator: str, columns: tuple[str, str]
) -> None:
    held, test = arrays("validation", *columns), arrays("truthfulqa", *columns)
    isotonic = fit_isotonic(*held, ["validation"]).apply(test[0], ["test"])
    value = fit_temperature(*held, ["validation"], CLIP).value
    temperature = scale_confidence(test[0], value, CLIP)
    for name, expected in (("isotonic", isotonic), ("temperature", temperature)):
        one = scaled()[estimator, name]
        assert one.confidence["truthfulqa"] == pytest.approx(expected)
        assert one.suites["truthfulqa"]["brier"].value == pytest.approx(brier(expected, test[1]))
        assert one.suites["truthfulqa"]["ece_count"].value == pytest.approx(ece(expected, test[1], scheme="count"))
        assert list(one.suites) == ["truthfulqa"], "the other suite has no decisions"
        assert one.fit.items == (held[0] > 0).sum() and one.fit.questions == 300


def test_the_majority_is_fitted_on_answered_questions() -> None:
    one = scaled()[MAJORITY, "isotonic"]
    assert one.fit.items == one.fit.questions == 270
    assert (one.confidence["gsm8k"][::10] == 0).all() and (one.confidence["gsm8k"] > 0).sum() == 270


def test_what_a_scaler_says_that_it_does_not_change_stays_and_all_else_can_change() -> None:
    """For every estimator and scaler: the measures outside its row are the same before and after, to the last digit,
    those in it are not. That is AUROC under a temperature: unchanged of votes, changed of probabilities beyond .999."""
    for (estimator, _), one in scaled().items():
        before = plain_measures(SHOWN["truthfulqa"], estimator, repeats=2)
        after = plain_measures(with_confidence(SHOWN["truthfulqa"], one), estimator, repeats=2)
        names = [measure.name for measure in measures_of(estimator)]
        assert list(before) == names
        changed = one.suites["truthfulqa"]
        assert changed == {name: after[name] for name in changed}
        for name in names:
            assert (after[name].value != before[name].value) == (name in changed), (
                estimator,
                one.fit.scaler.name,
                name,
            )
    assert "auroc" not in scaled()[MAJORITY, "temperature"].suites["truthfulqa"]
    assert "auroc" in scaled()[MAJORITY, "isotonic"].suites["truthfulqa"]


def with_confidence(found: Asked, one: Rescaled) -> Asked:
    confidence = one.confidence["truthfulqa"]
    if one.fit.estimator == MAJORITY:
        return Asked(found.ids, confidence, found.right, found.accuracy, found.answered, found.votes)
    judged = judged_by(found, one.fit.estimator)
    assert judged is not None
    other = type(judged)(confidence, judged.correct, judged.questions, judged.labels)
    return Asked(*(getattr(found, name) for name in Asked.__slots__[:6]), {one.fit.estimator: other})


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_isotonic_beats_the_temperature_where_the_distortion_is_no_sigmoid(estimator: str) -> None:
    """On the reported questions: the ECE falls to half of what it was at most, and below the temperature's."""
    before = plain_measures(SHOWN["truthfulqa"], estimator, repeats=2)["ece"].value
    isotonic, temperature = (
        scaled()[estimator, name].suites["truthfulqa"]["ece"].value for name in ("isotonic", "temperature")
    )
    assert isotonic < before / 2 and isotonic < temperature


def test_an_estimator_that_validation_lacks_is_left_out() -> None:
    without = [
        {name: value for name, value in row.items() if row["suite"] != "validation" or "_probs" not in name}
        for row in QUESTIONS
    ]
    assert {estimator for estimator, _ in scaled(without)} == {MAJORITY}
    assert rescale([row for row in QUESTIONS if row["suite"] != "validation"], SHOWN) is None


def test_a_sample_of_a_question_that_was_fitted_on_is_refused() -> None:
    mixed = [row | {"example_id": row["example_id"].replace("validation", "truthfulqa")} for row in QUESTIONS]
    with pytest.raises(ValueError, match="300 of the questions were fitted on"):
        rescale(mixed, reported(mixed, {}))


def test_labels_name_what_was_found_from_least_to_most_over_seeds() -> None:
    found = scaled()
    fit = found[MAJORITY, "temperature"].fit
    assert isinstance(fit.calibrator, Temperature)
    assert fit_label([fit]) == f"+ temperature (T = {fit.calibrator.value:.2f}, fitted on validation, n = 270)"
    isotonic = found["argmax", "isotonic"].fit
    few = [row for row in QUESTIONS if row["suite"] != "validation" or int(row["example_id"].split("/")[1]) < 20]
    other = scaled(few)["argmax", "isotonic"].fit
    assert isinstance(isotonic.calibrator, Isotonic) and isinstance(other.calibrator, Isotonic)
    low, high = sorted((isotonic.calibrator.levels, other.calibrator.levels))
    assert low < high
    assert fit_label([isotonic, other]) == (
        f"+ isotonic (argmax, {low}–{high} levels, fitted on validation, n = 20–300 questions, "
        f"{other.items}–{isotonic.items} samples)"
    )
