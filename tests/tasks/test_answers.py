"""Where a response says its answer, in tokens: of Qwen's vocabulary, of bytes, and of the tiny world."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from carerl.tasks.answers import AnswerSpan, boxed_span
from carerl.tasks.byte_tokenizer import make_byte_tokenizer
from carerl.tasks.coin_flips import tossed_span
from carerl.tasks.tiny import tokenizer as tk
from carerl.tasks.tiny.config import TinyConfig
from carerl.tasks.tiny.task import TinyTask
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
    found = boxed_span(ids, decode)
    assert found is not None
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
    tokenizer = make_byte_tokenizer()
    ids = tokenizer.encode(text, add_special_tokens=False)
    assert boxed_span(ids, lambda some: str(tokenizer.decode(list(some)))) is None


def test_the_tiny_worlds_answer_stands_behind_the_first_mark() -> None:
    task = TinyTask(TinyConfig(), 100)
    assert task.answer_span(tk.encode("C 3 7 4 A 4 <eos>")) == AnswerSpan(4, 5, 6)
    assert task.answer_span(tk.encode("D 3 A ? A 4")) == AnswerSpan(2, 3, 4)
    for none in ("C 3 7", "A", "A <eos> 4", "<eos> A 4", "A x"):
        assert task.answer_span(tk.encode(none)) is None


def test_in_a_rehearsal_the_last_token_stands_for_the_answer() -> None:
    assert tossed_span((5, 6, 7)) == AnswerSpan(2, 2, 3)
    assert tossed_span((5,)) is None and tossed_span(()) is None
