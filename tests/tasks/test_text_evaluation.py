r"""Metrics of text suites, by hand: every expected value is derived beside its assertion."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest

from carerl.runs.tables import write_evaluation
from carerl.tasks import TASKS, Evaluation, TextConfig, TextTask
from carerl.tasks.byte_tokenizer import make_byte_tokenizer
from carerl.types import Decision, Group, Outcome, Sample

LOGPROB = math.log(0.5)


def make_task(folder: Path, suites: dict[str, list[dict[str, Any]]], seed: int = 0, **settings: Any) -> TextTask:
    """Suites of the given names, from files of the same names."""
    for name, rows in suites.items():
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    benchmarks = [str(folder / f"{name}.jsonl") for name in suites]
    task = TextTask(TextConfig(benchmarks=benchmarks, **settings), seed)
    task.attach(make_byte_tokenizer())
    return task


def graded(task: TextTask, responses: dict[str, list[str]], truncated: bool = False) -> dict[str, list[Group]]:
    """Groups of the questions that have responses, graded as the reward actors grade."""
    tokenizer, results = make_byte_tokenizer(), {}
    for suite in task.suites():
        groups = []
        for example in suite.examples:
            if example.id in responses:
                samples = []
                for text in responses[example.id]:
                    ids = tuple(tokenizer.encode(text))
                    outcome, answer = task.grade(example, ids, truncated and "boxed" not in text)
                    sample = Sample(example.id, ids, (LOGPROB,) * len(ids), truncated, (0, 0), outcome, answer)
                    sample.answerable = example.meta["gold"].answerable
                    samples.append(sample)
                groups.append(Group(example, samples))
        results[suite.name] = groups
    return results


MATH = [
    {"id": "half", "question": "Half of one?", "answer": r"\frac12"},
    {"id": "both", "question": "Roots of x^2 = 1?", "accepted": ["1, -1"]},
    {"id": "seven", "question": "Three and four?", "answer": "7"},
]
MATH_RESPONSES = {
    "half": [r"\boxed{0.5}", r"\boxed{1/2}", r"\boxed{2}", "?"],  # majority 1/2, share .5, right; 2 right samples
    "both": [r"\boxed{1}"] * 3 + [r"\boxed{1,-1}"],  # majority 1, share .75, wrong; 1 right
    "seven": ["?", "?", "?", r"\boxed{8}"],  # majority 8, share .25, wrong; none right
}


def test_metrics_of_a_suite(tmp_path: Path) -> None:
    task = make_task(tmp_path, {"sums": MATH, "other": MATH[:1]})
    evaluation = task.evaluate({**graded(task, MATH_RESPONSES), "other": []})
    metrics = evaluation.metrics
    assert metrics["eval/sums/accuracy"] == pytest.approx((2 + 1 + 0) / 12)
    assert metrics["eval/sums/maj"] == pytest.approx(1 / 3)
    assert metrics["eval/sums/pass@4"] == pytest.approx(2 / 3)
    assert metrics["eval/sums/sampled_entropy"] == pytest.approx(math.log(2))
    assert metrics["eval/sums/wrong"] == pytest.approx((1 + 3 + 1) / 12)
    assert metrics["eval/sums/unparsed"] == pytest.approx((1 + 0 + 3) / 12)
    assert metrics["eval/sums/abstained"] == metrics["eval/sums/truncated"] == metrics["eval/sums/invalid"] == 0
    # three bins of one question each: |.5 - 1|, |.75 - 0|, |.25 - 0|
    assert metrics["calibration/sums/ece"] == pytest.approx((0.5 + 0.75 + 0.25) / 3)
    for name in ("accuracy", "maj", "sampled_entropy"):
        assert metrics[f"eval/{name}"] == metrics[f"eval/sums/{name}"], "sums is the primary suite"
    assert metrics["calibration/question_ece"] == metrics["calibration/sums/ece"]
    assert not [name for name in metrics if "other" in name or "f1" in name or "hallucination" in name]
    assert sum(b.count for b in evaluation.reliability["sums"]) == 3


def test_rows_hold_what_curves_and_bootstraps_need(tmp_path: Path) -> None:
    task = make_task(tmp_path, {"sums": MATH})
    evaluation = task.evaluate(graded(task, MATH_RESPONSES))
    rows = {row["example_id"]: row for row in evaluation.rows}
    assert rows["half"] == {
        "suite": "sums", "example_id": "half", "gold": r"\frac12", "majority": "1/2", "confidence": 0.5, "right": 1.0,
        "samples": 4, "correct": 2, "wrong": 1, "abstained": 0, "unparsed": 1, "truncated": 0, "invalid": 0,
        "answers": ["1/2", "1/2", "2", None], "rights": [1, 1, 0, 0], "answerable": True,
    }  # fmt: skip
    write_evaluation(tmp_path, 3, evaluation)
    import pyarrow.parquet as pq

    (path,) = tmp_path.glob("*.parquet")
    assert pq.read_table(path).to_pylist() == evaluation.rows


def test_truncated_responses_are_counted_and_do_not_win(tmp_path: Path) -> None:
    task = make_task(tmp_path, {"sums": MATH[2:]})
    found = task.evaluate(graded(task, {"seven": ["so", "so", "so", r"\boxed{7}"]}, truncated=True))
    assert found.metrics["eval/sums/truncated"] == 0.75 and found.metrics["eval/sums/maj"] == 1
    assert found.rows[0]["confidence"] == 0.25


def test_a_suite_that_is_not_the_primary_one_has_no_headline(tmp_path: Path) -> None:
    task = make_task(tmp_path, {"first": MATH[:1], "sums": MATH})
    results = graded(task, MATH_RESPONSES)
    found = task.evaluate({"sums": results["sums"]}).metrics
    assert "eval/sums/accuracy" in found and "eval/accuracy" not in found and "calibration/question_ece" not in found
    assert task.evaluate({}).metrics == {}


def test_the_order_of_samples_changes_nothing_but_their_own_columns(tmp_path: Path) -> None:
    task = make_task(tmp_path, {"sums": MATH})
    results = graded(task, MATH_RESPONSES)
    before = task.evaluate(results).metrics
    for group in results["sums"]:
        random.Random(1).shuffle(group.samples)
    results["sums"].reverse()
    after = task.evaluate(results).metrics
    simulated = {name for name in before if "floor" in name}  # from draws in the order of the questions
    assert {k: v for k, v in after.items() if k not in simulated} == pytest.approx(
        {k: v for k, v in before.items() if k not in simulated}
    )
    assert simulated and after.keys() == before.keys()


def test_answers_are_taken_as_they_are_whatever_they_hold(tmp_path: Path) -> None:
    """Scoring runs in the driver: sympy would take hours and all memory over the first two."""
    task = make_task(tmp_path, {"sums": MATH[2:]})
    results = graded(task, {"seven": [r"\boxed{8}"] * 5})
    answers: list[str | None] = ["1E999999+x", "x+1E999998", r"1+\pi", r"\pi+1", r"\pi+1"]
    for sample, answer in zip(results["sums"][0].samples, answers, strict=True):
        sample.answer = answer
    results["sums"][0].samples[0].reason = "not compared: time: more than 5 s of processor time"
    found = task.evaluate(results)
    assert found.rows[0]["answers"] == answers and found.rows[0]["majority"] == r"\pi+1"
    assert found.metrics["eval/sums/uncompared"] == pytest.approx(1 / 5)


def test_ungraded_samples_are_refused(tmp_path: Path) -> None:
    task = make_task(tmp_path, {"sums": MATH})
    results = graded(task, MATH_RESPONSES)
    results["sums"][0].samples[0].outcome = None
    with pytest.raises(ValueError, match="not graded"):
        task.evaluate(results)


KNOWN = [{"id": f"k{i}", "question": f"Capital {i}?", "answer": "Rome", "answerable": True} for i in range(4)]
UNKNOWN = [{"id": f"u{i}", "question": f"Fate {i}?", "answerable": False} for i in range(3)]
DONT_KNOW = "The answer is unknown."


def test_recognising_the_unanswerable(tmp_path: Path) -> None:
    task = make_task(tmp_path, {"selfaware": [*KNOWN, *UNKNOWN]})
    responses = {
        "k0": ["Rome", "Rome", "Oslo"],
        "k1": [DONT_KNOW, "I don't know.", "Rome"],  # called unanswerable: a false positive
        "k2": ["Oslo", "Oslo", DONT_KNOW],
        "k3": ["Rome", DONT_KNOW, "Rome"],
        "u0": [DONT_KNOW, "Nobody knows.", "Oslo"],  # found
        "u1": ["Oslo", "Oslo", DONT_KNOW],  # missed
        "u2": [DONT_KNOW] * 3,  # found
    }
    metrics = task.evaluate(graded(task, responses)).metrics
    assert metrics["eval/selfaware/precision"] == pytest.approx(2 / 3)
    assert metrics["eval/selfaware/recall"] == pytest.approx(2 / 3)
    assert metrics["eval/selfaware/f1"] == pytest.approx(2 * 2 / (2 * 2 + 1 + 1))
    assert metrics["eval/selfaware/abstained"] == pytest.approx((2 + 1 + 1 + 2 + 1 + 3) / 21)
    # right: named, or abstained where nobody knows: 2 + 1 + 0 + 2 of the known, 2 + 1 + 3 of the others
    assert metrics["eval/selfaware/accuracy"] == pytest.approx((5 + 6) / 21)
    # majorities that are right: k0, k3, u0, u2
    assert metrics["eval/selfaware/maj"] == pytest.approx(4 / 7)


def test_f1_without_a_claim_is_0(tmp_path: Path) -> None:
    task = make_task(tmp_path, {"selfaware": [*KNOWN, *UNKNOWN]})
    metrics = task.evaluate(graded(task, {row["id"]: ["Rome"] for row in [*KNOWN, *UNKNOWN]})).metrics
    assert [metrics[f"eval/selfaware/{name}"] for name in ("precision", "recall", "f1")] == [0, 0, 0]


def test_hallucination_is_the_share_of_samples_with_a_false_option(tmp_path: Path) -> None:
    rows = [
        {"id": f"q{i}", "question": f"True {i}?", "answer": "A", "choices": ["yes", "no", "maybe"]} for i in range(2)
    ]
    task = make_task(tmp_path, {"truthfulqa": rows, "commonsenseqa": rows})
    responses = {
        "q0": [r"\boxed{A}", r"\boxed{B}", "Who knows", ""],
        "q1": [r"\boxed{C}", r"\boxed{B}", "(A)", r"\boxed{}"],
    }
    metrics = task.evaluate(graded(task, responses)).metrics
    assert metrics["eval/truthfulqa/hallucination"] == pytest.approx(3 / 8)
    assert metrics["eval/truthfulqa/unparsed"] == pytest.approx(3 / 8)
    assert metrics["eval/truthfulqa/accuracy"] == pytest.approx(2 / 8)
    assert "eval/commonsenseqa/hallucination" not in metrics


def test_option_probabilities_are_a_confidence_and_what_has_none_is_counted(tmp_path: Path) -> None:
    rows = [{"id": "q", "question": "Even?", "answer": "B", "choices": ["3", "4"]}]
    task = make_task(tmp_path, {"choice": rows})
    results = graded(task, {"q": [r"\boxed{B}", r"\boxed{A}", r"\boxed{4}", "?"]})
    assert not [name for name in task.evaluate(results).metrics if "answer_prob" in name or "undecided" in name]
    decide(results["choice"][0].samples[0], "B", {"A": 0.1, "B": 0.9})
    decide(results["choice"][0].samples[1], "A", {"A": 0.7, "B": 0.3})
    metrics = task.evaluate(results).metrics
    # right at .9, wrong at .7, right (by its text) without a decision, no answer
    assert metrics["calibration/choice/answer_prob_brier"] == pytest.approx((0.1**2 + 0.7**2 + 1 + 0) / 4)
    assert metrics["eval/choice/undecided"] == pytest.approx(1 / 4), "the one without an answer is not answered"
    assert metrics["eval/choice/answered"] == pytest.approx(3 / 4)


def decide(sample: Sample, chosen: str, probabilities: dict[str, float], right: tuple[str, ...] = ("B",)) -> None:
    """Gives a sample a decision, as an evaluation's engines do."""
    sample.decision = Decision(0, chosen, {label: 65 + k for k, label in enumerate(probabilities)}, right)
    sample.option_probs = tuple(probabilities.values())


