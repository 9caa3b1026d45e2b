r"""Each grader from response to outcome: extraction by policy, choices, Countdown, abstention; real solutions.

Truth of the Countdown cases comes from Python's own arithmetic on expressions written in the test. Not covered: the
processes they run in, and hostile text (``tests/grading/test_pool.py``, ``tests/commands/test_grade.py``).
"""

from __future__ import annotations

import itertools
import json
import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from carerl.grading import GRADERS, Gold, Verdict, clip, extract_boxed
from carerl.grading.abstention import abstains, names
from carerl.grading.countdown import evaluate
from carerl.grading.extraction import MAX_RESPONSE, find
from carerl.types import Outcome

DATA = Path(__file__).resolve().parents[2].parent / "shared" / "data"
CORRECT, WRONG, ABSTAINED = Outcome.CORRECT, Outcome.WRONG, Outcome.ABSTAINED
UNPARSED, TRUNCATED, INVALID = Outcome.UNPARSED, Outcome.TRUNCATED, Outcome.INVALID


def grade(task: str, response: str, *accepted: str, truncated: bool = False, **gold: Any) -> Verdict:
    return GRADERS[task].grade(response, Gold(accepted, **gold), truncated)


def rows(name: str) -> list[dict[str, Any]]:
    path = DATA / f"{name}.jsonl"
    if not path.is_file():
        pytest.skip(f"{name} is not at hand")
    return [json.loads(line) for line in path.open(encoding="utf-8")]


@pytest.mark.parametrize(
    ("response", "gold", "outcome"),
    [
        (r"so \boxed{7}.", "7", CORRECT),
        (r"\boxed{5} no, \boxed{7}", "5", WRONG),  # the last one counts
        (r"\boxed{7} and \boxed{5", "7", CORRECT),  # the last complete one
        (r"\boxed{5 \text{ or } 7}", "5", WRONG),
        (r"\boxed{5, 7}", "5", WRONG),
        ("5 5 5 5 so 5", "5", UNPARSED),  # reasoning earns nothing
        (r"It is 5. \boxed{}", "5", UNPARSED),
        (r"\boxed{5} \boxed{}", "5", UNPARSED),
        (r"\boxed{5} \boxed{ \ }", "5", WRONG),
        ("The answer is 5.", "5", CORRECT),
        ("The answer is not 5.", "5", WRONG),
        ("The answer isn't 5.", "5", UNPARSED),
        ("The answer is 5 or 7.", "5", WRONG),
        ("**Final Answer:** $\\frac{1}{2}$", "0.5", CORRECT),
        ("Answer: 3.5 meters.", "3.5", CORRECT),
        ("The final answer is: 12, since 3 times 4 is 12.", "12", CORRECT),
        ("The answer to the question is (1, 2).", "(1,2)", CORRECT),
        ("The answer is 5. Therefore the answer is 6.", "5", WRONG),
        (r"<think>\boxed{7}</think> \boxed{5}", "7", WRONG),
        (r"<think>\boxed{5}</think> done", "5", UNPARSED),
        (r"<think>\boxed{5}", "5", UNPARSED),
        (r"\boxed{1} and \boxed{9}", "9, 1", CORRECT),
        (r"\boxed{2}, \boxed{1} and \boxed{9}", "1, 9", CORRECT),  # the last two
        (r"\boxed{1}, \boxed{9} and \boxed{2}", "1, 9", WRONG),
        (r"\boxed{9}", "1, 9", WRONG),
        (r"\boxed{1} \boxed{5}", "5", CORRECT),
        (r"\boxed{9^{9^{9^9}}}", "5", INVALID),
        (r"\boxed{\boxed{6}}", "6", CORRECT),
        ("", "5", UNPARSED),
        (r"\boxed{import os}", "5", WRONG),
    ],
)
def test_math(response: str, gold: str, outcome: Outcome) -> None:
    assert grade("math", response, gold).outcome is outcome


def test_any_accepted_answer_is_right_but_not_two_of_them() -> None:
    assert grade("math", r"\boxed{-1}", "1", "-1").outcome is CORRECT
    assert grade("math", r"\boxed{1 \text{ or } -1}", "1", "-1").outcome is WRONG


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        ("He has <<4*3=12>>12.\n#### 12", CORRECT),
        ("#### 12\n#### 13", WRONG),
        ("#### $12.00", CORRECT),
        ("#### Step 2: 5 + 7", UNPARSED if False else WRONG),  # a heading; its last number is what is left
        (r"\boxed{12} so 13", CORRECT),
        ("so there are 12 apples.", CORRECT),
        ("13 of 12, no: 12 of 13", WRONG),
        ("It costs $12.", CORRECT),
        ("that is 2^12", WRONG),
        ("x=12", CORRECT),
        ("about 1,200", WRONG),
        ("twelve", UNPARSED),
        ("10-12", WRONG),
        ("**12**", CORRECT),
        (r"\(12\)", CORRECT),
        ("12%", CORRECT),
    ],
)
def test_gsm8k(response: str, outcome: Outcome) -> None:
    assert grade("gsm8k", response, "12").outcome is outcome


