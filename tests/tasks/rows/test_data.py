"""Rows of a user's file: what cannot be read is named with its line, whatever it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from carerl.tasks.rows.data import MAX_DEPTH, parse_line, read_jsonl

GOOD = b'{"question": "1 + 1?", "answer": "2"}\n'


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{broken", "not JSON"),
        (b'{"question": "caf\xe9"}', "not UTF-8 .byte 18 of the line"),
        (b"[" * 200_000, "nested deeper than 100 brackets"),
        (b'{"a": ' + b"[" * 500 + b"]" * 500 + b"}", "nested deeper than 100 brackets"),
        (b'{"answer": ' + b"9" * 5000 + b"}", "a whole number of too many digits"),
        (rb'{"question": "\ud800"}', "half of a surrogate pair"),
        (rb'{"\uDFFF": "x"}', "half of a surrogate pair"),
    ],
)
def test_a_line_that_cannot_be_read_is_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(GOOD + b"\n" + line + b"\n" + GOOD)
    with pytest.raises(ValueError, match=rf"rows\.jsonl:3: {message}"):
        list(read_jsonl(path))


def test_what_only_looks_strange_is_read(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [
        b"\xef\xbb\xbf" + GOOD,
        rb'{"a": "\ud83d\ude00 \u00e9 \\ud800"}',
        b'{"a": "tab\there"}',
        b'{"a": "\xc2\x85"}',
    ]
    path.write_bytes(b"\r\n".join(line.strip() for line in lines))
    assert [where for where, _ in read_jsonl(path)] == [f"rows.jsonl:{n}" for n in (1, 2, 3, 4)]
    values = [value for _, value in read_jsonl(path)]
    assert values == [json.loads(GOOD), {"a": "\N{GRINNING FACE} é \\ud800"}, {"a": "tab\there"}, {"a": "\x85"}]


def test_the_depth_is_counted_where_there_are_many_brackets() -> None:
    deep = b"[" * MAX_DEPTH + b"]" * MAX_DEPTH
    assert parse_line(deep) is not None
    assert len(parse_line(b"[" + b"{}," * 1000 + b"[]]")) == 1001, "wide is not deep"
    for inner in (deep, b'{"a": ' * MAX_DEPTH + b"1" + b"}" * MAX_DEPTH):
        with pytest.raises(ValueError, match="nested deeper"):
            parse_line(b"[" + inner + b"]")
