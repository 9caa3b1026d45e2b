"""Chat templates of strangers: what they raise is told, what they leave out is refused, what does not end is ended."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from carerl.tasks import TextConfig, TextTask, chat_templates
from carerl.tasks import prompts as prompts_module
from carerl.tasks.byte_tokenizer import make_byte_tokenizer
from carerl.tasks.chat_templates import TemplateEndedError, render
from carerl.tasks.end_of_turn import end_of_turn

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + CHATML
LOOP = "{% for a in range(99999) %}" * 3 + "{% endfor %}" * 3
DOUBLING = "{% set n = namespace(x='ab') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}{{ n.x }}"
QUESTION = "What is 1 + 1?"


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prompts_module, "_LAST", {})


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A process that has two seconds for a request."""
    monkeypatch.setattr(chat_templates, "SECONDS", 2.0)
    chat_templates._CHILD.close()
    yield
    chat_templates._CHILD.close()


def templated(template: str) -> Any:
    tokenizer = make_byte_tokenizer()
    tokenizer.chat_template = template
    return tokenizer


def prompt(folder: Path, template: str, system: str = "") -> str:
    """The prompt of a question, as text."""
    (folder / "rows.jsonl").write_text(json.dumps({"question": QUESTION, "answer": "2"}) + "\n")
    config = TextConfig(train=str(folder / "rows.jsonl"), prompt_template="{question}", system_prompt=system)
    task, tokenizer = TextTask(config, 1), templated(template)
    task.attach(tokenizer)
    return str(tokenizer.decode(task.train_examples(0, 1)[0].prompt_ids))


@pytest.mark.parametrize(
    ("template", "system"),
    [
        (CHATML, ""), (CHATML, "Be brief."), (NO_SYSTEM, ""),
        ("{{ eos_token }}{% for m in messages %}{{ m.content | trim }}{{ pad_token }}{% endfor %}", ""),
        ("{{ strftime_now('%Y') }}{% for m in messages %}{{ m.content }}{% endfor %}", "Be brief."),
    ],
)  # fmt: skip
def test_a_prompt_is_what_transformers_makes_of_it(tmp_path: Path, template: str, system: str) -> None:
    chat = ([{"role": "system", "content": system}] if system else []) + [{"role": "user", "content": QUESTION}]
    tokenizer = templated(template)
    wanted = tokenizer.apply_chat_template(chat, tokenize=True, add_generation_prompt=True, return_dict=False)
    assert prompt(tmp_path, template, system) == tokenizer.decode(wanted)
    whole = [*chat, {"role": "assistant", "content": "2"}]
    assert render(tokenizer, [whole], generation=False) == [
        tokenizer.apply_chat_template(whole, tokenize=False, add_generation_prompt=False)
    ]


@pytest.mark.parametrize(
    ("template", "system", "said"),
    [
        (NO_SYSTEM, "Be brief.", "no system role; it may know no system prompt: leave task.system_prompt out"),
        ("{% for m in messages %}{{ m.content }}{% endfor", "", "TemplateSyntaxError: unexpected end of template"),
        ("{% for m in messages %}{{ m.content }}", "", "TemplateSyntaxError"),
        ("{{ messages | nope }}", "", "No filter named 'nope'"),
        ("{{ messages[0].foo.bar }}", "", "UndefinedError: 'dict object' has no attribute 'foo'"),
        ("{{ messages[5]['content'] }}", "", "UndefinedError"),
        ("{{ 1 + messages[0].content }}", "", "TypeError: unsupported operand"),
        ("{{ 1 // 0 }}", "", "ZeroDivisionError"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "", "it calls itself without end"),
        ("{{ 'a' * 10**11 }}", "", "it needs too much memory"),
        (DOUBLING, "", "it needs too much memory"),
        ("{{ messages.__class__.__mro__ }}", "", "SecurityError"),
        ("{% import 'os' as os %}", "", "no loader"),
        ("{{ '' }}", "", "makes an empty prompt of a question"),
        (" \n ", "", "makes an empty prompt of a question"),
        ("{% for m in messages %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endfor %}", "", "empty prompt"),
        ("Hello.", "", "leaves out the question: 'Hello.'"),
        ("{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}", "Be brief.",
         "leaves out the system prompt"),
    ],
)  # fmt: skip
def test_what_a_template_does_wrong_is_refused_in_its_own_words(
    tmp_path: Path, template: str, system: str, said: str
) -> None:
    with pytest.raises(ValueError) as caught:
        prompt(tmp_path, template, system)
    assert said in str(caught.value) and "chat template" in str(caught.value)


def test_a_template_that_does_not_end_is_ended_and_the_next_one_is_rendered(tmp_path: Path, hurried: None) -> None:
    begin = time.monotonic()
    with pytest.raises(TemplateEndedError, match="more than 2 s of processor time"):
        prompt(tmp_path, LOOP)
    assert time.monotonic() - begin < 60, "end_of_turn and the prompt are not waited for both"
    assert QUESTION in prompt(tmp_path, CHATML)


def test_the_process_sees_nothing_of_this_ones_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    chat_templates._CHILD.close()
    assert render(templated("x"), [[{"role": "user", "content": "y"}]]) == ["x"]
    process = chat_templates._CHILD._process
    assert process is not None and process.pid != os.getpid()
    assert b"hf_secret" not in Path(f"/proc/{process.pid}/environ").read_bytes()


def test_a_process_that_has_gone_is_started_again() -> None:
    tokenizer = templated("x")
    assert render(tokenizer, [[{"role": "user", "content": "y"}]]) == ["x"]
    process = chat_templates._CHILD._process
    assert process is not None and process.stdin is not None
    process.stdin.close()  # as when it has been idle: it ends by itself
    assert process.wait(10) == 0
    assert render(tokenizer, [[{"role": "user", "content": "y"}]]) == ["x"]


def test_a_template_that_renders_no_answer_has_no_end_of_turn() -> None:
    assert end_of_turn(templated("{{ messages[7].content }}")) is None


SWITCH = "{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"


@pytest.mark.parametrize("own", [False, True])
def test_a_template_is_told_not_to_think_first_where_it_has_a_switch(tmp_path: Path, own: bool) -> None:
    """By the process that renders, and by a tokenizer class of its own. Without the setting nothing is said."""
    (tmp_path / "rows.jsonl").write_text(json.dumps({"question": QUESTION, "answer": "2"}) + "\n")
    prompts = {}
    for thinking in ("default", "off"):
        tokenizer = templated(CHATML + SWITCH)
        if own:
            tokenizer.apply_chat_template = partial(type(tokenizer).apply_chat_template, tokenizer)
        task = TextTask(TextConfig(train=str(tmp_path / "rows.jsonl"), thinking=thinking), 1)
        task.attach(tokenizer)
        prompts[thinking] = str(tokenizer.decode(task.train_examples(0, 1)[0].prompt_ids))
        assert task.can_stop_thinking()
    assert prompts["off"] == prompts["default"] + "<think></think>"
    plain = TextTask(TextConfig(train=str(tmp_path / "rows.jsonl"), thinking="off"), 1)
    plain.attach(templated(CHATML))
    assert not plain.can_stop_thinking() and plain.train_examples(0, 1)[0].prompt_ids
