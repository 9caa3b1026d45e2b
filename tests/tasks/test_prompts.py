"""Prompts as token ids: encoded once and many at a time, as one by one; dropped where they are too long.

The tokenizer is the byte-level one, whose calls are counted. Real questions in a real vocabulary:
``config/test_recipes_on_math.py``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from carerl.tasks import TextConfig, TextTask
from carerl.tasks import prompts as module
from carerl.tasks.base import VALIDATION
from carerl.tasks.byte_tokenizer import make_byte_tokenizer
from carerl.tasks.prompts import fingerprint, prompt_encoder, prompt_lengths
from carerl.types import Example

LENGTHS = [5, 40, 300, 12, 80, 41, 39, 200]  # letters of the training questions


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_LAST", {})


def write(folder: Path, name: str, texts: dict[str, str]) -> str:
    rows = [{"id": key, "question": text, "answer": "1", "grader": "math"} for key, text in texts.items()]
    (folder / name).write_text("\n".join(map(json.dumps, rows)))
    return str(folder / name)


def training_file(folder: Path) -> str:
    return write(folder, "train.jsonl", {f"t{i}": chr(97 + i) * n for i, n in enumerate(LENGTHS)})


def make_task(folder: Path, chat: bool = True, seed: int = 3, **settings: Any) -> TextTask:
    chosen = {"train": training_file(folder), "prompt_template": "{question}", **settings}
    task = TextTask(TextConfig(**chosen), seed)
    task.attach(make_byte_tokenizer(chat))
    return task


class Counting:
    """A tokenizer that notes what reaches it."""

    def __init__(self, chat: bool = True) -> None:
        self._own = make_byte_tokenizer(chat)
        self.calls: list[int] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._own, name)

    def __len__(self) -> int:
        return len(self._own)

    def __call__(self, texts: list[str], **options: Any) -> Any:
        self.calls.append(len(texts))
        return self._own(texts, **options)


PROMPTS = [("", "Half of one?"), ("Be brief.", "Half of one?"), ("", "A longer question\nof two lines?"), ("", "é")]


@pytest.mark.parametrize("chat", [True, False])
def test_many_at_a_time_are_encoded_as_one_by_one(chat: bool) -> None:
    tokenizer: Any = make_byte_tokenizer(chat)
    found = prompt_encoder(tokenizer)(PROMPTS)
    for (system, text), ids in zip(PROMPTS, found, strict=True):
        if chat:
            said = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": text}]
            alone = tokenizer.apply_chat_template(said, tokenize=True, add_generation_prompt=True, return_dict=False)
        else:
            alone = tokenizer.encode(f"{system}\n\n{text}\n" if system else f"{text}\n")
        assert list(ids) == alone
    assert tokenizer.decode(found[1]) == (
        "<|system|>Be brief.<eos><|user|>Half of one?<eos><|assistant|>" if chat else "Be brief.\n\nHalf of one?\n"
    )


@pytest.mark.parametrize("chat", [True, False])
def test_a_prompt_is_encoded_once_whoever_asks(chat: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_A_TIME", 3)
    tokenizer: Any = Counting(chat)
    first = prompt_encoder(tokenizer)([*PROMPTS, *PROMPTS])
    assert tokenizer.calls == [3, 1] and first[:4] == first[4:]
    same: Any = Counting(chat)  # another object of the same contents, as when a model is loaded again
    assert fingerprint(same) == fingerprint(tokenizer)
    assert prompt_encoder(same)([*PROMPTS[2:], ("", "new")])[:2] == first[2:4]
    assert same.calls == [] and tokenizer.calls == [3, 1, 1]
    other: Any = Counting(not chat)
    assert prompt_encoder(other)(PROMPTS) != first[:4] and sum(other.calls) == 4


def test_a_task_encodes_each_question_once_over_all_epochs_and_suites(tmp_path: Path) -> None:
    task = make_task(tmp_path, benchmarks=[write(tmp_path, "eval.jsonl", {"e": "x" * 3, "f": "y" * 4})])
    tokenizer: Any = Counting()
    task.attach(tokenizer)
    task.training_lengths()
    task.suites()
    for start in range(0, 400, 50):
        task.train_examples(start, 50)
    assert sum(tokenizer.calls) == len(LENGTHS) + 2 and len(tokenizer.calls) == 2


def test_a_prompt_that_a_template_refuses_is_an_error_with_a_remedy(tmp_path: Path) -> None:
    tokenizer = make_byte_tokenizer()
    tokenizer.chat_template = (
        "{% for m in messages %}{% if m['role'] == 'system' %}{{ raise_exception('System role not supported') }}"
        "{% endif %}{{ m['content'] }}{% endfor %}"
    )
    task = make_task(tmp_path, system_prompt="Be brief.")
    task.attach(tokenizer)
    with pytest.raises(ValueError, match=r"System role not supported; .* leave task\.system_prompt out"):
        task.train_examples(0, 1)


def test_lengths_are_measured_with_the_longest_first() -> None:
    examples = [Example(name, (1,) * n, "", {}) for name, n in (("b", 4), ("a", 7), ("c", 7), ("d", 2))]
    found = prompt_lengths(examples, 4)
    assert (found.questions, found.shortest, found.longest) == (4, ("d", 2), ("a", 7))
    assert found.too_long == (("a", 7), ("c", 7)) and not found.none_fits
    assert prompt_lengths(examples, 1).none_fits and prompt_lengths(examples, 7).too_long == ()
    assert found.record() == {
        "questions": 4, "max_prompt_tokens": 4, "too_long": 2, "longest": {"id": "a", "tokens": 7},
    }  # fmt: skip
    with pytest.raises(ValueError, match="no prompt"):
        prompt_lengths([], 4)


# ------------------------------------------------------------------------------------------------- training questions

MARKS = 3  # tokens that the byte model's template puts around a question


def test_training_prompts_of_more_tokens_are_dropped_and_counted(tmp_path: Path) -> None:
    task = make_task(tmp_path, max_prompt_tokens=40 + MARKS)
    found = task.training_lengths()
    assert found.too_long == (("t2", 303), ("t7", 203), ("t4", 83), ("t5", 44)) and found.questions == len(LENGTHS)
    epoch = task.train_examples(0, 4)
    assert {example.id for example in epoch} == {"train/0/t0", "train/0/t1", "train/0/t3", "train/0/t6"}
    assert max(len(example.prompt_ids) for example in epoch) == 40 + MARKS, "exactly as many are not too many"


def test_the_order_of_an_epoch_is_that_of_the_questions_left(tmp_path: Path) -> None:
    """A file that never held the long ones gives the same order; so does a task that is made anew for a resume."""
    task = make_task(tmp_path, max_prompt_tokens=40 + MARKS)
    whole = task.train_examples(0, 12)
    kept = {f"t{i}": chr(97 + i) * n for i, n in enumerate(LENGTHS) if n <= 40}
    short = make_task(tmp_path, train=write(tmp_path, "short.jsonl", kept))
    assert short.train_examples(0, 12) == whole
    again = make_task(tmp_path, max_prompt_tokens=40 + MARKS)
    assert again.train_examples(5, 7) == whole[5:]
    assert make_task(tmp_path, seed=4, max_prompt_tokens=43).train_examples(0, 12) != whole


def test_a_system_prompt_counts(tmp_path: Path) -> None:
    without = make_task(tmp_path, max_prompt_tokens=40 + MARKS).training_lengths()
    system = "Think it over, then answer."
    within = make_task(tmp_path, max_prompt_tokens=40 + MARKS, system_prompt=system).training_lengths()
    assert within.longest[1] == without.longest[1] + len(system) + 2
    assert len(within.too_long) > len(without.too_long)


def test_validation_questions_do_not_depend_on_what_is_too_long(tmp_path: Path) -> None:
    """They are drawn from all questions: another model's vocabulary gives the same ones."""
    tasks = [make_task(tmp_path, validation_questions=3, max_prompt_tokens=n) for n in (0, 20 + MARKS)]
    held = [[example.id for example in task.suites()[-1].examples] for task in tasks]
    assert tasks[0].suites()[-1].name == VALIDATION and held[0] == held[1]
    trained = {example.id.rpartition("/")[2] for example in tasks[1].train_examples(0, 20)}
    assert trained == {f"t{i}" for i, n in enumerate(LENGTHS) if n <= 20} - set(held[0])


def test_none_left_is_an_error(tmp_path: Path) -> None:
    task = make_task(tmp_path, max_prompt_tokens=4)
    assert task.training_lengths().none_fits
    with pytest.raises(ValueError, match="no prompt has 4 tokens or fewer"):
        task.train_examples(0, 1)


def test_an_end_of_turn_that_is_no_special_token_is_no_part_of_a_response(tmp_path: Path) -> None:
    tokenizer = make_byte_tokenizer()
    tokenizer.add_tokens(["<end>"])
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}<end>{% endfor %}"
    task = make_task(tmp_path)
    task.attach(tokenizer)
    end = tokenizer.convert_tokens_to_ids("<end>")
    assert task.stop_ids == (tokenizer.eos_token_id, end)
    said = tokenizer.encode("7 or <end>8")
    assert task.response_text([*said, end]) == task.response_text(said) == "7 or <end>8"
