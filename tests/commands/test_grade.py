r"""``carerl grade``: rows in and out, refusals, and hostile input, as a person would meet them.

What needs no grader calls functions of this process (nothing is started before a file is read whole, nor for rows
without responses); grading runs the command.
"""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from carerl.grade import main
from carerl.tasks.rows.graded import read_row

ROOT = Path(__file__).resolve().parents[2]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def command(*words: str | Path, timeout: float = 280) -> subprocess.CompletedProcess[str]:
    arguments = [sys.executable, "-m", "carerl.grade", *map(str, words)]
    return subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


def results(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


NESTED = 1_000_000
HOSTILE = {
    "braces": "{" * NESTED,
    "open box of braces": r"\boxed{" + "{" * NESTED,
    "closed box of braces": r"\boxed{" + "{" * NESTED + "}" * NESTED + "}",
    "boxes": r"\boxed{" * 100_000,
    "closed boxes": r"\boxed{6}" * 100_000,
    "tower": r"\boxed{9^{9^{9^9}}}",
    "plain tower": r"\boxed{9^9^9^9^9}",
    "factorials": r"\boxed{9!!!!!!!!}",
    "factorial": r"\boxed{(10^{10})!}",
    "large factorial": r"\boxed{1000000!}",
    "binomial": r"\boxed{\binom{1000000000}{500000000}}",
    "sum": r"\boxed{\sum_{k=1}^{100000000} \frac{1}{k^k}}",
    "product": r"\boxed{\prod_{k=1}^{100000000} k}",
    "integral": r"\boxed{\int_0^1 \sqrt{1+\sin(x^3+e^{x})} \log(1+x^{x}) dx}",
    "limit": r"\boxed{\lim_{x \to 0} \frac{\sin(\tan x)-\tan(\sin x)}{x^7}^{x^{x^x}}}",
    "digits": r"\boxed{" + "9" * 490 + "}",
    "too many digits": r"\boxed{" + "9" * 1_000_000 + "}",
    "fractions": r"\boxed{" + r"\frac{1}{" * 50 + "x" + "}" * 50 + "}",
    "roots": r"\boxed{" + r"\sqrt{" * 60 + "7" + "}" * 60 + "}",
    "brackets": r"\boxed{" + "(" * 240 + "6" + ")" * 240 + "}",
    "powers": r"\boxed{(((x+1)^{99}+y)^{99}+z)^{99}}",
    "long polynomial": r"\boxed{" + "+".join(f"x^{{{k}}}" for k in range(50)) + "}",
    "long list": r"\boxed{" + ",".join("1" * 240) + "}",
    "matrix": r"\boxed{\begin{pmatrix}" + r"1&2\\" * 60 + r"\end{pmatrix}}",
    "nan": r"\boxed{NaN}",
    "infinity": r"\boxed{inf}",
    "exponent notation": r"\boxed{1e999999999}",
    "long exponent notation": r"\boxed{1E999999}",
    "negative exponent notation": r"\boxed{1E-99999999}",
    "large exponent": r"\boxed{10^{10^9}}",
    "nested calls": r"\boxed{" + r"\sin(" * 55 + "x" + ")" * 55 + "}",
    "absolute values": r"\boxed{" + "|" * 300 + "x" + "|" * 300 + "}",
    "paragraphs": "a\n\nb\n\n" * 300_000,
    "almost a number": r"\boxed{" + "1," * 249 + "x}",
    "almost a list": r"\boxed{(" + "1, " * 160 + "}",
    "words and spaces": ("a " * 30 + "\n") * 30_000,
    "import": r"\boxed{__import__('os').system('touch hacked')}",
    "input": r"\boxed{\input{/etc/passwd}}",
    "null bytes": "\x00\x00\\boxed{6\x00}",
    "surrogates": "\ud800\\boxed{6\udfff}",
    "right to left": "\u202e\\boxed{6}\u202c",
    "other digits": r"\boxed{５}",
    "combining": r"\boxed{5" + "\u0301" * 400 + "}",
    "spaces": " " * 2_000_000,
    "spaces in a box": r"\boxed{" + " " * 2_000_000,
    "backslashes": "\\" * 2_000_000,
    "dollars": "$" * 500_000,
    "answer is": "the answer is " * 100_000,
    "answer to": "answer to " + "a " * 500_000,
    "hashes": "#" * 1_000_000,
    "tags": "<answer>" * 100_000,
    "digits and commas": "1," * 500_000,
    "words": "word " * 400_000,
    "thinks": "<think>" * 100_000,
    "percent": "%" * 500_000,
    "text macros": r"\boxed{" + r"\text{" * 80 + "}" * 80 + "}",
    "underscores": r"\boxed{" + "_" * 400 + "}",
    "carets": r"\boxed{" + "^" * 400 + "}",
    "commas": r"\boxed{" + "," * 400 + "}",
    "equals": r"\boxed{" + "=" * 400 + "}",
    "plus minus": r"\boxed{" + r"\pm 1 " * 60 + "}",
    "quantifier": r"\boxed{" + "a" * 400 + "!}",
    "mixed": r"\boxed{" + "1 " * 200 + "/ 1}",
    "gold repeated": "5 " * 100_000,
}  # fmt: skip


@pytest.mark.parametrize(
    "task", ["math", pytest.param("gsm8k", marks=pytest.mark.slow), pytest.param("selfaware", marks=pytest.mark.slow)]
)
def test_hostile_responses_are_bounded_and_never_right(tmp_path: Path, task: str) -> None:
    rows = [{"id": name, "gold": "5", "response": text} for name, text in HOSTILE.items()]
    rows.insert(20, {"id": "fine", "gold": "5", "response": r"The answer is 5. \boxed{5}"})
    out = tmp_path / "out.jsonl"
    start = time.monotonic()
    done = command(write(tmp_path / "in.jsonl", rows), out, f"task={task}", "workers=2", "seconds=2")
    assert done.returncode == 0, done.stderr
    found = {row["id"]: row for row in results(out)}
    assert list(found) == [row["id"] for row in rows]
    right = {name for name, row in found.items() if row["outcome"] == "correct"}
    # Full-width digits are digits; an alias is one under any accents too.
    assert right - {"gold repeated"} == {"fine", "other digits"} | ({"combining"} if task == "selfaware" else set())
    assert ("gold repeated" in right) == (task != "math"), "its last number is 5, and it names nothing else"
    assert time.monotonic() - start < 120 + 4 * len(rows)
    reasons = {row.get("reason", "").partition(":")[0] for row in found.values() if row["outcome"] == "invalid"}
    assert reasons <= {"time", "memory", "limit"}, "no answer breaks a process or a grader"
    assert all("reason" not in row for row in found.values() if row["outcome"] != "invalid")
    assert not (ROOT / "hacked").exists()


@pytest.mark.slow
def test_a_line_of_100_mib(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "gold": "5", "response": "x" * (100 * 2**20) + r" \boxed{5}"},
        {"id": 2, "gold": 5, "response": r"\boxed{6}"},
    ]
    out = tmp_path / "out.jsonl"
    assert command(write(tmp_path / "in.jsonl", rows), out).returncode == 0
    assert [row["outcome"] for row in results(out)] == ["correct", "wrong"]


