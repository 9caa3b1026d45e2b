"""Solutions from scores, and what their steps' confidence tells: against counting over pairs, and by hand."""

from __future__ import annotations

import math
import random
from dataclasses import replace
from itertools import product

import pytest

from carerl.preferences.measures import round_metrics, step_metrics
from carerl.preferences.records import Solution
from carerl.preferences.solutions import Scores, solution
from carerl.types import Example, Outcome, Sample
from tests.metrics.declared import undeclared
from tests.preferences.solved import solved

VOCAB = 64


def sampled(seed: int, responses: int = 20) -> list[Solution]:
    draw, made = random.Random(seed), []
    for _ in range(responses):
        words = [((1,) * draw.randrange(1, 4), draw.choice((1.0, 0.0, None, 0.5)), draw.random()) for _ in range(3)]
        one = solved(words)
        steps = tuple(replace(s, peak=draw.random(), logprob=-3 * draw.random()) for s in one.steps)
        made.append(replace(one, steps=steps))
    return made


def ranked(right: list[float], wrong: list[float]) -> float:
    """The share of (right, wrong) in which the right one is higher; ties count one half."""
    return sum((a > b) + 0.5 * (a == b) for a, b in product(right, wrong)) / (len(right) * len(wrong))


def test_measures_are_those_of_counting_over_judged_steps() -> None:
    solutions = sampled(0)
    steps = [step for one in solutions for step in one.steps]
    judged = [s for s in steps if s.right is not None]
    right, wrong = ([s for s in judged if (s.right >= 0.5) is side] for side in (True, False))  # type: ignore[operator]
    found = step_metrics("q3", solutions, VOCAB)
    measures = {
        "entropy": lambda s: s.confidence,
        "peak": lambda s: s.peak,
        "perplexity": lambda s: s.logprob / (s.end - s.start),
    }
    for name, measure in measures.items():
        expected = ranked([measure(s) for s in right], [measure(s) for s in wrong])
        assert found[f"calibration/q3/step_auroc_{name}"] == pytest.approx(expected, rel=1e-12)
    assert found["eval/q3/steps"] == len(judged) < len(steps)
    assert found["eval/q3/step_right"] == pytest.approx(sum(s.right or 0.0 for s in judged) / len(judged))
    brier = sum(s.confidence**2 - 2 * s.confidence * s.right + s.right for s in judged) / len(judged)  # type: ignore
    assert found["calibration/q3/step_brier"] == pytest.approx(brier)
    entropy = [sum((1 - s.confidence) * math.log(VOCAB) for s in side) / len(side) for side in (right, wrong)]
    assert found["eval/q3/step_entropy_gap"] == pytest.approx(entropy[1] - entropy[0])
    assert undeclared(found) == [] and len(found) == 8


def test_a_round_s_measures_are_those_of_an_evaluation_under_their_own_names() -> None:
    solutions = sampled(1)
    evaluated, found = step_metrics("q", solutions, VOCAB), round_metrics(solutions, VOCAB)
    assert undeclared(found) == [] and len(found) == 6
    assert {name.rpartition("/")[2]: value for name, value in evaluated.items()}.items() >= {
        name.removeprefix("round/"): value for name, value in found.items()
    }.items()
    assert round_metrics([], VOCAB) == {}


def test_step_ece_by_hand() -> None:
    """Two bins: .95 (one of two right) and .15 (none of one right): (2 · .45 + 1 · .15) / 3."""
    solutions = [solved([((1,), 1.0, 0.95), ((2,), 0.0, 0.95)]), solved([((3,), 0.0, 0.15), ((4,), None, 0.5)])]
    assert step_metrics("q", solutions, VOCAB)["calibration/q/step_ece"] == pytest.approx(1.05 / 3)


def test_without_judged_steps_or_with_one_kind_measures_are_left_out() -> None:
    assert step_metrics("q", [solved([((1,), None, 0.5), ((2,), None, 0.5)])], VOCAB) == {}
    found = step_metrics("q", [solved([((1,), 1.0, 0.5)])], VOCAB)
    assert set(found) == {"eval/q/step_right", "eval/q/steps", "calibration/q/step_ece", "calibration/q/step_brier"}


def test_a_solution_has_the_means_and_sums_of_its_steps_tokens() -> None:
    """Uniform tokens have confidence 0, certain ones 1, and (.9, .1) of two .531."""
    sample = Sample("q", (1, 2, 3, 4), (-1.0,) * 4, False, (0, 0), outcome=Outcome.CORRECT)
    two = -(0.9 * math.log(0.9) + 0.1 * math.log(0.1))
    entropies = [math.log(2), 0.0, 0.0, two]
    scores = Scores(entropies, [math.log(0.5), 0.0, math.log(0.25), math.log(0.9)], [-0.5, -1.0, -2.0, -4.0])
    made = solution(Example("q", (9,), ""), sample, (2, 3, 4), scores, 2, prefix=1, second=True)
    assert [(s.start, s.end) for s in made.steps] == [(0, 2), (2, 3), (3, 4)]
    assert [s.confidence for s in made.steps] == pytest.approx([0.5, 1.0, 0.531], abs=5e-4)
    assert [s.peak for s in made.steps] == pytest.approx([0.75, 0.25, 0.9])
    assert [s.logprob for s in made.steps] == pytest.approx([-1.5, -2.0, -4.0])
    assert [s.right for s in made.steps] == [None] * 3 and (made.prefix, made.second) == (1, True)
    with pytest.raises(ValueError, match="4 tokens and 3 peaks"):
        solution(Example("q", (9,), ""), sample, (4,), replace(scores, peaks=scores.peaks[:3]), 2)