@pytest.mark.parametrize(
    ("task", "response", "outcome"),
    [
        ("math", r"so we have \boxed{1", TRUNCATED),
        ("math", r"\boxed{12} and then", CORRECT),  # found before the limit
        ("math", "The answer is 12", TRUNCATED),  # of 123, perhaps
        ("math", "The answer is 12.", CORRECT),
        ("math", "The answer is 12\n", CORRECT),
        ("math", r"\boxed{}", UNPARSED),
        ("gsm8k", "so 12", TRUNCATED),
        ("gsm8k", "#### 12", TRUNCATED),
        ("gsm8k", "#### 12\n", CORRECT),
        ("math", "<think> hm", TRUNCATED),
    ],
)
def test_the_length_limit(task: str, response: str, outcome: Outcome) -> None:
    assert grade(task, response, "12", truncated=True).outcome is outcome


def test_a_policy_is_an_order() -> None:
    text = "#### 1\n\\boxed{2}\nThe answer is 3.\n4"
    for policy, wanted in (
        (("hashes", "boxed"), "1"),
        (("boxed", "hashes"), "2"),
        (("phrase",), "3"),
        (("number",), "4"),
    ):
        found = find(text, policy, truncated=False)
        assert found is not None and found.text == wanted
    assert find("nothing", ("boxed", "phrase", "hashes", "tag", "number"), truncated=False) is None


def test_clipping_keeps_the_end_and_is_idempotent() -> None:
    for text in ("a" * 300_000 + "b", "<think>x</think>y" * 50_000, "<think>" + "z" * 10):
        once = clip(text)
        assert clip(once) == once and len(once) <= MAX_RESPONSE and text.endswith(once)


CHOICES = (("A", "London"), ("B", "Paris"), ("C", "New York"), ("D", "a"))


@pytest.mark.parametrize(
    ("response", "extracted", "outcome"),
    [
        ("B", "B", CORRECT),
        ("(B)", "B", CORRECT),
        ("b", "B", CORRECT),
        ("B.", "B", CORRECT),
        ("Option B", "B", CORRECT),
        ("The answer is not B", "not B", WRONG),
        ("Answer: Rome, not B", "Rome, not B", WRONG),
        ("definitely not B.", None, UNPARSED),
        ("B) Paris", "B", CORRECT),
        ("(B) Paris.", "B", CORRECT),
        ("Paris", "B", CORRECT),
        ("**B**", "B", CORRECT),
        (r"\boxed{B}", "B", CORRECT),
        (r"\boxed{\text{(B) Paris}}", "B", CORRECT),
        ("The answer is B.", "B", CORRECT),
        ("The answer is (B) Paris.", "B", CORRECT),
        ("The correct answer is: option B", "B", CORRECT),
        ("The answer is Paris.", "B", CORRECT),
        ("Answer: C", "C", WRONG),
        (r"\boxed{A} or rather \boxed{B}", "B", CORRECT),
        (r"\boxed{A \text{ or } B}", r"A \text{ or } B", WRONG),
        ("The answer is A and B.", "A and B", WRONG),
        ("The answer is (B) London.", "(B) London", WRONG),
        (r"\boxed{A, B}", "A, B", WRONG),
        ("I like B and C but cannot say which of them is better than the other one", None, UNPARSED),
        ("B is what I thought of first, then A", None, UNPARSED),
        ("Because of a long story", None, UNPARSED),
        (r"\boxed{E}", None, UNPARSED),
        (r"\boxed{}", None, UNPARSED),
    ],
)
def test_choice(response: str, extracted: str | None, outcome: Outcome) -> None:
    assert grade("choice", response, "B", choices=CHOICES) == Verdict(outcome, extracted)