def test_golds_of_every_kind_and_the_optional_fields(tmp_path: Path) -> None:
    rows = [
        {"id": "a", "gold": 0.5, "response": r"\boxed{\frac12}"},
        {"id": "a", "gold": [3, "-3"], "response": r"\boxed{-3}"},
        {"id": 7, "gold": "1", "accepted": ["2"], "response": r"\boxed{2}"},
        {"id": "s", "gold": "1 + 1 = <<1+1=2>>2\n#### 2", "response": r"\boxed{2}"},
        {"id": "t", "gold": "5", "response": "The answer is 5", "truncated": True},
        {"id": "n", "gold": 1e-07, "response": r"\boxed{10^{-7}}", "truncated": None, "accepted": None, "other": 1},
        {"id": "\ud800", "gold": "5", "response": "\ud800"},
    ]
    out = tmp_path / "out.jsonl"
    done = command(write(tmp_path / "in.jsonl", rows), out)
    assert done.returncode == 0, done.stderr
    assert results(out) == [
        {"id": "a", "outcome": "correct", "extracted": r"\frac12"},
        {"id": "a", "outcome": "correct", "extracted": "-3"},
        {"id": 7, "outcome": "correct", "extracted": "2"},
        {"id": "s", "outcome": "correct", "extracted": "2"},
        {"id": "t", "outcome": "truncated", "extracted": None},
        {"id": "n", "outcome": "correct", "extracted": "10^{-7}"},
        {"id": "\ud800", "outcome": "unparsed", "extracted": None},
    ]
    assert "7 graded: correct 5, wrong 0, abstained 0, unparsed 1, truncated 1, invalid 0" in done.stdout


