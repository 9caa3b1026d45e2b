"""The five estimators, and what a response without an answer counts as."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest

from carerl.calibration import (
    answer_probability,
    answer_shares,
    ece,
    judge_mean,
    judge_samples,
    option_probability,
    sequence_confidence,
    verbalized_confidence,
    without_statement,
)

ANSWERS = {"a": ["7", "7", "3", None], "b": [None, None, None, None], "c": ["1", "2", "2", "2"]}
CORRECT = {"a": [True, True, False, False], "b": [False] * 4, "c": [True, False, False, False]}


def test_mean_is_each_samples_own_share():
    rows = judge_mean(ANSWERS, CORRECT)
    assert rows.confidence.tolist() == [0.5, 0.5, 0.25, 0, 0, 0, 0, 0, 0.25, 0.75, 0.75, 0.75]
    assert rows.correct.tolist() == [1, 1, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0]
    assert rows.questions == ("a",) * 4 + ("b",) * 4 + ("c",) * 4
    same = rows.labels[:, None] == rows.labels[None, :]
    assert same[0, 1] and same[9, 11] and not same[0, 2] and not same[3, 4 + 0] and not same[8, 9]


def test_a_sample_without_an_answer_is_wrong_at_confidence_0_under_every_estimator():
    """Whatever is claimed for it, and even if a grader called it right; and it stays in N."""
    right = {key: [True] * 4 for key in ANSWERS}
    sure = {key: [0.9] * 4 for key in ANSWERS}
    for rows in (judge_mean(ANSWERS, right), judge_samples(ANSWERS, right, sure)):
        assert len(rows.confidence) == 12
        silent = [3, 4, 5, 6, 7]
        assert rows.confidence[silent].tolist() == rows.correct[silent].tolist() == [0.0] * 5
        assert rows.correct.sum() == 7
    unanswered = {"q": [None] * 8}
    rows = judge_mean(unanswered, {"q": [False] * 8})
    assert ece(rows.confidence, rows.correct) == 0.0, "why the share of answers belongs beside an ECE"


def test_an_answer_without_a_stated_confidence_claims_nothing_and_is_counted():
    stated = {"a": [0.9, None, None, None], "b": [None] * 4, "c": [0.5] * 4}
    rows = judge_samples(ANSWERS, CORRECT, stated)
    assert rows.confidence[:4].tolist() == [0.9, 0, 0, 0] and rows.correct[:4].tolist() == [1, 1, 0, 0]
    assert rows.unstated == 2, "of the three without a confidence in question a, one has no answer"


def test_answer_shares_without_samples():
    assert answer_shares([]) == []


def test_answer_probability_is_the_product_over_tokens():
    assert answer_probability([math.log(0.5), math.log(0.4)]) == pytest.approx(0.2)
    assert answer_probability([]) == 0.0
    assert answer_probability([1e-9]) == 1.0
    assert answer_probability([-math.inf]) == 0.0


def test_options_are_renormalised():
    logprobs = {"A": math.log(0.3), "B": math.log(0.1), "C": -math.inf}
    assert option_probability(logprobs, "A") == pytest.approx(0.75)
    assert option_probability(logprobs, "C") == 0.0
    shifted = {key: value - 900 for key, value in logprobs.items()}
    assert option_probability(shifted, "B") == pytest.approx(0.25), "no underflow"
    assert option_probability({"A": -math.inf, "B": -math.inf}, "A") == 0.5
    with pytest.raises(ValueError, match="'D'"):
        option_probability(logprobs, "D")
    with pytest.raises(ValueError, match="log-probs"):
        option_probability({"A": math.nan, "B": 0.0}, "A")


def test_sequence_is_the_geometric_mean_and_does_not_depend_on_length():
    assert sequence_confidence([math.log(0.9), math.log(0.4)]) == pytest.approx(0.6)
    assert sequence_confidence([math.log(0.7)] * 500) == pytest.approx(0.7)
    assert sequence_confidence([]) == 0.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # within a tag
        ("<confidence>0.8</confidence>", 0.8),
        ("<Confidence> 80% </Confidence>", 0.8),
        ("<confidence>8/10</confidence>", 0.8),
        ("<confidence>0.2</confidence> no: <confidence>0.9</confidence>", 0.9),
        ("Confidence: 30% <confidence>0.6</confidence>", 0.6),
        ("<confidence>72</confidence>", None),  # of 100? no scale is guessed
        ("<confidence>72%</confidence>", 0.72),
        ("<confidence>72 %</confidence>", 0.72),
        ("<confidence>-0.5</confidence>", None),
        ("<confidence>1.5</confidence>", None),
        ("<confidence>high</confidence> confidence: 0.9", None),
        ("<confidence>0.8", None),  # cut off
        # the word, and then the number
        ("Confidence: 0.8", 0.8),
        ("Confidence: .8", 0.8),
        ("Confidence: 80%.", 0.8),
        ("Confidence: 80 percent", 0.8),
        ("**Confidence:** 85%", 0.85),
        ("Confidence level: 0.95", 0.95),
        ('{"answer": 12, "confidence": 0.85}', 0.85),
        ("My confidence in this answer is about 70%", 0.7),
        ("I'm confident at 90%", 0.9),
        ("Confidence: 8/10", 0.8),
        ("Confidence: 80/100", 0.8),
        ("Confidence: 20%. On reflection, confidence: 90%", 0.9),
        ("Confidence: 1", 1.0),
        ("Confidence: 1%", 0.01),
        ("Confidence: 0", 0.0),
        ("Confidence: 100%", 1.0),
        ("Confidence: 72", None),
        ("Confidence: 8", None),  # of 10? of 100?
        ("Confidence: 100", None),
        ("Confidence: 0.3. No: confidence: 80", None),  # the last decides, read or not
        ("Confidence: 150%", None),
        ("Confidence: 1000", None),
        ("Confidence: 1,000", None),
        ("Confidence: -5", None),
        ("Confidence: high", None),
        # the number, and then the word
        ("The answer is 12. I am 95% sure.", 0.95),
        ("with 60 % confidence", 0.6),
        ("I am 0.9 certain of it", 0.9),
        ("I am 95 sure", None),
        ("There is 1 certain way.", None),  # a count
        ("There are 0 sure signs. Confidence: 0.4", 0.4),
        ("Confidence: 0.4. There is 1 certain way.", 0.4),
        ("a 95% confidence interval of (1, 2)", None),
        # nothing but a number
        ("72%", 0.72),
        ("72 %", 0.72),
        (" 72 percent.", 0.72),
        ("72", None),
        ("72.", None),
        ("0.8", None),  # an answer
        ("1", None),
        ("7/10", None),
        ("172%", None),
        # an answer elsewhere
        ("The answer is 0.8", None),
        ("The answer is 72", None),
        ("So 80% of the boys like it.", None),
        ("", None),
    ],
)
def test_verbalized(text, expected):
    found = verbalized_confidence(text)
    assert found == (expected if expected is None else pytest.approx(expected))


def test_a_stated_confidence_is_no_part_of_an_answer():
    assert without_statement("It is 12. <confidence>0.8</confidence>") == "It is 12. "
    assert without_statement("<Confidence>\n1\n</Confidence>B") == "B"
    for text in ("no <confidence> at all", "<confidence>0.8", r"\boxed{0.8}"):
        assert without_statement(text) == text


@pytest.mark.parametrize(
    "piece", ["confidence ", "9", "<confidence>", "confidence: 1.", " %", "*", "confidence is about "]
)
def test_hostile_text_is_read_in_linear_time(piece):
    begin = time.process_time()
    verbalized_confidence(piece * (400_000 // len(piece)))
    without_statement(piece * (400_000 // len(piece)))
    assert time.process_time() - begin < 5


def test_arrays_are_float64():
    rows = judge_mean(ANSWERS, CORRECT)
    assert rows.confidence.dtype == rows.correct.dtype == np.float64
