"""Noisy golds, and what an evaluation says about decisions whose chance of being right is known."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest

from carerl.calibration import brier, ece
from carerl.runs.questions import asked
from carerl.tasks.tiny import TinyConfig, TinyTask
from carerl.tasks.tiny import tokenizer as tk
from carerl.tasks.tiny.decisions import chance, conclusion
from carerl.types import Example, Group, Sample

NOISE = 0.05


@pytest.fixture(scope="module")
def task() -> TinyTask:
    return TinyTask(TinyConfig(gold_noise=NOISE, validation_questions=200), 100)


def trace(example: Example, result: str, answer: str) -> tuple[int, ...]:
    """A response to a question of three operators whose trace ends in ``result``."""
    first = tk.TOKENS[example.prompt_ids[1]]
    return tk.encode(f"C {first} 1 2 {result} A {answer} <eos>")


def decided(task: TinyTask, example: Example, ids: tuple[int, ...], probs: Mapping[str, float]) -> Sample:
    """A graded sample with these probabilities of the options; the rest is shared by the others."""
    rest = (1 - sum(probs.values())) / (10 - len(probs))
    outcome, answer = task.grade(example, ids, False)
    sample = Sample(example.id, ids, (-0.1,) * len(ids), False, (0, 0), outcome, answer)
    sample.decision = task.decision(example, sample)
    if sample.decision is not None:
        sample.option_probs = tuple(probs.get(digit, rest) for digit in tk.DIGITS)
    return sample


def test_a_gold_is_another_digit_as_often_as_the_first_digit_says(task: TinyTask) -> None:
    drawn = task.train_examples(0, 20_000)
    for first in range(10):
        of_digit = [e for e in drawn if e.prompt_ids[1] == tk.DIGIT + first]
        assert [e.meta["eta"] for e in of_digit] == pytest.approx([NOISE * first] * len(of_digit))
        wrong = [e for e in of_digit if e.gold != e.meta["true"]]
        n, eta = len(of_digit), NOISE * first
        assert abs(len(wrong) - n * eta) <= 4 * math.sqrt(n * eta * (1 - eta))
        if first == 9:  # every other digit has the same chance
            shifts = [(int(e.gold) - int(e.meta["true"])) % 10 for e in wrong]
            counts = np.bincount(shifts, minlength=10)[1:]
            assert counts.min() > 0.6 * counts.mean() and counts.max() < 1.4 * counts.mean()


def test_noise_changes_golds_and_nothing_else(task: TinyTask) -> None:
    plain = TinyTask(TinyConfig(validation_questions=200), 100)
    mine, theirs = task.train_examples(0, 500), plain.train_examples(0, 500)
    assert [(e.id, e.prompt_ids, e.meta["true"]) for e in mine] == [(e.id, e.prompt_ids, e.gold) for e in theirs]
    assert 0.1 < np.mean([a.gold != b.gold for a, b in zip(mine, theirs, strict=True)]) < 0.35
    for ours, other in zip(task.suites(), plain.suites(), strict=True):
        assert [e.prompt_ids for e in ours.examples] == [e.prompt_ids for e in other.examples]
        same = [a.gold == b.gold for a, b in zip(ours.examples, other.examples, strict=True)]
        assert all(same) if ours.name != "validation" else 0.65 < np.mean(same) < 0.9


def test_golds_are_a_function_of_seed_and_position(task: TinyTask) -> None:
    whole = task.train_examples(0, 200)
    for start, n in ((150, 50), (31, 2), (7, 90)):
        assert [e.gold for e in task.train_examples(start, n)] == [e.gold for e in whole[start : start + n]]
    other = TinyTask(TinyConfig(gold_noise=NOISE), 101).train_examples(0, 200)
    assert [e.gold for e in other] != [e.gold for e in whole]


def test_a_digit_decides_and_what_is_no_digit_does_not(task: TinyTask) -> None:
    example = task.train_examples(0, 1)[0]
    found = decided(task, example, trace(example, "3", "7"), {}).decision
    assert found is not None and (found.position, found.chosen, found.right) == (6, "7", (example.gold,))
    assert [tk.TOKENS[found.token_ids[digit]] for digit in tk.DIGITS] == list(tk.DIGITS)
    assert conclusion(decided(task, example, trace(example, "3", "7"), {})) == "3"
    for ids in (trace(example, "3", "?"), tk.encode("C 1 2 3 <eos>"), tk.encode("C 1 A C <eos>")):
        assert decided(task, example, ids, {}).decision is None
    name = next(s for s in task.suites() if s.name == "facts").examples[0]
    assert decided(task, name, tk.encode("A 3 <eos>"), {}).decision is None
    certain = TinyTask(TinyConfig(), 100)
    assert decided(certain, certain.train_examples(0, 1)[0], trace(example, "3", "7"), {}).decision is None


def test_the_chances_of_all_options_add_up_to_1(task: TinyTask) -> None:
    example = next(e for e in task.train_examples(0, 50) if e.meta["eta"] > 0.2)
    group = Group(example, [])
    assert chance(group, example.meta["true"]) == 1 - example.meta["eta"]
    assert sum(chance(group, digit) for digit in tk.DIGITS) == pytest.approx(1)


def suite_of(task: TinyTask, probability: float | None, off: bool = False) -> list[Group]:
    """Right traces that decide for the true answer, with ``probability`` of it, or with the known one. ``off``: another
    option has been drawn in one of four samples."""
    groups = []
    for example in next(s for s in task.suites() if s.name == "q3").examples:
        true, other = example.gold, str((int(example.gold) + 3) % 10)
        given = 1 - example.meta["eta"] if probability is None else probability
        answers = [other if off and k == 0 else true for k in range(4)]
        groups.append(Group(example, [decided(task, example, trace(example, true, a), {true: given}) for a in answers]))
    return groups


def test_known_chances_score_0_and_certainty_scores_the_noise(task: TinyTask) -> None:
    exact = task.evaluate({"q3": suite_of(task, None)}).metrics
    for name in ("argmax_ece", "answer_prob_ece_count", "right_trace_ece", "right_trace_gap"):
        assert exact[f"calibration/q3/{name}"] == pytest.approx(0, abs=1e-9)
    sure = task.evaluate({"q3": suite_of(task, 1.0)}).metrics
    etas = [e.meta["eta"] for e in next(s for s in task.suites() if s.name == "q3").examples]
    for name in ("argmax_ece", "answer_prob_ece_count", "right_trace_ece", "right_trace_gap", "argmax_brier"):
        assert sure[f"calibration/q3/{name}"] == pytest.approx(np.mean(etas))
    for first in range(10):
        assert exact[f"calibration/q3/eta_{first}"] == pytest.approx(1 - NOISE * first)
        assert sure[f"calibration/q3/eta_{first}"] == 1


def test_one_probability_for_all_hides_from_an_ece_and_not_from_the_gap(task: TinyTask) -> None:
    """What isotonic regression makes of a policy that is always certain."""
    etas = np.array([e.meta["eta"] for e in next(s for s in task.suites() if s.name == "q3").examples])
    found = task.evaluate({"q3": suite_of(task, float(1 - etas.mean()))}).metrics
    assert found["calibration/q3/right_trace_ece"] == pytest.approx(0, abs=1e-9)
    assert found["calibration/q3/right_trace_gap"] == pytest.approx(np.abs(etas - etas.mean()).mean())


def test_the_likeliest_option_is_judged_where_another_was_drawn(task: TinyTask) -> None:
    found = task.evaluate({"q3": suite_of(task, 0.7, off=True)}).metrics
    assert found["eval/accuracy"] == 0.75 and found["eval/q3/argmax_accuracy"] == 1
    assert found["eval/q3/right_traces"] == found["eval/q3/trace_followed"] == 1
    etas = np.array([e.meta["eta"] for e in next(s for s in task.suites() if s.name == "q3").examples])
    wrong_p = 0.3 / 9
    confidence = np.concatenate([np.full(3 * len(etas), 0.7), np.full(len(etas), wrong_p)])
    truth = np.concatenate([np.repeat(1 - etas, 3), etas / 9])
    assert found["calibration/q3/answer_prob_ece"] == pytest.approx(ece(confidence, truth))
    assert found["calibration/q3/answer_prob_brier"] == pytest.approx(brier(confidence, truth))


def test_wrong_traces_and_silence_are_told_apart(task: TinyTask) -> None:
    example = next(s for s in task.suites() if s.name == "q3").examples[0]
    true, other = example.gold, str((int(example.gold) + 1) % 10)
    samples = [
        decided(task, example, trace(example, true, true), {true: 0.9}),
        decided(task, example, trace(example, other, other), {other: 0.8}),
        decided(task, example, trace(example, other, other), {true: 0.6}),  # the trace is not followed
        decided(task, example, trace(example, true, "?"), {}),
    ]
    found = task.evaluate({"q3": [Group(example, samples)]}).metrics
    assert found["eval/q3/argmax_accuracy"] == 2 / 4  # the third, not the second, and silence is not right
    assert found["eval/q3/right_traces"] == pytest.approx(1 / 3)
    assert found["eval/q3/trace_followed"] == pytest.approx(2 / 3)
    first = example.prompt_ids[1] - tk.DIGIT
    assert found[f"calibration/q3/eta_{first}"] == pytest.approx(0.9)
    assert found[f"calibration/q3/decision_eta_{first}"] == pytest.approx((0.9 + 0.8 + 0.4 / 9) / 3)


@pytest.mark.parametrize("suite", ["q3", "validation"])
def test_silence_counts_with_confidence_0_and_is_not_right(task: TinyTask, suite: str) -> None:
    """As in a text suite; the histogram and what is said of traces stay those of decisions."""
    examples = next(s for s in task.suites() if s.name == suite).examples
    example = next(e for e in examples if e.meta["eta"] > 0.2)
    true, eta = example.meta["true"], example.meta["eta"]
    spoken = [decided(task, example, trace(example, true, true), {true: p}) for p in (0.995, 0.95)]
    silent = [decided(task, example, ids, {}) for ids in (trace(example, true, "?"), tk.encode("C 1 2 3 <eos>"))]
    alone = task.evaluate({suite: [Group(example, spoken)]}).metrics
    scored = task.evaluate({suite: [Group(example, [*spoken, *silent])]})
    right = 1 - eta if suite == "q3" else float(example.gold == true)
    confidence, truth = np.array([0.995, 0.95, 0, 0]), np.array([right, right, 0, 0])
    for estimator in ("answer_prob", "argmax"):
        name = f"calibration/{suite}/{estimator}"
        assert scored.metrics[f"{name}_brier"] == pytest.approx(brier(confidence, truth))
        assert scored.metrics[f"{name}_ece"] == pytest.approx(ece(confidence, truth))
        assert scored.metrics[f"{name}_ece_count"] == pytest.approx(ece(confidence, truth, scheme="count"))
        judged = asked(scored.rows)[suite].decided[estimator]  # what post-hoc calibration and comparisons judge
        assert sorted(judged.confidence) == sorted(confidence) and sorted(judged.correct) == sorted(truth)
    others = [name for name in alone if "decision_bin" in name or "right_trace" in name or "/eta_" in name]
    assert len(others) >= 11 and all(scored.metrics[name] == alone[name] for name in others)
    assert scored.metrics[f"calibration/{suite}/decision_bin_10"] == 0.5


def test_a_majority_is_judged_by_its_known_chance_and_its_accuracy_by_the_true_answer(task: TinyTask) -> None:
    """Of four votes: all for the true answer, three for another one, three for "?", and none."""
    groups, truth, share = [], [], []
    for k, example in enumerate(next(s for s in task.suites() if s.name == "q3").examples):
        true, other, eta = example.gold, str((int(example.gold) + 1) % 10), example.meta["eta"]
        said = [[true] * 4, [other] * 3 + [true], ["?"] * 3 + [true], []][k % 4]
        ids = [trace(example, true, answer) for answer in said] or [tk.encode("C 1 2 3 <eos>")] * 4
        groups.append(Group(example, [decided(task, example, one, {}) for one in ids]))
        truth.append([1 - eta, eta / 9, 0.0, 0.0][k % 4])
        share.append([1.0, 0.75, 0.75, 0.0][k % 4])
    scored = task.evaluate({"q3": groups})
    assert [row["right"] for row in scored.rows] == pytest.approx(truth)
    assert scored.metrics["calibration/question_ece"] == pytest.approx(ece(np.array(share), np.array(truth)))
    drawn = [b for b in scored.reliability["q3"] if b.count]
    assert drawn[-1].accuracy == pytest.approx(np.mean(truth[::4]))
    assert scored.metrics["eval/maj"] == np.mean([k % 4 == 0 for k in range(len(groups))])
    assert scored.metrics["eval/accuracy"] == np.mean([(1, 0.25, 0.25, 0)[k % 4] for k in range(len(groups))])
    other = next(s for s in task.suites() if s.name == "q2").examples[0]
    (row,) = task.evaluate({"q2": [Group(other, [decided(task, other, trace(other, "3", other.gold), {})])]}).rows
    assert row["right"] == 1.0, "its gold is certain"


def test_validation_is_judged_by_its_drawn_golds(task: TinyTask) -> None:
    groups = []
    for example in next(s for s in task.suites() if s.name == "validation").examples:
        true = example.meta["true"]
        groups.append(Group(example, [decided(task, example, trace(example, true, true), {true: 1.0})]))
    scored = task.evaluate({"validation": groups})
    found = scored.metrics
    assert [row["right"] for row in scored.rows] == [float(g.example.gold == g.example.meta["true"]) for g in groups]
    wrong = np.mean([g.example.gold != g.example.meta["true"] for g in groups])
    assert 0.1 < wrong < 0.35
    assert found["calibration/validation/argmax_ece"] == found["calibration/validation/ece"] == pytest.approx(wrong)
    assert found["eval/validation/argmax_accuracy"] == pytest.approx(1 - wrong)
    assert not [name for name in found if "right_trace" in name or "eta_" in name]


def test_the_rows_of_questions_hold_what_a_calibration_afterwards_needs(task: TinyTask) -> None:
    example = next(s for s in task.suites() if s.name == "q3").examples[3]
    true, other, eta = example.gold, str((int(example.gold) + 1) % 10), example.meta["eta"]
    samples = [
        decided(task, example, trace(example, true, other), {true: 0.7, other: 0.2}),
        decided(task, example, trace(example, true, "?"), {}),
    ]
    row = task.evaluate({"q3": [Group(example, samples)]}).rows[0]
    assert (row["decision_probs"], row["argmax_probs"]) == ([0.2, None], [0.7, None])
    assert row["decision_rights"] == [pytest.approx(eta / 9), 0.0]
    assert row["argmax_rights"] == [pytest.approx(1 - eta), 0.0]
    held = next(
        e for e in next(s for s in task.suites() if s.name == "validation").examples if e.gold != e.meta["true"]
    )
    drawn = decided(task, held, trace(held, held.meta["true"], held.meta["true"]), {})
    assert task.evaluate({"validation": [Group(held, [drawn])]}).rows[0]["decision_rights"] == [0.0]


def test_a_world_without_noise_has_none_of_it() -> None:
    plain = TinyTask(TinyConfig(evaluation_questions=20), 100)
    groups = [Group(e, [decided(plain, e, trace(e, "3", "7"), {})]) for e in plain.suites()[0].examples]
    assert not [name for name in plain.evaluate({"q3": groups}).metrics if "/q3/" in name]
