"""Metrics of the tiny suites: by hand on a few samples, and on simulated models of known calibration."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import pytest

from carerl.tasks.base import Suite
from carerl.tasks.tiny import TinyConfig, TinyTask
from carerl.tasks.tiny import tokenizer as tk
from carerl.tasks.tiny.evaluation import facts_floor
from carerl.types import Example, Group, Outcome, Sample

N = 16
ANSWERS = (*"0123456789", "?")


@pytest.fixture(scope="module")
def task() -> TinyTask:
    return TinyTask(TinyConfig(), 100)


def group(task: TinyTask, example: Example, answers: Sequence[str], probability: float = 0.5) -> Group:
    """Graded samples ``A <answer> <eos>``; an empty answer is a response without one."""
    samples = []
    for answer in answers:
        ids = tk.encode(f"A {answer} <eos>")
        logprobs = [0.0] * len(ids)
        if answer:
            logprobs[1] = math.log(probability)
        outcome, read = task.grade(example, ids, False)
        samples.append(Sample(example.id, ids, tuple(logprobs), False, (0, 0), outcome, read))
    return Group(example, samples)


def suite(task: TinyTask, name: str) -> Suite:
    return next(s for s in task.suites() if s.name == name)


def simulate(task: TinyTask, sharpen: Callable[[np.ndarray], np.ndarray], seed: int = 0) -> list[Group]:
    """Facts answered by a model whose distributions are ``sharpen`` of the true ones; log-probs included."""
    rng = np.random.default_rng(seed)
    groups = []
    for example in suite(task, "facts").examples:
        p = sharpen(task.world.answers_EV[example.meta["entity"]])
        p = p / p.sum()
        drawn = rng.choice(11, N, p=p)
        whole = group(task, example, [ANSWERS[i] for i in drawn])
        for sample, answer in zip(whole.samples, drawn, strict=True):
            sample.rollout_logprobs = (0.0, math.log(p[answer]), 0.0)
        groups.append(whole)
    return groups


def test_a_perfect_model_scores_the_floor(task: TinyTask) -> None:
    metrics = task.evaluate({"facts": simulate(task, lambda p: p)}).metrics
    floor = metrics["calibration/facts_ece_floor"]
    assert 0.024 < floor < 0.036
    assert abs(metrics["calibration/facts_ece"] - floor) < 0.02
    # the answer token's probability is .95 of the truth that leaves out "?": off by .05 of a mean top of .6
    assert metrics["calibration/answer_ece"] == pytest.approx(0.03, abs=0.004)


def test_an_overconfident_model_scores_far_above_the_floor(task: TinyTask) -> None:
    metrics = task.evaluate({"facts": simulate(task, lambda p: p**4)}).metrics
    # it nearly always gives the likeliest answer: confidence ~.95 against a mean top probability of .6
    assert metrics["calibration/facts_ece"] > 0.2
    assert metrics["calibration/answer_ece"] > 0.2


def test_the_floor_falls_with_more_votes_and_is_a_function_of_its_arguments(task: TinyTask) -> None:
    entities = range(150)
    floors = [facts_floor(task.world, entities, votes) for votes in (4, 16, 64)]
    assert floors[0] > floors[1] > 0.02
    assert floors[0] > 0.08
    assert floors[1] == facts_floor(task.world, entities, 16)


def test_facts_votes_by_hand(task: TinyTask) -> None:
    """Three entities: a majority of 12 of 16, a "?" majority, and nothing that can be read."""
    examples = suite(task, "facts").examples[:3]
    top = [example.gold for example in examples]
    groups = [
        group(task, examples[0], [top[0]] * 12 + [""] * 4),
        group(task, examples[1], ["?"] * 10 + [top[1]] * 6),
        group(task, examples[2], [""] * 16),
    ]
    evaluation = task.evaluate({"facts": groups})
    truth = float(task.world.truth_EV[0].max())
    # items: (.75, truth), (.625, 0), (0, 0); each in a bin of its own unless .75 and .625 share none
    expected = (abs(0.75 - truth) + 0.625 + 0.0) / 3
    assert evaluation.metrics["calibration/facts_ece"] == pytest.approx(expected)
    bins = {round(b.low, 1): b for b in evaluation.reliability["facts"]}
    assert (bins[0.7].count, bins[0.7].confidence) == (1, pytest.approx(0.75))
    assert bins[0.7].accuracy == pytest.approx(truth)
    rows = evaluation.rows
    assert [row["majority"] for row in rows] == [top[0], "?", None]
    assert [row["confidence"] for row in rows] == [0.75, 0.625, 0.0]
    assert [(row["abstained"], row["unparsed"], row["samples"]) for row in rows] == [
        (0, 4, 16),
        (10, 0, 16),
        (0, 16, 16),
    ]


def test_answer_ece_by_hand(task: TinyTask) -> None:
    examples = suite(task, "facts").examples[:3]
    truth = float(task.world.truth_EV[0, int(examples[0].gold)])
    other = str((int(examples[0].gold) + 1) % 10)
    answered = group(task, examples[0], [examples[0].gold] * 2 + [other, ""], probability=0.44)
    answered.samples[2].rollout_logprobs = (0.0, math.log(0.01), 0.0)  # the minority's does not count
    abstained = group(task, examples[1], ["?", "?", "?", "1"], probability=0.99)
    unread = group(task, examples[2], [""] * 4)  # no item
    expected = (abs(0.44 - truth) + 0.99) / 2
    metrics = task.evaluate({"facts": [answered, abstained, unread]}).metrics
    assert metrics["calibration/answer_ece"] == pytest.approx(expected)
    assert "calibration/answer_ece" not in task.evaluate({"facts": [unread]}).metrics


def test_accuracies_count_samples_and_majorities_count_questions(task: TinyTask) -> None:
    examples = suite(task, "q3").examples[:2]
    wrong = [str((int(example.gold) + 1) % 10) for example in examples]
    groups = [
        group(task, examples[0], [examples[0].gold] * 3 + [wrong[0]] * 1),
        group(task, examples[1], [examples[1].gold] * 1 + ["?"] * 2 + [""]),
    ]
    k2 = [group(task, suite(task, "q2").examples[0], [suite(task, "q2").examples[0].gold] * 4)]
    metrics = task.evaluate({"q3": groups, "q2": k2}).metrics
    assert metrics["eval/accuracy"] == pytest.approx(4 / 8)
    assert metrics["eval/maj"] == pytest.approx(1 / 2)
    assert metrics["eval/accuracy_k2"] == 1.0
    assert "eval/accuracy_k4" not in metrics and "calibration/unknowable_f1" not in metrics
    # 7 answer tokens of probability .5 in 7 * 3 + 2 tokens
    assert metrics["eval/sampled_entropy"] == pytest.approx(7 * math.log(2) / 23)
    # shares .75 (right) and .5 (wrong: "?")
    assert metrics["calibration/question_ece"] == pytest.approx((0.25 + 0.5) / 2)


def test_unknowable_f1_by_hand(task: TinyTask) -> None:
    known, unknown = suite(task, "facts").examples, suite(task, "unknowable").examples
    results = {
        "facts": [group(task, known[i], ["?"] * 3 if i < 1 else [known[i].gold] * 3) for i in range(4)],
        "unknowable": [group(task, unknown[i], ["?"] * 3 if i < 2 else ["5"] * 3) for i in range(5)],
    }
    # found 2 of 5, and 1 known name wrongly called unknowable: F1 = 4 / (4 + 1 + 3)
    assert task.evaluate(results).metrics["calibration/unknowable_f1"] == pytest.approx(0.5)
    nothing = {
        "facts": [group(task, known[0], [known[0].gold])],
        "unknowable": [group(task, unknown[0], ["5"])],
    }
    assert task.evaluate(nothing).metrics["calibration/unknowable_f1"] == 0.0


def test_metrics_do_not_depend_on_order(task: TinyTask) -> None:
    groups = simulate(task, lambda p: p**2)
    forward = task.evaluate({"facts": groups}).metrics
    backward = task.evaluate({"facts": groups[::-1]}).metrics
    for name, value in forward.items():
        if name != "calibration/facts_ece_floor":  # a simulation over the entities in their order
            assert backward[name] == pytest.approx(value, abs=1e-12)


def test_ungraded_or_missing_samples_are_refused(task: TinyTask) -> None:
    example = suite(task, "q3").examples[0]
    ungraded = Sample(example.id, (5, 14, 1), (0.0, 0.0, 0.0), False, (0, 0))
    with pytest.raises(ValueError, match="not graded"):
        task.evaluate({"q3": [Group(example, [ungraded])]})
    with pytest.raises(ValueError, match="no samples"):
        task.evaluate({"q3": [Group(example, [])]})


def test_pitfall_15_calibration_is_computed_from_outcomes_not_from_rewards(task: TinyTask) -> None:
    groups = simulate(task, lambda p: p)
    before = task.evaluate({"facts": groups}).metrics
    for g in groups:
        for sample in g.samples:
            sample.reward = 17.0
            sample.confidence = 0.0
    assert task.evaluate({"facts": groups}).metrics == before
    assert all(s.outcome is not Outcome.INVALID for g in groups for s in g.samples)