def test_the_likeliest_option_is_judged_beside_the_one_that_was_sampled(tmp_path: Path) -> None:
    options = ["3", "4", "5"]
    rows = [{"id": f"q{k}", "question": f"Even, {k}?", "answer": "B", "choices": options} for k in range(2)]
    task = make_task(tmp_path, {"choice": rows, "sums": MATH[:1]})
    said = {"q0": [r"\boxed{B}", r"\boxed{A}", r"\boxed{C}", r"\boxed{4}"], "q1": [r"\boxed{A}", "?", r"\boxed{B}"]}
    results = graded(task, {**said, "half": ["?"]})
    first, second = (group.samples for group in sorted(results["choice"], key=lambda group: group.example.id))
    decide(first[0], "B", {"A": 0.6, "B": 0.35, "C": 0.05})  # right as drawn, wrong as the likeliest
    decide(first[1], "A", {"A": 0.005, "B": 0.99, "C": 0.005})  # wrong as drawn, right as the likeliest
    decide(first[2], "C", {"A": 0.0, "B": 0.005, "C": 0.995})  # wrong twice
    decide(second[0], "A", {"A": 0.4, "B": 0.5, "C": 0.1})  # wrong as drawn, right as the likeliest
    decide(second[2], "B", {"A": 0.2, "B": 0.7, "C": 0.1})  # right twice
    found = task.evaluate(results)
    metrics = found.metrics
    assert metrics["eval/choice/accuracy"] == pytest.approx((1 + 0 + 0 + 1 + 0 + 0 + 1) / 7)
    # without a decision as graded: named by its text it is right, and "?" is not
    assert metrics["eval/choice/argmax_accuracy"] == pytest.approx((0 + 1 + 0 + 1 + 1 + 0 + 1) / 7)
    low, high = found.intervals["eval/choice/argmax_accuracy"]
    assert low < 4 / 7 < high
    named = [(0.35, 1), (0.005, 0), (0.995, 0), (0, 1), (0.4, 0), (0, 0), (0.7, 1)]
    likeliest = [(0.6, 0), (0.99, 1), (0.995, 0), (0, 1), (0.5, 1), (0, 0), (0.7, 1)]
    for estimator, items in (("answer_prob", named), ("argmax", likeliest)):
        brier = sum((p - right) ** 2 for p, right in items) / 7
        assert metrics[f"calibration/choice/{estimator}_brier"] == pytest.approx(brier)
    assert metrics["calibration/choice/answer_prob_accuracy"] == metrics["eval/choice/accuracy"]
    assert "calibration/choice/argmax_accuracy" not in metrics, "it is eval/choice/argmax_accuracy"
    # seven items in ten bins of equal count: each has its own, but for the two of confidence 0, of which one is right
    apart = sum(abs(p - right) for p, right in named) / 7
    assert metrics["calibration/choice/answer_prob_ece_count"] == pytest.approx(apart)
    bins = [metrics[f"calibration/choice/decision_bin_{n}"] for n in range(11)]
    assert bins == [0.2, 0, 0, 0.2, 0.2, 0, 0, 0.2, 0, 0, 0.2], ".005, .35, .4, .7 and .995 of five decisions"
    assert not [name for name in metrics if name.startswith(("eval/sums/argmax", "calibration/sums/decision"))]
    assert not [name for name in metrics if name.startswith("calibration/sums/argmax")]


