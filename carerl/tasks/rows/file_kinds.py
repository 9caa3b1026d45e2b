"""Says what a file that does not hold rows holds instead, with a remedy that can be pasted into a shell.

A file of rows is UTF-8 text, one JSON object a line. Compressed files are refused rather than unpacked: the rows that a
model is trained on then lie there as they are read, and a small file cannot fill the memory.
"""

from __future__ import annotations

import difflib
import json
import os
import shlex
from pathlib import Path

HEAD = 4096  # bytes that are looked at
WHOLE = 64 * 2**20  # bytes of a file, at most, that is read whole to say what it is

# In remedies {file} is the file's name, quoted for a shell.
_UNPACK = "unpack it: {} < {{file}} > NEW.jsonl"
_RECODE = "convert it: iconv -f {} -t UTF-8 {{file}} > NEW.jsonl"
_PARQUET = (
    'convert it: python -c "import pandas, sys; '
    "pandas.read_parquet(sys.argv[1]).to_json('NEW.jsonl', orient='records', lines=True)\" {file}"
)
_ROWS_OF = (  # an expression over data, what the file holds
    'convert it: python -c "import json, sys; data = json.load(open(sys.argv[1])); '
    '[print(json.dumps(row)) for row in {}]" {{file}}{} > NEW.jsonl'
)
_UTF_16 = ("UTF-16 text", _RECODE.format("UTF-16"))
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (  # first bytes, what the file is, a remedy
    (b"\x1f\x8b", "gzip-compressed", _UNPACK.format("gunzip -c")),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed", _UNPACK.format("zstd -dc")),
    (b"BZh", "bzip2-compressed", _UNPACK.format("bunzip2 -c")),
    (b"\xfd7zXZ\x00", "xz-compressed", _UNPACK.format("xz -dc")),
    (b"\x04\x22\x4d\x18", "lz4-compressed", _UNPACK.format("lz4 -dc")),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it: 7z x {file}"),
    (b"PK\x03\x04", "a zip archive (or a spreadsheet)", "unpack it: unzip {file}; save a spreadsheet's rows as JSON"),
    (b"PAR1", "a Parquet file", _PARQUET),
    (b"ARROW1", "an Arrow file", "convert it with datasets: Dataset.from_file(...).to_json('NEW.jsonl')"),
    (b"SQLite format 3\x00", "an SQLite database", "export its rows as JSON, one object a line"),
    (b"%PDF", "a PDF document", "give a .jsonl file"),
    (b"version https://git-lfs.github.com/spec/", "a Git LFS pointer and not the data", "fetch them: git lfs pull"),
    (b"\xff\xfe\x00\x00", "UTF-32 text", _RECODE.format("UTF-32")),
    (b"\xff\xfe", *_UTF_16),
    (b"\xfe\xff", *_UTF_16),
)


def file_fault(path: Path) -> str:
    """Returns why no rows can be read from a path, with a remedy: it does not exist, is a directory, is compressed, has
    another format, or is empty. Returns '' for a file whose lines can be read; its rows are not checked."""
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
    """Returns what a file holds instead of rows, by its first bytes, with a remedy; '' for text."""
    for signature, what, remedy in _SIGNATURES:
        if head.startswith(signature):
            return f"it is {what}, and not lines of JSON; {remedy.format(file=_quoted(name))}"
    if not head:
        return "it is empty; give a file with an object a line"
    if (len(head) > 3 and head[1::2].count(0) > len(head) // 4) or head[0::2].count(0) > len(head) // 4:
        what, remedy = _UTF_16
        return f"it is {what}, and not UTF-8; {remedy.format(file=_quoted(name))}"
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"["):
        convert = _ROWS_OF.format("data", "").format(file=_quoted(name))
        return f"it is one JSON array, and not an object a line; {convert}"
    if text[:9].lower().startswith((b"<!doctype", b"<html")):
        return "it is a web page, and not rows; download the file itself (the hub's 'raw' or 'download' link)"
    return ""


def _quoted(name: str) -> str:
    """Returns a file's name for a shell, not to be taken for an option."""
    return shlex.quote(f"./{name}" if name.startswith("-") else name)


def line_hint(line: bytes, path: Path | None = None) -> str:
    """Returns what a line that is not JSON looks like, with a remedy, or ''. ``path``: its file, which is read to
    recognise an object that spans several lines."""
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
    """Returns a remedy for a file whose first object spans several lines, '' for any other."""
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
        key = shlex.quote(held).replace("{", "{{").replace("}", "}}")
        convert = _ROWS_OF.format("data[sys.argv[2]]", f" {key}").format(file=_quoted(path.name))
        return f"its rows are in the list {held!r} of one object; {convert}"
    return f"its objects go over several lines; put each on one line: jq -c . {_quoted(path.name)} > NEW.jsonl"