GOOD = r'{"id": "1", "gold": "5", "response": "\\boxed{5}"}'
BAD: list[tuple[str, str, str, str | None]] = [
    # line, task, reason, id
    ("{broken", "math", "row: not JSON", None),
    ('{"id": "1", "gold": "5", "resp', "math", "row: not JSON", None),
    ("[" * 200_000, "math", "row: nested deeper than 100 brackets", None),
    ('{"id": "1", "gold": "5", "response": "5", "x": ' + "[" * 200 + "]" * 200 + "}", "math",
     "row: nested deeper than 100 brackets", "1"),
    ("[1]", "math", "row: a row must be an object, not list", None),
    ('{"gold": "5", "response": "5"}', "math", "row: field 'id' is missing", None),
    ('{"id": true, "gold": "5", "response": "5"}', "math", "row: field 'id' must be a text or a whole number", None),
    ('{"id": 1.5, "gold": "5", "response": "5"}', "math", "row: field 'id'", None),
    ('{"id": "1", "response": "5"}', "math", "row: field 'gold' is missing", "1"),
    ('{"id": "1", "gold": "5"}', "math", "response: field 'response' is missing; it must be a text", "1"),
    ('{"id": "1", "gold": "5", "response": null}', "math", "response: field 'response' must be a text, not null", "1"),
    ('{"id": "1", "gold": "5", "response": ["5"]}', "math", "response: field 'response' must be a text", "1"),
    ('{"id": "1", "gold": null, "response": "5"}', "math", "row: field 'gold' must be a text, a number", "1"),
    ('{"id": "1", "gold": NaN, "response": "5"}', "math", "row: NaN is no number", "1"),
    ('{"id": "1", "gold": 1e999, "response": "5"}', "math", "row: 1e999 is larger than any number", "1"),
    ('{"id": "1", "gold": [], "response": "5"}', "math", "row: field 'gold'", "1"),
    ('{"id": "1", "gold": " ", "response": "5"}', "math", "row: field 'gold' must be not empty", "1"),
    ('{"id": "1", "gold": "' + "9" * 501 + '", "response": "5"}', "math",
     "row: field 'gold' has 501 characters, but an answer has at most 500: no response could be right; give", "1"),
    ('{"id": "1", "gold": "5", "accepted": ["####"], "response": "5"}', "math",
     "row: field 'accepted' holds no value", "1"),
    ('{"id": "1", "gold": {"a": 1}, "response": "5"}', "math", "row: field 'gold'", "1"),
    ('{"id": "1", "gold": true, "response": "5"}', "math", "row: field 'gold'", "1"),
    ('{"id": "1", "gold": "5", "response": "5", "truncated": "no"}', "math", "row: field 'truncated'", "1"),
    ('{"id": "1", "gold": ' + "9" * 5000 + ', "response": "5"}', "math", "row: a whole number of too many digits", "1"),
    ('{"id": ' + "9" * 5000 + ', "gold": "5", "response": "5"}', "math", "row: a whole number of too many", None),
    ('{"id": "1", "gold": "A", "response": "5"}', "choice", "row: field 'choices' is missing", "1"),
    ('{"id": "1", "gold": "A", "response": "5", "choices": [["A", "x"], ["A", "y"]]}', "choice",
     "row: field 'choices'", "1"),
    ('{"id": "1", "gold": "Z", "response": "5", "choices": [["A", "x"], ["B", "y"]]}', "choice",
     "row: field 'gold'", "1"),
    ('{"id": "1", "gold": 5, "response": "5"}', "countdown", "row: field 'numbers' is missing", "1"),
    ('{"id": "1", "gold": "x", "response": "5", "numbers": [1]}', "countdown", "row: field 'gold'", "1"),
    ('{"id": "1", "gold": null, "response": "5"}', "selfaware", "row: field 'gold'", "1"),
    ('{"id": "1", "gold": "5", "response": "5", "answerable": "no"}', "selfaware", "row: field 'answerable'", "1"),
    ('{"id": "1", "gold": "5", "response": "\udcff"}', "math", "row: not UTF-8 (byte 39 of the line)", "1"),
    ('{"id": "\udcff", "gold": "5", "response": "5"}', "math", "row: not UTF-8 (byte 9 of the line)", None),
]  # fmt: skip


@pytest.mark.parametrize(("line", "task", "reason", "identifier"), BAD)
def test_a_bad_row_says_what_is_wrong_and_whose_it_is(
    line: str, task: str, reason: str, identifier: str | None
) -> None:
    row = read_row(7, line.encode(errors="surrogateescape"), task)
    assert (row.line, row.identifier, row.job) == (7, identifier, None)
    assert row.reason.startswith(reason), row.reason