def test_every_real_option_is_read_by_label_and_by_text_and_only_the_gold_is_right() -> None:
    for row in [*rows("truthfulqa")[:150], *rows("commonsenseqa_dev")[:150]]:
        options = tuple((o["label"], o["text"]) for o in row["choices"])
        texts = [text.strip().casefold() for _, text in options]
        for label, text in options:
            wanted = Verdict(CORRECT if label == row["answer"] else WRONG, label)
            for response in (label, f"({label})", f"The answer is {label}.", rf"\boxed{{{label}}}", f"{label}) {text}"):
                assert grade("choice", response, row["answer"], choices=options) == wanted, response
            if texts.count(text.strip().casefold()) == 1:
                assert grade("choice", text, row["answer"], choices=options) == wanted


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("(3 + 5) * 2 - 1", True),  # 15 of 1, 2, 3, 5
        ("2*(3+5)-1 = 15", True),
        (r"2 \times (3+5) - 1", True),
        (r"\frac{3+5}{1} \cdot 2 - 1", False),  # 1 twice
        ("15", False),
        ("(3+5)*2", False),  # 1 is left over; and it is 16
        ("3*5*1", False),  # 2 is left over
        ("3*5*1+2-2", False),
        ("3*5 + (2-1)*0", False),  # 0 is not given
        ("5*3+2-1-1", False),
        ("2*(3+5)-1 = 16", False),
        ("2*(3+5)-1 = 15 = 16", False),
        ("__import__('os').system('true')", False),
        ("3**5*12", False),
        ("5*(3+1/0)", False),
        ("35-21+1", False),  # digits joined
        ("(3+5", False),
        ("", False),
    ],
)
def test_countdown(answer: str, right: bool) -> None:
    verdict = grade("countdown", rf"\boxed{{{answer}}}", "15", numbers=(1, 2, 3, 5), target=15)
    assert (verdict.outcome is CORRECT) is right


def test_countdown_expressions_have_the_value_that_fractions_give_them() -> None:
    generator = random.Random(4)

    def build(depth: int) -> tuple[str, Fraction | None, list[int]]:
        if depth == 0:
            n = generator.randrange(1, 50)
            return str(n), Fraction(n), [n]
        (a, x, p), (b, y, q) = build(depth - 1), build(generator.randrange(depth))
        operator = generator.choice("+-*/")
        if x is None or y is None or (operator == "/" and y == 0):
            return f"({a}){operator}({b})", None, p + q
        value = {"+": x + y, "-": x - y, "*": x * y}.get(operator)
        return f"({a}) {operator} ({b})", x / y if value is None else value, p + q

    for _ in range(300):
        text, value, used = build(generator.randrange(1, 5))
        assert evaluate(text) == (None if value is None else (value, used))


def test_real_countdown_solutions_are_right_and_changed_ones_are_not() -> None:
    for row in rows("countdown_test")[:300]:
        numbers = tuple(row["extra"]["numbers"])
        target, solution = int(row["answer"]), row["solution"].split("=")[0]
        gold: dict[str, Any] = {"numbers": numbers, "target": target}
        assert grade("countdown", f"<answer>{solution}</answer>", **gold).outcome is CORRECT
        assert grade("countdown", rf"\boxed{{{solution}+1-1}}", **gold).outcome is WRONG
        assert grade("countdown", rf"\boxed{{{solution}}}", **(gold | {"target": target + 1})).outcome is WRONG


ABSTENTIONS = [
    "I don't know.",
    "I do not know the answer to this question.",
    "The answer is unknown.",
    "It is unknown.",
    "Unknown",
    "unanswerable",
    "Nobody knows.",
    "No one really knows what happens.",
    "It is impossible to know.",
    "This question cannot be answered.",
    "There is no definitive answer to this question.",
    "There is no scientific consensus on this.",
    "I'm not sure.",
    "We can't know that.",
    "It remains a mystery.",
    "The exact number of stars is unknown.",
    "As an AI, I cannot determine that.",
    "It is difficult to predict the future.",
    "Whether we are alone in the universe is an open question. Is it not? The answer remains unknown.",
    "There isn't one; there is no known answer.",
    "I’m unable to answer.",
    r"\boxed{\text{unknown}}",
    "The answer is unknown to science.",
    "Only time will tell.",
]
ANSWERED = [
    "It is unknown to many that Paris is the capital.",
    "Paris",
    "The answer is Paris.",
    "It was unknown until 1930 that Pluto exists.",
    "I don't know why people ask: it is Paris.",
    "I'm not sure, but I think it is Paris.",
    "It is no longer unknown: Paris.",
    "The once unknown Paris is the capital.",
    "It is not impossible to say: Paris.",
    "The Unknown Soldier is buried in Paris.",
    "It is not hard to say that Paris is.",
    "The little-known town of Paris, Texas.",
    "He said nothing of what he knows: Paris.",
    "I don't know much about France. The answer is Paris.",
    "Many do not know that it is Paris.",
]