def test_responses_that_state_no_confidence_are_counted_where_one_was_asked_for_or_stated(tmp_path: Path) -> None:
    for asked in (False, True):
        task = make_task(tmp_path, {"sums": MATH[:1]}, ask_confidence=asked)
        results = graded(task, {"half": [r"\boxed{0.5}", r"\boxed{2}", "?", "?"]})
        assert task.evaluate(results).metrics.get("eval/sums/unstated") == (1.0 if asked else None)
        assert "calibration/sums/verbalized_ece" not in task.evaluate(results).metrics
        for sample, stated in zip(results["sums"][0].samples, (0.8, None, 0.4, None), strict=True):
            sample.stated_confidence = stated
        metrics = task.evaluate(results).metrics
        assert metrics["eval/sums/unstated"] == pytest.approx(2 / 4), "with an answer or without"
        # right at .8, wrong without a statement, and no answer twice, where nothing is claimed
        assert metrics["calibration/sums/verbalized_brier"] == pytest.approx((0.2**2 + 0 + 0 + 0) / 4)


def test_outcome_shares_add_up(tmp_path: Path) -> None:
    task = make_task(tmp_path, {"sums": MATH})
    evaluation = task.evaluate(graded(task, MATH_RESPONSES))
    correct = sum(row["correct"] for row in evaluation.rows) / 12
    shares = sum(evaluation.metrics[f"eval/sums/{o}"] for o in Outcome if o is not Outcome.CORRECT)
    assert correct + shares == pytest.approx(1)


