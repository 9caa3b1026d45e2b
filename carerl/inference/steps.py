r"""Cuts responses into steps, in token ids: nothing is decoded and tokenised again.

A step of a text ends after the token in which the delimiter is completed, wherever its bytes lie: inside a token, or
over several of them. What follows the delimiter in the same token still belongs to that step. A delimiter that follows
another one with nothing but white space between them makes no empty step: it belongs to the next step. What is left
after the last delimiter is a step too, ended or truncated; if it is white space or an end token only, it belongs to the
step before. A response without a delimiter is one step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from carerl.records.splitting import Splitter as Splitter  # many that split look for it here
from carerl.records.splitting import Walker

WHITE = frozenset(b" \t\r\n\x0b\x0c")


@dataclass(frozen=True)
class TextSplitter:
    """Splits the tokens of a text at a delimiter.

    ``pieces``: the bytes of the tokens that hold a byte of the delimiter, or white space only, or nothing (an end
    token). Every other token is content without a byte of the delimiter.

    >>> splitter = TextSplitter(b"\\n\\n", {0: b"", 1: b"\\n", 2: b".\\n\\n"})
    >>> splitter.split([7, 1, 1, 1, 1, 8, 2, 9, 0])
    (3, 7, 9)
    >>> splitter.split([7, 2, 0]), splitter.split([7, 8])
    ((3,), (2,))
    """

    delimiter: bytes
    pieces: Mapping[int, bytes]
    _fallback: tuple[int, ...] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        """Raises ValueError for an empty delimiter."""
        if not self.delimiter:
            raise ValueError("a delimiter has at least one byte")
        object.__setattr__(self, "_fallback", _fallbacks(self.delimiter))

    def walk(self) -> Walker:
        return _Walk(self).step

    def split(self, token_ids: Sequence[int]) -> tuple[int, ...]:
        walk = _Walk(self)
        ends = [index + 1 for index, token in enumerate(token_ids) if walk.step(token)]
        if len(token_ids) and (not ends or ends[-1] < len(token_ids)):
            if ends and not walk.content:
                ends.pop()
            ends.append(len(token_ids))
        return tuple(ends)


class _Walk:
    """Walks over one response byte by byte. ``content``: bytes of the step so far that are neither white space nor
    part of a delimiter. A delimiter is found across tokens as in Knuth, Morris and Pratt's search."""

    def __init__(self, splitter: TextSplitter) -> None:
        self._splitter = splitter
        self._matched = 0  # bytes of the delimiter that the last bytes are
        self._own = sum(byte not in WHITE for byte in splitter.delimiter)
        self.content = 0
        self._over = False  # a step has ended with the last token

    def step(self, token: int) -> bool:
        """Takes the next token. Returns True if a step ends after it."""
        if self._over:
            self.content, self._matched, self._over = 0, 0, False
        piece = self._splitter.pieces.get(token)
        if piece is None:
            self.content += 1
            self._matched = 0
            return False
        for byte in piece:
            self._take(byte)
        return self._over

    def _take(self, byte: int) -> None:
        delimiter, fallback = self._splitter.delimiter, self._splitter._fallback
        self.content += byte not in WHITE
        while self._matched and delimiter[self._matched] != byte:
            self._matched = fallback[self._matched - 1]
        self._matched += delimiter[self._matched] == byte
        if self._matched == len(delimiter):
            self._matched = 0
            self.content -= 0 if self._over else self._own
            self._over = self._over or self.content > 0


def _fallbacks(delimiter: bytes) -> tuple[int, ...]:
    """Returns, for each length of a match, that of the longest shorter one which it ends in."""
    found = [0]
    for byte in delimiter[1:]:
        length = found[-1]
        while length and delimiter[length] != byte:
            length = found[length - 1]
        found.append(length + (delimiter[length] == byte))
    return tuple(found)


def for_tokenizer(tokenizer: Any, delimiter: str = "\n\n") -> TextSplitter:
    r"""Makes a splitter from a Hugging Face tokenizer: byte-level BPE, or SentencePiece with or without bytes of its
    own. It looks at each token of the vocabulary once.

    Raises ValueError for an empty delimiter, and if the tokenizer cannot write it (it drops line feeds, say).
    """
    wanted = delimiter.encode()
    bytes_of = token_bytes(tokenizer)
    pieces = {token: piece for token, piece in bytes_of.items() if not piece or set(piece) & set(wanted)}
    pieces |= {token: piece for token, piece in bytes_of.items() if set(piece) <= WHITE}
    splitter = TextSplitter(wanted, pieces)
    written = b"".join(bytes_of.get(token, b"") for token in tokenizer.encode(delimiter, add_special_tokens=False))
    if wanted not in written:
        raise ValueError(f"the tokenizer cannot write the delimiter {delimiter!r}: no step would ever end")
    return splitter


def token_bytes(tokenizer: Any) -> dict[int, bytes]:
    """Returns the bytes that each token of a Hugging Face tokenizer stands for; b"" for special tokens. A character may
    be spread over several tokens, so that a token alone need not be UTF-8."""
    added = {int(token): text for token, text in tokenizer.added_tokens_decoder.items()}
    special = {*tokenizer.all_special_ids, *(token for token, text in added.items() if text.special)}
    byte_level = _is_byte_level(tokenizer)
    found = {}
    for text, token in tokenizer.get_vocab().items():
        if token in special:
            found[token] = b""
        elif token in added:
            found[token] = str(added[token]).encode()
        else:
            found[token] = _byte_level(text) if byte_level else _sentence_piece(text)
    return found


def _is_byte_level(tokenizer: Any) -> bool:
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return "Ġ" in "".join(tokenizer.tokenize(" a"))
    return backend.decoder is not None and b"ByteLevel" in backend.decoder.__getstate__()


_BYTES: dict[str, int] = {}


def _byte_level(text: str) -> bytes:
    """Returns the bytes of a byte-level token. GPT-2 writes the 188 printable bytes of Latin-1 as themselves, and the
    others, in order, as the characters from U+0100 on."""
    if not _BYTES:
        plain = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
        others = [byte for byte in range(256) if byte not in plain]
        _BYTES.update({chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)})
    return b"".join(bytes((_BYTES[mark],)) if mark in _BYTES else mark.encode() for mark in text)


def _sentence_piece(text: str) -> bytes:
    if len(text) == 6 and text.startswith("<0x") and text.endswith(">"):
        return bytes((int(text[3:5], 16),))
    return text.replace("▁", " ").encode()
