"""What a file that is no file of rows is instead, in words that lead to the remedy.

A file of rows is UTF-8 text, one JSON object a line. Compressed files are refused rather than unpacked: what is trained
on then lies there as it is read, and no small file becomes a large one in memory.
"""

from __future__ import annotations

import difflib
import json
import os
from pathlib import Path

HEAD = 4096  # bytes that are looked at
WHOLE = 64 * 2**20  # bytes of a file, at most, that is read whole to say what it is

# (first bytes, what it is, a remedy in which {file} is the file's name)
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "gzip-compressed", "unpack it: gunzip -c < {file} > NEW.jsonl"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed", "unpack it: zstd -dc < {file} > NEW.jsonl"),
    (b"BZh", "bzip2-compressed", "unpack it: bunzip2 -c < {file} > NEW.jsonl"),
    (b"\xfd7zXZ\x00", "xz-compressed", "unpack it: xz -dc < {file} > NEW.jsonl"),
    (b"\x04\x22\x4d\x18", "lz4-compressed", "unpack it: lz4 -dc {file} > NEW.jsonl"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it: 7z x {file}"),
    (b"PK\x03\x04", "a zip archive (or a spreadsheet)", "unpack it: unzip {file}; save a spreadsheet's rows as JSON"),
    (b"PAR1", "a Parquet file", "convert it: python -c \"import pandas; pandas.read_parquet('{file}')"
                                ".to_json('NEW.jsonl', orient='records', lines=True)\""),
    (b"ARROW1", "an Arrow file", "convert it with datasets: Dataset.from_file(...).to_json('NEW.jsonl')"),
    (b"SQLite format 3\x00", "an SQLite database", "export its rows as JSON, one object a line"),
    (b"%PDF", "a PDF document", "give a .jsonl file"),
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer and not the data", "fetch them: git lfs pull"),
    (b"\xff\xfe\x00\x00", "UTF-32 text", "convert it: iconv -f UTF-32 -t UTF-8 {file} > NEW.jsonl"),
    (b"\xff\xfe", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 {file} > NEW.jsonl"),
    (b"\xfe\xff", "UTF-16 text", "convert it: iconv -f UTF-16 -t UTF-8 {file} > NEW.jsonl"),
)  # fmt: skip


def file_fault(path: Path) -> str:
    """Returns why no rows can be read from a path, with a remedy: it is not there, is a directory, is compressed, is of
    another format, or is empty. '' for a file whose lines are to be read. Its rows are not checked."""
    if os.path.isdir(path):  # not Path's, which raises for a name that is too long
        inside = [name for name in _names(path) if name.endswith(".jsonl")]
        return "it is a directory; give " + (f"a file in it: {', '.join(inside[:5])}" if inside else "a .jsonl file")
    if not os.path.exists(path):
        near = difflib.get_close_matches(path.name, _names(path.parent), n=3, cutoff=0.7)
        return "no such file; " + (
            f"beside it there is {', '.join(near)}" if near else "give a .jsonl file that exists"
        )
    try:
        with path.open("rb") as file:
            head = file.read(HEAD)
    except OSError as error:
        return f"it cannot be read ({error.strerror}); give a file that this user may read"
    return content_fault(head, path.name)


def _names(folder: Path) -> list[str]:
    try:
        return sorted(path.name for path in folder.iterdir())
    except OSError:
        return []


def content_fault(head: bytes, name: str) -> str:
    """Returns what a file is instead of rows, by its first bytes, with a remedy; '' for text."""
    for signature, what, remedy in _SIGNATURES:
        if head.startswith(signature):
            return f"it is {what}, and not lines of JSON; {remedy.format(file=name)}"
    if not head:
        return "it is empty; give a file with an object a line"
    if (len(head) > 3 and head[1::2].count(0) > len(head) // 4) or head[0::2].count(0) > len(head) // 4:
        return f"it is UTF-16 text, and not UTF-8; convert it: iconv -f UTF-16 -t UTF-8 {name} > NEW.jsonl"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"["):
        return (
            "it is one JSON array, and not an object a line; convert it: "
            f"python -c \"import json; [print(json.dumps(row)) for row in json.load(open('{name}'))]\" > NEW.jsonl"
        )
    if text[:9].lower().startswith((b"<!doctype", b"<html")):
        return "it is a web page, and not rows; download the file itself (the hub's 'raw' or 'download' link)"
    return ""


def line_hint(line: bytes, path: Path | None = None) -> str:
    """Returns what a line that is no JSON looks like, with a remedy, or ''. ``path``: its file, which is read to tell
    an object that goes over several lines."""
    text = line.strip().removeprefix(b"\xef\xbb\xbf")
    if text.startswith(b"{") and path is not None and (found := _over_lines(path)):
        return found
    if b"\r{" in text:
        return "its lines end with a carriage return alone: convert them, tr '\\r' '\\n'"
    if text.endswith(b",") and text.startswith(b"{"):
        return "there is a comma behind the object: a file of rows is no array, so take the commas away"
    if text.startswith(b"{'"):
        return "it is written as Python does: JSON has its keys and texts in double quotes"
    if b"}{" in text or b"} {" in text:
        return "there are two objects on the line: write each on a line of its own"
    if text.startswith((b"//", b"#")):
        return "JSON has no comments"
    if text[:1] not in (b"{", b"[", b'"') and (b"," in text or b"\t" in text):
        return "it looks like CSV: convert it, an object a line"
    return ""


def _over_lines(path: Path) -> str:
    """Says so where a file's first object has line breaks in it."""
    try:
        if path.stat().st_size > WHOLE:
            return ""
        text = path.read_text(encoding="utf-8-sig").lstrip()
        value, end = json.JSONDecoder(strict=False).raw_decode(text)
    except (OSError, ValueError, RecursionError):
        return ""
    if "\n" not in text[:end].strip():
        return ""
    held = next((key for key, inside in value.items() if isinstance(inside, list) and inside
                 and isinstance(inside[0], dict)), None) if isinstance(value, dict) else None  # fmt: skip
    if held is not None and not text[end:].strip():
        rows = f"json.load(open('{path.name}'))['{held}']"
        convert = f'python -c "import json; [print(json.dumps(row)) for row in {rows}]" > NEW.jsonl'
        return f"its rows are in the list '{held}' of one object; convert it: {convert}"
    return f"its objects go over several lines; put each on one line: jq -c . {path.name} > NEW.jsonl"