def test_questions_with_different_numbers_of_samples(tmp_path: Path) -> None:
    task = make_task(tmp_path, {"sums": MATH[1:]})
    found = task.evaluate(graded(task, {"both": [r"\boxed{1,-1}", "?"], "seven": [r"\boxed{7}", "?", "?"]})).metrics
    # pass@2: certain with two samples of which one is right; 1 - C(2, 2)/C(3, 2) with three
    assert found["eval/sums/pass@2"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["eval/sums/accuracy"] == pytest.approx(2 / 5)


def test_the_seed_breaks_ties_only(tmp_path: Path) -> None:
    scored: list[Evaluation] = []
    for seed in range(6):
        task = make_task(tmp_path, {"sums": MATH}, seed)
        scored.append(
            task.evaluate(graded(task, {"seven": [r"\boxed{7}", r"\boxed{8}"], "half": [r"\boxed{0.5}", "?"]}))
        )
    majorities = [{row["example_id"]: row["majority"] for row in found.rows} for found in scored]
    assert {m["half"] for m in majorities} == {"1/2"} and {m["seven"] for m in majorities} == {"7", "8"}
    assert len({found.metrics["eval/sums/accuracy"] for found in scored}) == 1


def test_every_text_task_scores_with_it() -> None:
    assert all(issubclass(entry.config, TextConfig) for name, entry in TASKS.items() if name != "tiny")