def test_a_bad_row_costs_no_other_its_verdict(tmp_path: Path) -> None:
    lines = [GOOD]
    for line, task, _, _ in BAD:
        if task == "math":
            lines += [line, GOOD]
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_bytes("".join(f"{line}\n" for line in lines).encode(errors="surrogateescape"))
    done = command(path, out)
    found = results(out)
    assert len(found) == len(lines)
    assert all(row == {"id": "1", "outcome": "correct", "extracted": "5"} for row in found[::2])
    for number, row, (_, _, reason, identifier) in zip(
        range(2, 2 * len(found), 2), found[1::2], [b for b in BAD if b[1] == "math"], strict=False
    ):
        assert (row["outcome"], row["extracted"], row["id"]) == ("invalid", None, identifier)
        assert row["reason"].startswith(reason)
        assert row.get("line") == (number if identifier is None else None)
    assert done.returncode == 3, "there are lines without an id"
    assert f"{path}:2: row: not JSON" in done.stderr and "rows more of outcome invalid" in done.stderr
    bad = len(found) // 2
    assert f"invalid {bad} (row {bad - 3}, response 3)" in done.stdout


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("no JSON at all\n", "in.jsonl:1: row: not JSON"),
        ('{"id": 1, "answer": "5", "response": "5"}\n' * 3, "nor can any other of its 3 rows be graded"),
    ],
)
def test_a_file_without_a_row_of_the_form_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, message: str
) -> None:
    """The wrong file, or the wrong task: what lies at OUT is not written over."""
    (tmp_path / "in.jsonl").write_text(content)
    out = tmp_path / "out.jsonl"
    out.write_text("old")
    assert main([str(tmp_path / "in.jsonl"), str(out)]) == 2
    assert message in capsys.readouterr().err
    assert out.read_text() == "old" and len(list(tmp_path.iterdir())) == 2


def test_rows_whose_responses_are_all_missing_are_graded_as_such(tmp_path: Path) -> None:
    """A model that gave nothing is no wrong file. No process is needed for it."""
    out = tmp_path / "out.jsonl"
    assert main([str(write(tmp_path / "in.jsonl", [{"id": 1, "gold": "5", "response": None}] * 2)), str(out)]) == 0
    assert [row["outcome"] for row in results(out)] == ["invalid"] * 2


def test_standard_input_and_output_and_what_is_no_file(tmp_path: Path) -> None:
    rows = [{"id": k, "gold": "5", "response": rf"\boxed{{{k}}}"} for k in (4, 5)]
    given = "".join(json.dumps(row) + "\n" for row in rows)
    arguments = [sys.executable, "-m", "carerl.grade", "-", "-"]
    done = subprocess.run(arguments, cwd=ROOT, input=given, capture_output=True, text=True, timeout=280)
    assert [json.loads(line)["outcome"] for line in done.stdout.splitlines()] == ["wrong", "correct"]
    assert done.returncode == 0 and "2 graded: correct 1, wrong 1" in done.stderr
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    assert main([str(write(tmp_path / "in.jsonl", [rows[0] | {"response": None}])), str(pipe)]) == 0
    assert json.loads(os.read(reader, 10_000))["id"] == 4
    assert stat.S_ISFIFO(pipe.stat().st_mode), "it is written to, and not replaced by a file"
    os.close(reader)


def test_a_link_is_followed(tmp_path: Path) -> None:
    target, link = tmp_path / "target.jsonl", tmp_path / "link.jsonl"
    link.symlink_to(target)
    assert main([str(write(tmp_path / "in.jsonl", [{"id": 1, "gold": "5"}])), str(link)]) == 0
    assert link.is_symlink() and results(target)[0]["id"] == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in.jsonl"], "1 given, 2 wanted"),
        (["absent.jsonl", "out.jsonl"], "no such file"),
        (["in.jsonl", "absent/out.jsonl"], "not a file in an existing directory"),
        (["in.jsonl", "out.jsonl", "task=maths"], "did you mean math?"),
        (["in.jsonl", "out.jsonl", "worker=2"], "did you mean workers=?"),
        (["in.jsonl", "out.jsonl", "workers=0"], "not a whole number from 1 to 256"),
        (["in.jsonl", "out.jsonl", "more.jsonl"], "3 given, 2 wanted"),
        (["in.jsonl", "tsk=choice"], "did you mean task=?; a file of this name is ./tsk=choice"),
        (["in.jsonl", "out.jsonl", "workers=²"], "not a whole number from 1 to 256"),
        (["in.jsonl", "out.jsonl", "seconds=nan"], "not a number of seconds"),
        (["in.jsonl", "out.jsonl", "seconds=-1"], "not a number of seconds"),
    ],
)
def test_arguments_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in.jsonl").write_text(GOOD)
    assert main(words) == 2
    assert message in capsys.readouterr().err


