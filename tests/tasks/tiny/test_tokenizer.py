"""The vocabulary, and its way through an ordinary Hugging Face directory."""

from __future__ import annotations

from pathlib import Path

import pytest

from carerl.tasks.tiny import TinyConfig, TinyTask
from carerl.tasks.tiny import tokenizer as tk

ROW = "Q 3 +4 *2 +9 = D 3 7 9 8 A ? <eos>"


def test_ids_are_where_the_docstring_says() -> None:
    assert tk.VOCAB_SIZE == 64 == len(set(tk.TOKENS))
    expected = {"<pad>": 0, "<eos>": 1, "Q": 2, "F": 3, "=": 4, "A": 5, "?": 6, "D": 7, "C": 8, "W": 9}
    expected |= {"0": 10, "9": 19, "a": 20, "z": 45, "+1": 46, "+9": 54, "*2": 55, "*9": 62, "<unk>": 63}
    assert {token: tk.IDS[token] for token in expected} == expected
    assert (tk.EOS, tk.ANSWER, tk.UNKNOWN, tk.SLOPPY, tk.CAREFUL, tk.TEXTBOOK) == (1, 5, 6, 7, 8, 9)


def test_text_form_refuses_other_words() -> None:
    assert tk.decode(tk.encode(ROW)) == ROW
    with pytest.raises(KeyError):
        tk.encode("Q 3 +10 =")


def test_round_trip_through_auto_tokenizer_on_a_qwen3_directory(tmp_path: Path) -> None:
    from transformers import AutoTokenizer, Qwen3Config

    Qwen3Config(vocab_size=64, hidden_size=64, num_hidden_layers=3).save_pretrained(tmp_path)
    tk.make_tokenizer().save_pretrained(tmp_path)
    loaded = AutoTokenizer.from_pretrained(tmp_path)
    assert len(loaded) == 64
    assert loaded.encode(ROW) == list(tk.encode(ROW))  # nothing added in front or behind
    assert loaded.decode(tk.encode(ROW)) == ROW
    assert loaded.decode(tk.encode(ROW), skip_special_tokens=True) == ROW.removesuffix(" <eos>")
    assert (loaded.pad_token_id, loaded.eos_token_id, loaded.unk_token_id) == (0, 1, 63)
    assert loaded.encode("Q nonsense =") == [2, 63, 4]
    TinyTask(TinyConfig(), 0).attach(loaded)


def test_attach_refuses_a_tokenizer_with_other_ids() -> None:
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel
    from tokenizers.pre_tokenizers import WhitespaceSplit
    from transformers import PreTrainedTokenizerFast

    swapped = dict(tk.IDS) | {"3": tk.IDS["4"], "4": tk.IDS["3"]}
    backend = Tokenizer(WordLevel(swapped, unk_token="<unk>"))
    backend.pre_tokenizer = WhitespaceSplit()
    other = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", unk_token="<unk>")
    with pytest.raises(ValueError, match="not the tiny world's"):
        TinyTask(TinyConfig(), 0).attach(other)