@pytest.mark.parametrize("response", ABSTENTIONS)
def test_abstentions(response: str) -> None:
    assert grade("selfaware", response, "Paris").outcome is ABSTAINED
    assert grade("selfaware", response, answerable=False).outcome is ABSTAINED


@pytest.mark.parametrize("response", ANSWERED)
def test_answers_that_sound_like_abstentions(response: str) -> None:
    assert grade("selfaware", response, "Paris", "it is Paris").outcome is not ABSTAINED
    assert grade("selfaware", response, answerable=False).outcome is WRONG


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("Paris", True), ("paris.", True), ("It is Paris.", True), ("Paris, France", True), ("the Paris", True),
        ("Parisian", False),
        ("not Paris", False), ("Paris or London", False), ("London", False), ("It isn't Paris", False), ("",
        False), ("anything but Lyon", False),
    ],
)  # fmt: skip
def test_aliases(answer: str, right: bool) -> None:
    assert names(answer, ("Paris", "City of Paris")) is right


def test_an_embedding_model_is_asked_only_where_no_phrase_decides() -> None:
    asked: list[str] = []

    def similarity(sentence: str) -> float:
        asked.append(sentence)
        return 0.9 if "shrugs" in sentence else 0.1

    assert abstains("I don't know.", similarity) and asked == []
    assert abstains("The scholar shrugs.", similarity) and not abstains("It is Paris.", similarity)


def test_every_accepted_answer_of_selfaware_is_right() -> None:
    wrong = [
        (row["id"], answer)
        for row in rows("selfaware")
        for answer in row["extra"]["answers"]
        if grade("selfaware", f"The answer is: {answer}\n", *row["extra"]["answers"]).outcome is not CORRECT
    ]
    assert len(wrong) <= 0.005 * sum(len(row["extra"]["answers"]) for row in rows("selfaware")), wrong[:40]


def math_verdicts(step: int) -> list[tuple[str, Outcome]]:
    chosen = list(itertools.islice(itertools.chain(rows("math_train"), rows("math_test")), 0, None, step))
    found = []
    for row in chosen:
        extra = row.get("extra") or {}
        accepted = [extra.get("full_answer") or row["answer"], *(extra.get("accepted_answers") or ())]
        found.append((row["id"], grade("math", row["solution"], *accepted).outcome))
    return found


def test_reference_solutions_of_math_are_right() -> None:
    outcomes = math_verdicts(step=1)
    wrong = [(name, str(outcome)) for name, outcome in outcomes if outcome is not CORRECT]
    assert len(outcomes) == 12_500
    assert sorted(wrong) == [
        ("math-train-05341", "unparsed"),
        ("math-train-05343", "unparsed"),
    ]  # their boxes are empty


def test_reference_solutions_of_gsm8k_are_right() -> None:
    for name in ("gsm8k_train", "gsm8k_test"):
        assert all(grade("gsm8k", row["solution"], row["answer"]).outcome is CORRECT for row in rows(name))
    shifted = list(itertools.pairwise(rows("gsm8k_test")))
    right = sum(grade("gsm8k", a["solution"], b["answer"]).outcome is CORRECT for a, b in shifted)
    same = sum(a["answer"] == b["answer"] for a, b in shifted)
    assert right == same


def test_several_boxes_of_one_answer() -> None:
    for row in [*rows("math_train"), *rows("math_test")]:
        extra = row.get("extra") or {}
        if extra.get("multi_box") == "all_required":
            assert grade("math", row["solution"], extra["full_answer"]).outcome is CORRECT, row["id"]
            assert grade("math", rf"\boxed{{{row['answer']}}}", extra["full_answer"]).outcome is WRONG, row["id"]


def test_the_last_box_is_read_whole() -> None:
    assert extract_boxed(r"\boxed{1} then \boxed{ \left\{ 1, 2 \right\} }") == r"\left\{ 1, 2 \right\}"


@pytest.mark.parametrize(
    ("response", "outcome"),
    [
        ("<think>\nhm</think>\n\\boxed{12}", CORRECT),
        ("I write <think> before I think. \\boxed{12}", CORRECT),  # a word of a sentence opens nothing
        ("  <think> \\boxed{12}", UNPARSED),
        ("\\boxed{12}\n<think>and now", UNPARSED),
        ("<|im_start|><think>\\boxed{12}", UNPARSED),
    ],
)
def test_a_think_block_opens_at_a_line_s_start(response: str, outcome: Outcome) -> None:
    assert grade("math", response, "12").outcome is outcome
