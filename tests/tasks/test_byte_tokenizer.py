"""The tokenizer of bytes: nothing is lost, nothing has two encodings, and a saved one is the same."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from carerl.tasks.byte_tokenizer import EOS, PAD, SPECIALS, VOCAB_SIZE, make_byte_tokenizer

TEXTS = ["", " ", "Find $\\frac{1}{2}$.\n\n  Two  blanks", "é 你好 😀", "it's\tWe'll 12,345", "\u00a0\ufeff\x00\x7f"]


@pytest.mark.parametrize("text", TEXTS)
def test_a_token_is_a_byte_and_every_text_comes_back(text: str) -> None:
    tokenizer = make_byte_tokenizer()
    ids = tokenizer.encode(text)
    assert len(ids) == len(text.encode()) and tokenizer.decode(ids) == text
    assert all(i >= len(SPECIALS) for i in ids)


def test_every_id_is_a_token_and_every_byte_has_one() -> None:
    tokenizer = make_byte_tokenizer()
    assert sorted(tokenizer.get_vocab().values()) == list(range(VOCAB_SIZE)) and len(tokenizer) == VOCAB_SIZE
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (PAD, EOS)
    assert tokenizer.convert_ids_to_tokens(list(range(len(SPECIALS)))) == list(SPECIALS)
    every = {i for byte in range(128) for i in tokenizer.encode(chr(byte))}
    assert len(every) == 128
    assert tokenizer.decode([255], skip_special_tokens=True) == "\ufffd", "half a character"
    assert tokenizer.decode([EOS, *tokenizer.encode("a"), PAD], skip_special_tokens=True) == "a"


def test_a_saved_one_is_the_same(tmp_path: Path) -> None:
    made = make_byte_tokenizer()
    made.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    settings = {"tokenize": True, "add_generation_prompt": True, "return_dict": False}
    assert loaded.apply_chat_template(messages, **settings) == made.apply_chat_template(messages, **settings)
    for text in TEXTS:
        assert loaded.encode(text) == made.encode(text) and loaded.decode(loaded.encode(text)) == text


def test_without_a_chat_template() -> None:
    assert make_byte_tokenizer(chat=False).chat_template is None
