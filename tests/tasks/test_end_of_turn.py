"""The token that ends an assistant's turn, found by rendering.

The templates are written here after the shapes of public ones, reduced to what matters: how a turn ends.
"""

from __future__ import annotations

from typing import Any

import pytest
from tokenizers import AddedToken

from carerl.tasks.byte_tokenizer import make_byte_tokenizer
from carerl.tasks.end_of_turn import end_of_turn

EACH = "{% for m in messages %}"
CHATML = EACH + "<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
LLAMA_3 = (
    "{{ bos_token }}" + EACH + "<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
)
GEMMA = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    + EACH
    + "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n{{ m['content'] }}<end_of_turn>\n"
    "{% endfor %}"
)
PHI = EACH + "<|{{ m['role'] }}|>\n{{ m['content'] }}<|end|>\n{% endfor %}{{ eos_token }}"
MISTRAL = (
    EACH + "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }}{{ eos_token }}"
    "{% endif %}{% endfor %}"
)
LLAMA_2 = (
    EACH + "{% if m['role'] == 'user' %}[INST] {{ m['content'] }} [/INST]{% else %} {{ m['content'] }} {{ eos_token }}"
    "{% endif %}{% endfor %}"
)
DEEPSEEK = (
    EACH + "{% if m['role'] == 'user' %}<｜User｜>{{ m['content'] }}{% else %}<｜Assistant｜>"
    "{{ m['content'].split('</think>')[-1] }}<｜end▁of▁sentence｜>{% endif %}{% endfor %}"
)
THINKING = (  # an empty thought stands before the answer, and a prompt for the next turn may follow
    EACH + "<|im_start|>{{ m['role'] }}\n{% if m['role'] == 'assistant' %}<think>\n\n</think>\n\n{% endif %}"
    "{{ m['content'] }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PLAIN = EACH + "[{{ m['role'] }}]{{ m['content'] }}\n{% endfor %}"
ADDED = [
    "<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<start_of_turn>",
    "<end_of_turn>", "<|end|>", "<|end|", "<｜User｜>", "<｜Assistant｜>", "<｜end▁of▁sentence｜>",
]  # fmt: skip


def make(template: Any, special: bool = True) -> Any:
    tokenizer = make_byte_tokenizer()
    tokenizer.add_tokens([AddedToken(token, special=special) for token in ADDED], special_tokens=special)
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize(
    ("template", "token"),
    [
        (CHATML, "<|im_end|>"), (LLAMA_3, "<|eot_id|>"), (GEMMA, "<end_of_turn>"), (PHI, "<|end|>"),
        (MISTRAL, "<eos>"), (LLAMA_2, "<eos>"), (DEEPSEEK, "<｜end▁of▁sentence｜>"), (THINKING, "<|im_end|>"),
    ],
    ids=["chatml", "llama-3", "gemma", "phi", "mistral", "llama-2", "deepseek", "thinking"],
)  # fmt: skip
@pytest.mark.parametrize("special", [True, False])
def test_it_is_the_token_behind_what_the_assistant_said(template: str, token: str, special: bool) -> None:
    tokenizer = make(template, special)
    found = end_of_turn(tokenizer)
    assert found is not None and tokenizer.convert_ids_to_tokens(found) == token
    # the model meets it there: it is what comes next when a turn is encoded
    said = [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "7"}]
    ids = tokenizer.apply_chat_template(said, tokenize=True, return_dict=False)
    assert found in ids[-4:]


@pytest.mark.parametrize(
    "template",
    [
        None,
        PLAIN,
        "{{ raise_exception('never') }}",
        "{% for m in messages %}{{ m['no_such'].x }}{% endfor %}",
        "{% for m in messages %}{% if m['role'] == 'user' %}{{ m['content'] }}<|im_end|>{% endif %}{% endfor %}",
        "<|im_start|>{{ messages[0]['content'] }}<|im_end|>",
        EACH + "{{ m['content'] }}. <|im_end|>{% endfor %}",
    ],
    ids=["no template", "nothing there", "raises", "fails", "answer left out", "question only", "text between"],
)
def test_there_need_not_be_one(template: str | None) -> None:
    assert end_of_turn(make(template)) is None


def test_the_byte_models_turn_ends_with_its_end_token() -> None:
    tokenizer = make_byte_tokenizer()
    assert end_of_turn(tokenizer) == tokenizer.eos_token_id