def test_help_names_the_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "IN.jsonl OUT.jsonl" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "said"), [("", "it is empty"), ("\n \n", "only blank lines"), ("\ufeff\n", "no rows")]
)
def test_a_file_without_rows_is_refused_as_training_data_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str, said: str
) -> None:
    (tmp_path / "in.jsonl").write_text(content, encoding="utf-8")
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out.jsonl").exists()


def test_an_empty_standard_input_is_refused() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "carerl.grade", "-", "-"], cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True,
        text=True, timeout=120, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (2, "") and done.stderr.startswith("standard input: no rows: it is empty")


SPELLINGS = ("rows.jsonl", "./rows.jsonl", "folder/../rows.jsonl", "link.jsonl", "hard.jsonl", "folder/up.jsonl")


@pytest.mark.parametrize("source", SPELLINGS)
@pytest.mark.parametrize("out", SPELLINGS)
def test_the_responses_are_not_overwritten_by_their_outcomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], source: str, out: str
) -> None:
    monkeypatch.chdir(tmp_path)
    rows = write(tmp_path / "rows.jsonl", [{"id": "1", "gold": "5", "response": "5"}])
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.jsonl").symlink_to(rows)
    (tmp_path / "hard.jsonl").hardlink_to(rows)
    (tmp_path / "folder" / "up.jsonl").symlink_to("../link.jsonl")
    before = rows.read_bytes()
    assert main([source, out]) == 2
    said = capsys.readouterr().err
    assert "OUT.jsonl" in said and "the responses would be overwritten" in said and "another path" in said
    assert rows.read_bytes() == before


def test_the_responses_are_not_overwritten_through_a_shells_redirections(tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", [{"id": "1", "gold": "5", "response": "5"}])
    before = rows.read_bytes()
    for words, stdin, stdout in ((("-", str(rows)), "r", None), ((str(rows), "-"), None, "r+")):
        streams = {
            "stdin": rows.open(stdin) if stdin else subprocess.DEVNULL,
            "stdout": rows.open(stdout) if stdout else subprocess.PIPE,
        }
        done = subprocess.run(
            [sys.executable, "-m", "carerl.grade", *words], cwd=ROOT, stderr=subprocess.PIPE, **streams
        )
        assert done.returncode == 2 and b"would be overwritten" in done.stderr, words
        assert rows.read_bytes() == before


def test_an_out_that_is_another_file_is_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is graded, as the row has no response: what is written is its outcome."""
    rows = write(tmp_path / "rows.jsonl", [{"id": "1", "gold": "5", "response": None}])
    out = tmp_path / "out.jsonl"
    out.write_text("of an earlier time")
    assert main([str(rows), str(out)]) == 0
    assert results(out)[0]["outcome"] == "invalid"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x1f\x8b\x08\x00\x00", "it is gzip-compressed"),
        (b'[{"id": "1", "gold": "5", "response": "5"}]', "it is one JSON array"),
        (b'{\n "id": "1",\n "gold": "5",\n "response": "5"\n}', "its objects go over several lines"),
        (b"id,gold,response\n1,5,5\n", "it looks like CSV"),
    ],
)
def test_a_file_that_is_no_file_of_rows_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, said: str
) -> None:
    (tmp_path / "rows.jsonl").write_bytes(content)
    assert main([str(tmp_path / "rows.jsonl"), str(tmp_path / "out.jsonl")]) == 2
    assert said in capsys.readouterr().err and not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(("gold", "label"), [("B", "B"), ("y", "B"), (1, "B"), (["A", "y"], "A")])
def test_a_gold_answer_names_an_option_as_in_a_training_file(gold: Any, label: str) -> None:
    row = {"id": "1", "gold": gold, "choices": ["x", "y"], "response": "B"}
    found = read_row(1, json.dumps(row).encode(), "choice").job
    assert found is not None and found.gold.accepted[0] == label and found.gold.choices == (("A", "x"), ("B", "y"))
