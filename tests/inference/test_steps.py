"""Steps in token ids: against a search in bytes, and against the text of real kinds of tokenizers."""

from __future__ import annotations

import pickle
import random
from collections.abc import Sequence
from typing import Any

import pytest

from carerl.inference.steps import TextSplitter, for_tokenizer, token_bytes
from carerl.tasks.byte_tokenizer import EOS, make_byte_tokenizer

TEXT = "First é, then 3 + 4.\n\nSo 7:\n\n\n\nand \n\n \n\nthe answer is 7 日本.\n\n"


def splitter_of(pieces: Sequence[bytes], delimiter: bytes) -> TextSplitter:
    """Lists every token's bytes, those of plain content too: that changes nothing."""
    return TextSplitter(delimiter, dict(enumerate(pieces)))


def searched(pieces: Sequence[bytes], delimiter: bytes, ids: Sequence[int]) -> tuple[int, ...]:
    """A step ends with the first token by which its bytes hold a delimiter after something that is not white."""
    ends, text = [], b""
    for place, token in enumerate(ids, 1):
        text += pieces[token]
        if any(part.strip() for part in text.split(delimiter)[:-1]):
            ends.append(place)
            text = b""
    if ids and (not ends or ends[-1] < len(ids)):
        if ends and not b"".join(text.split(delimiter)).strip():
            ends.pop()
        ends.append(len(ids))
    return tuple(ends)


@pytest.mark.parametrize("delimiter", [b"\n\n", b"\n", b".", b"ab", b"aab", b"abab", b"Step "])
def test_ends_are_those_of_a_search_in_bytes(delimiter: bytes) -> None:
    generator = random.Random(delimiter.hex())
    several = 0
    for _ in range(400):
        alphabet = bytes(set(delimiter)) + b"x \n"
        pieces = [bytes(generator.choices(alphabet, k=generator.randint(1, 4))) for _ in range(8)]
        pieces += [delimiter[:1], delimiter[:-1], delimiter[1:], delimiter, b""]
        ids = [generator.randrange(len(pieces)) for _ in range(generator.randrange(20))]
        splitter = splitter_of(pieces, delimiter)
        assert splitter.split(ids) == searched(pieces, delimiter, ids), (pieces, ids)
        # tokens without a byte of the delimiter need no entry
        needed = {n: p for n, p in enumerate(pieces) if set(p) & set(delimiter) or not p.strip()}
        assert TextSplitter(delimiter, needed).split(ids) == splitter.split(ids)
        # the walker says the same before it has seen what follows, but for the end
        walk = splitter.walk()
        walked = [place for place, token in enumerate(ids, 1) if walk(token)]
        assert walked[: max(len(splitter.split(ids)) - 1, 0)] == list(splitter.split(ids)[:-1])
        several += len(walked) > 1
    assert several > 50


@pytest.mark.parametrize(
    ("pieces", "ids", "ends"),
    [
        ([b"a", b"\n", b".\n\n", b""], [0, 1, 1, 0, 3], (3, 5)),  # spread over tokens; the end token is the last step's
        ([b"a", b"x\n\ny", b"b"], [0, 1, 2], (2, 3)),  # inside a merged token
        ([b"a", b"\n\n", b"b"], [0, 1, 1, 1, 2, 1, 1], (2, 7)),  # repeated: no empty steps, at the end neither
        ([b"a", b"\n\n", b" "], [1, 1, 2, 0, 1, 2], (6,)),  # before anything: no empty step
        ([b"a"], [0, 0, 0], (3,)),  # none
        ([b"a"], [], ()),
        ([b"a", b"\n\n", b""], [0, 1, 2], (3,)),  # an end token alone is no step
        ([b"a", b"\n\n"], [0, 1, 0], (2, 3)),  # a truncated last step
        ([b"a", b"\n"], [0, 1, 0, 1, 1, 0], (5, 6)),  # half a delimiter is none
    ],
)
def test_where_steps_end(pieces, ids, ends) -> None:
    assert splitter_of(pieces, b"\n\n").split(ids) == ends


def trained_tokenizer() -> Any:
    """A byte-level BPE that has merged delimiters into tokens, with an end token."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=330, initial_alphabet=alphabet, special_tokens=["<eos>"], show_progress=False
    )
    backend.train_from_iterator([".\n\n", ":\n\n", "\n\nan", " 7", "é,", " the"] * 3, trainer)
    backend.add_tokens(["<think>\n\n"])
    backend.add_special_tokens(["<turn>"])
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<eos>", clean_up_tokenization_spaces=False)


def sentence_piece_tokenizer() -> Any:
    """As Llama 2's: a blank is ▁, and a line feed has no piece of its own but a byte's."""
    from tokenizers import Tokenizer, decoders, models, normalizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted({*TEXT.replace(" ", "▁").replace("\n", ""), "▁"} - {"日"})
    vocab = {piece: n for n, piece in enumerate(["<unk>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *letters])}
    backend = Tokenizer(models.BPE(vocab, [], unk_token="<unk>", byte_fallback=True))
    backend.normalizer = normalizers.Replace(" ", "▁")
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="</s>", unk_token="<unk>", clean_up_tokenization_spaces=False
    )


@pytest.mark.parametrize("make", [make_byte_tokenizer, trained_tokenizer, sentence_piece_tokenizer])
def test_steps_of_a_tokenizers_text(make) -> None:
    tokenizer = make()
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    bytes_of = token_bytes(tokenizer)
    assert b"".join(bytes_of[token] for token in ids) == TEXT.encode()
    ids.append(tokenizer.eos_token_id)
    splitter = for_tokenizer(tokenizer)
    ends = splitter.split(ids)
    texts = [
        b"".join(bytes_of[token] for token in ids[start:end]).decode()
        for start, end in zip((0, *ends), ends, strict=False)
    ]
    assert "".join(texts) == TEXT
    # the blank step between two delimiters is none; what is merged with a delimiter may lie on either side of its end
    assert len(texts) == 4 and [text.strip() for text in texts] == [
        "First é, then 3 + 4.",
        "So 7:",
        "and",
        "the answer is 7 日本.",
    ]
    assert pickle.loads(pickle.dumps(splitter)).split(ids) == ends
    by_line = for_tokenizer(tokenizer, "\n").split(ids)
    assert by_line[-1] == len(ids) and set(ends) >= {by_line[-1]} and len(by_line) == 4


def test_a_delimiter_lies_inside_merged_tokens_and_over_several() -> None:
    merged, single = trained_tokenizer(), make_byte_tokenizer()
    pieces = token_bytes(merged)
    assert any(b"\n\n" in piece and piece != b"\n\n" for piece in pieces.values())
    added = merged.convert_tokens_to_ids("<think>\n\n")
    assert pieces[added] == b"<think>\n\n" and for_tokenizer(merged).split([added, added]) == (1, 2)
    turn = merged.convert_tokens_to_ids("<turn>")
    assert turn not in merged.all_special_ids and for_tokenizer(merged).split([5, added, turn]) == (3,), "an end token"
    assert not any(b"\n\n" in piece for piece in token_bytes(single).values())
    assert for_tokenizer(single).split(single.encode("a\n\nb")) == (3, 4)
    assert token_bytes(single)[EOS] == b""


def test_a_delimiter_that_can_never_be_written_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one byte"):
        for_tokenizer(make_byte_tokenizer(), "")
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(ValueError, match="cannot write the delimiter"):
        for_tokenizer(PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="?"))
