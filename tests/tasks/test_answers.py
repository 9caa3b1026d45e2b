"""Where a response says its answer, in tokens: of Qwen's vocabulary, of bytes, and of the tiny world."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from carerl.grading import GRADERS, Gold
from carerl.grading.places import POLICIES, answer_place
from carerl.tasks import TextConfig, TextTask
from carerl.tasks.answers import AnswerSpan, token_span
from carerl.tasks.byte_tokenizer import make_byte_tokenizer
from carerl.tasks.coin_flips import tossed_span
from carerl.tasks.rows.questions import Question
from carerl.tasks.taught import response
from carerl.tasks.tiny import tokenizer as tk
from carerl.tasks.tiny.config import TinyConfig
from carerl.tasks.tiny.task import TinyTask
from carerl.types import Example, Outcome, Sample
from tests.qwen_vocabulary import qwen_directory_or_skip

RESPONSES = [
    (r"2 + 2 = 4, so \boxed{4}.", r"\boxed{", "4"),
    (r"First \boxed{1}, no: $\boxed{\frac{1}{2}}$ holds.", r"\boxed{", r"\frac{1}{2}"),
    ("Ein Drittel, \\fbox{ 1/3 }\n\nand \\boxed{ unfinished", r"\fbox{ ", "1/3"),
    ("é€ and 漢字: \\boxed{漢} indeed", r"\boxed{", "漢"),
    (r"<think>\boxed{3}</think> it is \boxed{5}", r"\boxed{", "5"),
]


def check(text: str, mark: str, answer: str, ids: Sequence[int], decode) -> None:  # type: ignore[no-untyped-def]
    """The answer's tokens hold all of it and would not without the first or the last; so does the mark's first."""
    place = answer_place(decode(ids), "math", False)
    assert place is not None
    found = token_span(ids, decode, place)
    before, said = decode(ids[: found.mark]), decode(ids[: found.end])
    start = text.rindex(mark + answer) + len(mark)
    assert len(decode(ids[: found.start])) <= start < len(decode(ids[: found.start + 1]))
    assert len(decode(ids[: found.end - 1])) < start + len(answer) <= len(said)
    assert len(before) <= start - len(mark) < len(decode(ids[: found.mark + 1]))


@pytest.mark.parametrize(("text", "mark", "answer"), RESPONSES)
def test_the_tokens_of_the_last_box_are_found_in_bytes(text: str, mark: str, answer: str) -> None:
    tokenizer = make_byte_tokenizer()
    ids = tokenizer.encode(text, add_special_tokens=False)
    check(text, mark, answer, ids, lambda some: str(tokenizer.decode(list(some))))


@pytest.mark.parametrize(("text", "mark", "answer"), RESPONSES)
def test_the_tokens_of_the_last_box_are_found_in_qwens_vocabulary(
    text: str, mark: str, answer: str, tmp_path: Path
) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(qwen_directory_or_skip(tmp_path))
    ids = tokenizer.encode(text, add_special_tokens=False)
    check(text, mark, answer, ids, lambda some: str(tokenizer.decode(list(some))))


@pytest.mark.parametrize("text", ["no box", r"\boxed{}", r"\boxed{open", r"\boxed{1}</think> then nothing", ""])
def test_without_a_box_that_holds_something_there_is_no_span(text: str) -> None:
    assert answer_place(text, "math", False) is None


FORMS = [
    ("math", r"\boxed{7}, or <answer>8</answer>", r"\boxed{", "7"),
    ("math", "I say <answer> 8 </answer>.", "<answer> ", "8"),
    ("gsm8k", r"so \boxed{71}" "\n#### 72\n", "#### ", "72"),
    ("gsm8k", r"so \boxed{72}.", r"\boxed{", "72"),
    ("gsm8k", "3 <<1+2=3>>3\n#### 1,200", "#### ", "1,200"),
    ("choice", r"<answer>A</answer> no: \boxed{B}", r"\boxed{", "B"),
    ("countdown", r"\boxed{3}: <answer>1 + 2</answer>", "<answer>", "1 + 2"),
    ("countdown", r"\boxed{1 + 2}", r"\boxed{", "1 + 2"),
    ("math", r"<think>#### 5\n\boxed{1}</think>\boxed{2}", r"\boxed{", "2"),
]


@pytest.mark.parametrize(("grader", "text", "mark", "answer"), FORMS)
def test_what_the_grader_reads_first_is_the_answer(grader: str, text: str, mark: str, answer: str) -> None:
    found = answer_place(text, grader, False)
    assert found is not None
    assert (text[found[0] : found[1]], text[found[1] : found[2]]) == (mark, answer)
    gold = Gold((answer,), (("A", "tin"), ("B", "gold")), (1, 2), 3)
    assert GRADERS[grader].grade(text, gold, False).outcome is Outcome.CORRECT, "and it is what is graded"


def test_an_answer_without_a_mark_or_of_another_form_has_no_place() -> None:
    for text in ("The answer is 12.", "It is 12", '{"answer": "12"}', "<answer></answer>", "#### 2. Multiply"):
        assert answer_place(text, "math", False) is None
    assert answer_place(r"\boxed{Paris}", "selfaware", False) is None
    assert answer_place("#### 72", "gsm8k", False) is not None
    assert answer_place("#### 72 dollars", "gsm8k", False) is None, "it is read with its unit as a formula"
    assert answer_place("#### 72", "gsm8k", True) is None, "the length limit may have cut it"


@pytest.mark.parametrize("grader", GRADERS)
def test_the_form_that_a_grader_teaches_is_found(grader: str) -> None:
    """Of every grader but SelfAware's, whose answers are words."""
    row = Question("q", "?", Gold(("B",), (("A", "tin"), ("B", "gold")), (1, 2), 3), grader, solution="1 + 2")
    text = response(row, "decision")
    found = answer_place(text, grader, False)
    assert (found is None) == (grader == "selfaware") == (grader not in POLICIES)
    if found is not None:
        assert text[found[1] : found[2]] == ("1 + 2" if grader == "countdown" else "B")


