"""Which model of a run is the best: the rule's form, and the choice."""

from __future__ import annotations

import itertools
import random

import pytest

from carerl.calibration import measure
from carerl.config.load import load
from carerl.config.selection import Selection, choices, full_name, parse_selection
from carerl.errors import ConfigError
from carerl.tasks import TASKS
from carerl.tasks.tiny import TinyConfig
from carerl.types import Decision, Group, Outcome, Sample

TINY = ["recipe=care_grpo_tiny", "task.validation_questions=50"]


def test_the_rule_is_read() -> None:
    found = parse_selection("accuracy subject to ece <= 0.1 and calibration/validation/auroc >= .6")
    assert (found.metric, found.higher, found.names) == ("accuracy", True, ("accuracy", "ece", "auroc"))
    assert [(b.metric, b.at_most, b.value) for b in found.bounds] == [("ece", True, 0.1), ("auroc", False, 0.6)]
    assert parse_selection("eval/validation/accuracy") == parse_selection("max accuracy") == Selection("accuracy", True)
    assert parse_selection("brier") == parse_selection(" min brier ") == Selection("brier", False)
    assert parse_selection("accuracy subject to ece<=1e-1") == parse_selection("accuracy subject to ece <= .1")


@pytest.mark.parametrize(
    ("rule", "reason", "remedy"),
    [
        ("eval/math500/accuracy", "reported", "accuracy subject to"),
        ("accuracy subject to calibration/facts_ece <= .1", "reported", "accuracy subject to"),
        ("eval/accuracy", "reported", "validation"),
        ("acuracy", "not a metric", "did you mean accuracy?"),
        ("calibration/validation/accuracy", "not a metric", "accuracy"),
        ("accuracy subject to ece < 0.1", "no bound", "<= 0.1"),
        ("accuracy subject to ece <= low", "finite", "<= 0.1"),
        ("accuracy subject to ece <= nan", "finite", "<= 0.1"),
        ("accuracy subject to ", "begins with", "ece <= 0.1"),
        ("accuracy subject to ece <= .1 and", "no bound", "<= 0.1"),
        ("accuracy and maj", "begins with", "ece <= 0.1"),
        ("max ece", "choose the worst", "leave max out"),
        ("min accuracy", "choose the worst", "leave min out"),
    ],
)
def test_another_form_is_refused(rule: str, reason: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([*TINY, f"checkpoint.best={rule}"])
    assert caught.value.field == "checkpoint.best"
    assert reason in caught.value.reason and remedy in caught.value.remedy


def test_a_rule_without_something_to_choose_by_is_refused() -> None:
    for words, remedy in (
        (["recipe=care_grpo_tiny"], "task.validation_questions="),
        ([*TINY, "evaluation.every=0", "evaluation.at_start=false", "evaluation.at_end=false"], "evaluation.every="),
    ):
        with pytest.raises(ConfigError) as caught:
            load([*words, "checkpoint.best=accuracy"])
        assert caught.value.field == "checkpoint.best" and remedy in caught.value.remedy
    assert load([*TINY, "checkpoint.best=accuracy subject to ece <= 0.1"]).checkpoint.best.endswith("0.1")
    of_decisions = "checkpoint.best=argmax_accuracy subject to answer_prob_ece_count <= 0.1"
    with pytest.raises(ConfigError, match="no decisions"):
        load([*TINY, of_decisions])
    assert load([*TINY, of_decisions, "task.gold_noise=0.05"]).checkpoint.best.startswith("argmax_accuracy")


def test_the_choice_is_the_best_of_those_that_keep_the_bounds() -> None:
    """Against an enumeration of all, over random evaluations with ties and gaps."""
    rng = random.Random(0)
    rule = parse_selection("accuracy subject to ece <= 0.5 and auroc >= 0.4")
    empty = chosen = 0
    for _ in range(500):
        evaluations: dict[int, dict[str, float | None]] = {}
        for step in rng.sample(range(100), 6):
            figures = {name: rng.choice([None, *(k / 5 for k in range(6))]) for name in rule.names}
            evaluations[step] = {full_name(name): value for name, value in figures.items()}
        good = [
            (-accuracy, step)
            for step, m in evaluations.items()
            if (accuracy := m["eval/validation/accuracy"]) is not None
            and (error := m["calibration/validation/ece"]) is not None
            and (rank := m["calibration/validation/auroc"]) is not None
            and error <= 0.5
            and rank >= 0.4
        ]
        assert rule.choose(evaluations) == (min(good)[1] if good else None)
        empty += not good
        chosen += bool(good)
    assert empty > 20 and chosen > 20


def test_what_is_not_finite_cannot_be_chosen() -> None:
    rule = parse_selection("accuracy subject to auroc >= 0.5")
    bad = {"eval/validation/accuracy": 0.9, "calibration/validation/auroc": float("nan")}
    good = {"eval/validation/accuracy": 0.2, "calibration/validation/auroc": 0.5}
    assert rule.choose({1: bad, 2: good, 3: {}}) == 2
    assert rule.choose({1: bad}) is None
    smaller = parse_selection("brier")
    briers = {k: {"calibration/validation/brier": value} for k, value in enumerate((0.3, 0.1, 0.1, 0.2))}
    assert smaller.choose(briers) == 1  # the earlier of two equal ones


def test_every_metric_of_the_table_is_reported_of_the_tiny_world() -> None:
    task = TASKS["tiny"].build(TinyConfig(validation_questions=4, gold_noise=0.05), 100)
    examples = next(suite for suite in task.suites() if suite.name == "validation").examples
    answers = itertools.cycle([Outcome.CORRECT, Outcome.WRONG, Outcome.CORRECT, Outcome.TRUNCATED, Outcome.WRONG])
    groups = []
    for example in examples:
        samples = []
        for outcome in itertools.islice(answers, 4):
            answer = {Outcome.CORRECT: example.gold, Outcome.TRUNCATED: None}.get(outcome, "no")
            one = Sample(example.id, (5,), (-0.1,), outcome is Outcome.TRUNCATED, (0, 0), outcome, answer)
            one.decision, one.option_probs = Decision(0, "no", {"yes": 4, "no": 5}, ("yes",)), (0.7, 0.3)
            samples.append(one)
        groups.append(Group(example, samples))
    found = task.evaluate({"validation": groups}).metrics
    for name in choices():
        assert full_name(name) in found, name
    outcomes = [sample.outcome for group in groups for sample in group.samples]
    assert found["eval/validation/accuracy"] == outcomes.count(Outcome.CORRECT) / 16
    assert found["eval/validation/truncated"] == outcomes.count(Outcome.TRUNCATED) / 16
    assert found["eval/validation/answered"] == 1 - outcomes.count(Outcome.TRUNCATED) / 16


def test_every_metric_of_the_table_is_one_of_a_text_suite() -> None:
    measured = measure([0.2, 0.9, 0.6, 0.4], [0, 1, 1, 0])
    assert len(choices()) == 14
    for name, line in choices().items():
        if line.name.startswith("calibration/"):
            name = name.removeprefix("answer_prob_")  # the same of another confidence
            assert name in measured
            perfect, worst = measure([0.0, 1.0, 1.0, 0.0], [0, 1, 1, 0]), measure([1.0, 0.0, 0.0, 1.0], [0, 1, 1, 0])
            assert (perfect[name].value > worst[name].value) is (line.better > 0) and line.better, name
        else:
            assert name in {"accuracy", "argmax_accuracy", "maj", "answered", *map(str, Outcome)}
