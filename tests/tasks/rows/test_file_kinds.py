"""What is given for a file of rows and is none: the message says what it is, and what to do."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from carerl.config.load import load
from carerl.errors import ConfigError
from carerl.tasks.benchmarks.table import find_benchmark
from carerl.tasks.rows.file_kinds import file_fault

ROW = b'{"question": "1 + 1?", "answer": "2"}\n'
OTHER = b'{"question": "1 + 2?", "answer": "3"}\n'
ROWS = [json.loads(ROW), json.loads(OTHER)]
TEXT = ROW.decode()


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("rows.jsonl", ROW)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (gzip.compress(ROW, mtime=0), "gzip-compressed, and not lines of JSON; unpack it: gunzip"),
        (bz2.compress(ROW), "bzip2-compressed, and not lines of JSON; unpack it: bunzip2"),
        (lzma.compress(ROW), "xz-compressed, and not lines of JSON; unpack it: xz"),
        (b"\x28\xb5\x2f\xfd\x04\x00" + ROW, "zstd-compressed, and not lines of JSON; unpack it: zstd"),
        (zipped(), "a zip archive"),
        (TEXT.encode("utf-16"), "UTF-16 text"),
        (TEXT.encode("utf-16-le"), "UTF-16 text"),
        (b"\xfe\xff" + TEXT.encode("utf-16-be"), "UTF-16 text"),
        (TEXT.encode("utf-32"), "UTF-32 text"),
        (b"", "it is empty"),
        (b"\n \n\r\n", "holds only blank lines"),
        (b"\xef\xbb\xbf\n", "holds only blank lines"),
        (json.dumps(ROWS).encode(), "it is one JSON array, and not an object a line; convert it"),
        (json.dumps(ROWS, indent=1).encode(), "it is one JSON array, and not an object a line; convert it"),
        (json.dumps(ROWS[0], indent=2).encode(), "its objects go over several lines"),
        (b"\n" + "\n".join(json.dumps(row, indent=2) for row in ROWS).encode(), "its objects go over several lines"),
        (json.dumps({"version": 1, "data": ROWS}, indent=2).encode(), "its rows are in the list 'data' of one object"),
        (b"question,answer\n1 + 1?,2\n", "it looks like CSV"),
        (b"question\tanswer\n1 + 1?\t2\n", "it looks like CSV"),
        (b"PAR1\x15\x04\x15", "a Parquet file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 3\n", "git lfs pull"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"SQLite format 3\x00abc", "an SQLite database"),
        (b"{'question': 'q', 'answer': '1'}\n", "double quotes"),
        (ROW.strip() + b",\n" + OTHER, "a comma behind the object"),
        (ROW.strip() + b"\r" + OTHER.strip() + b"\r", "carriage return"),
        (ROW.strip() + OTHER, "two objects on the line"),
        (b"// my rows\n" + ROW, "no comments"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_file_of_rows_is_named(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    with pytest.raises(ValueError) as caught:
        find_benchmark(str(file)).load()
    assert said in str(caught.value)


@pytest.mark.parametrize("name", ["my rows.jsonl", "it's.jsonl", "-x.jsonl", "$(touch gone); #.jsonl", "{a}.jsonl"])
def test_a_remedy_that_is_pasted_into_a_shell_makes_the_rows(tmp_path: Path, name: str) -> None:
    """Whatever the file is called: a name is neither cut at a space, nor run, nor read as an option."""
    for content in (
        gzip.compress(ROW + OTHER, mtime=0),
        json.dumps(ROWS).encode(),
        json.dumps({"it's {1}": ROWS}, indent=1).encode(),
        (TEXT + OTHER.decode()).encode("utf-16"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError) as caught:
            find_benchmark(str(tmp_path / name)).load()
        command = re.split(r"; (?:unpack|convert) it: ", str(caught.value))[1]
        subprocess.run(command.replace("python ", f"{sys.executable} ", 1), shell=True, cwd=tmp_path, check=True)
        assert [json.loads(line) for line in (tmp_path / "NEW.jsonl").read_text().splitlines()] == ROWS
        assert {path.name for path in tmp_path.iterdir()} == {name, "NEW.jsonl"}


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf" + ROW, ROW + b"\r\n \r\n" + OTHER.strip(), ROW.strip()])
def test_a_file_of_rows_is_no_fault(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_bytes(content)
    assert file_fault(file) == "" and find_benchmark(str(file)).load()[0].gold.accepted == ("2",)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("folder.jsonl", "it is a directory; give a file in it: a.jsonl"),
        ("empty_folder.jsonl", "it is a directory; give a .jsonl file"),
        ("trian.jsonl", "no such file; beside it there is train.jsonl"),
        ("Train.jsonl", "no such file; beside it there is train.jsonl"),
        ("train_jsonl.jsonl", "no such file; beside it there is train.jsonl"),
        ("nowhere/rows.jsonl", "no such file; give a .jsonl file that exists"),
    ],
)
def test_what_is_no_file_is_refused_with_what_is_there(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "folder.jsonl" / "a.jsonl").write_bytes(ROW)
    (tmp_path / "empty_folder.jsonl").mkdir()
    (tmp_path / "train.jsonl").write_bytes(ROW)
    with pytest.raises(ValueError) as caught:
        find_benchmark(str(tmp_path / name)).load()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("name", "content", "reason", "remedy"),
    [
        ("rows.jsonl", gzip.compress(ROW, mtime=0), "it is gzip-compressed", "gunzip"),
        ("rows.jsonl.gz", gzip.compress(ROW, mtime=0), "it is gzip-compressed", "gunzip"),
        ("rows.json", json.dumps(ROWS).encode(), "it is one JSON array", "convert it"),
        ("rows.txt", ROW, "its name does not end in .jsonl", "rename it"),
    ],
)
def test_settings_are_refused_with_the_same_words(
    tmp_path: Path, name: str, content: bytes, reason: str, remedy: str
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load(["recipe=care_grpo_3b", f"task.train={tmp_path / name}"])
    error = caught.value
    assert error.field == "task.train" and reason in error.reason and remedy in error.remedy