def test_a_stated_confidence_is_not_looked_at_and_moves_nothing() -> None:
    task = TextTask(TextConfig(), 1)
    task.attach(make_byte_tokenizer())
    example = Example("q", (1,), "12", {"grader": "math", "gold": Gold(("12",))})
    for text in (
        r"so \boxed{12}. <confidence>\boxed{90}</confidence>",
        r"<confidence>0.9</confidence> so \boxed{12}.",
        r"\boxed{<confidence>1</confidence>12}",
    ):
        ids = make_byte_tokenizer().encode(text, add_special_tokens=False)
        span = task.answer_span(example, Sample("q", tuple(ids), (0.0,) * len(ids), False, (0, 0)))
        assert span is not None and task.response_text(ids[span.start : span.end]) == "12"
        assert task.grade(example, ids, False)[0] is Outcome.CORRECT


def test_the_tiny_worlds_answer_stands_behind_the_first_mark() -> None:
    task = TinyTask(TinyConfig(), 100)
    (example,) = task.train_examples(0, 1)

    def span(said: str) -> AnswerSpan | None:
        ids = tk.encode(said)
        return task.answer_span(example, Sample(example.id, ids, (0.0,) * len(ids), False, (0, 0)))

    assert span("C 3 7 4 A 4 <eos>") == AnswerSpan(4, 5, 6)
    assert span("D 3 A ? A 4") == AnswerSpan(2, 3, 4)
    for none in ("C 3 7", "A", "A <eos> 4", "<eos> A 4", "A x"):
        assert span(none) is None


def test_in_a_rehearsal_the_last_token_stands_for_the_answer() -> None:
    assert tossed_span((5, 6, 7)) == AnswerSpan(2, 2, 3)
    assert tossed_span((5,)) is None and tossed_span(()) is None
