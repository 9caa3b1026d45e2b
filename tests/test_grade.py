r"""``python -m carerl.grade``: rows in and out, refusals, and hostile input, as a person would meet them.

The refusals call ``main`` in this process (nothing is started before a file is read whole); grading runs the command.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from carerl.grade import main

ROOT = Path(__file__).resolve().parents[1]


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
    # An alias is one in any script's digits and under any accents.
    assert right - {"gold repeated"} == {"fine"} | ({"combining", "other digits"} if task == "selfaware" else set())
    assert ("gold repeated" in right) == (task != "math"), "its last number is 5, and it names nothing else"
    assert time.monotonic() - start < 60 + 2 * len(rows)
    assert not (ROOT / "hacked").exists()


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
        {"id": "t", "outcome": "truncated", "extracted": None},
        {"id": "n", "outcome": "correct", "extracted": "10^{-7}"},
        {"id": "\ud800", "outcome": "unparsed", "extracted": None},
    ]
    assert "6 graded: correct 4, wrong 0, abstained 0, unparsed 1, truncated 1, invalid 0" in done.stdout


GOOD = '{"id": "1", "gold": "5", "response": "5"}'


@pytest.mark.parametrize(
    ("line", "task", "message"),
    [
        ("{broken", "math", "in.jsonl:2: not JSON"),
        ("[" * 200_000, "math", "in.jsonl:2: not JSON"),
        ("[1]", "math", "in.jsonl:2: a row must be an object, not list"),
        ('{"gold": "5", "response": "5"}', "math", "in.jsonl:2: field 'id' is missing"),
        ('{"id": "1", "response": "5"}', "math", "in.jsonl:2: field 'gold' is missing"),
        ('{"id": "1", "gold": "5"}', "math", "in.jsonl:2: field 'response' is missing"),
        ('{"id": "1", "gold": "5", "response": null}', "math", "in.jsonl:2: field 'response' must be a text, not None"),
        ('{"id": "1", "gold": NaN, "response": "5"}', "math", "in.jsonl:2: field 'gold' must be a finite number"),
        ('{"id": "1", "gold": [], "response": "5"}', "math", "in.jsonl:2: field 'gold'"),
        ('{"id": "1", "gold": " ", "response": "5"}', "math", "in.jsonl:2: field 'gold' must be not empty"),
        ('{"id": "1", "gold": {"a": 1}, "response": "5"}', "math", "in.jsonl:2: field 'gold'"),
        ('{"id": "1", "gold": true, "response": "5"}', "math", "in.jsonl:2: field 'gold'"),
        ('{"id": true, "gold": "5", "response": "5"}', "math", "in.jsonl:2: field 'id'"),
        ('{"id": "1", "gold": "5", "response": "5", "truncated": "no"}', "math", "in.jsonl:2: field 'truncated'"),
        ('{"id": "1", "gold": ' + "9" * 5000 + ', "response": "5"}', "math", "in.jsonl:2: not JSON"),
        ('{"id": "1", "gold": "A", "response": "5"}', "choice", "in.jsonl:2: field 'choices' is missing"),
        ('{"id": "1", "gold": "A", "response": "5", "choices": [["A", "x"], ["A", "y"]]}', "choice", "field 'choices'"),
        ('{"id": "1", "gold": "Z", "response": "5", "choices": [["A", "x"], ["B", "y"]]}', "choice", "field 'gold'"),
        ('{"id": "1", "gold": 5, "response": "5"}', "countdown", "in.jsonl:2: field 'numbers' is missing"),
        ('{"id": "1", "gold": "x", "response": "5", "numbers": [1]}', "countdown", "in.jsonl:2: field 'gold'"),
        ('{"id": "1", "gold": null, "response": "5"}', "selfaware", "in.jsonl:2: field 'gold'"),
        ('{"id": "1", "gold": "5", "response": "5", "answerable": "no"}', "selfaware",
        "in.jsonl:2: field 'answerable'"),
        ("\udcff", "math", "in.jsonl:2: not JSON"),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_before_anything_is_graded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, task: str, message: str
) -> None:
    good = {"choice": '{"id": 1, "gold": "A", "response": "", "choices": [["A", "x"]]}',
            "countdown": '{"id": 1, "gold": 5, "response": "", "numbers": [5]}'}.get(task, GOOD)  # fmt: skip
    path, out = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    path.write_bytes(f"{good}\n{line}\n".encode(errors="surrogateescape"))
    out.write_text("old")
    assert main([str(path), str(out), f"task={task}"]) == 2
    assert message in capsys.readouterr().err
    assert out.read_text() == "old"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["in.jsonl"], "1 files are given"),
        (["absent.jsonl", "out.jsonl"], "there is no such file"),
        (["in.jsonl", "absent/out.jsonl"], "not a file in an existing directory"),
        (["in.jsonl", "out.jsonl", "task=maths"], "did you mean math?"),
        (["in.jsonl", "out.jsonl", "worker=2"], "did you mean workers?"),
        (["in.jsonl", "out.jsonl", "workers=0"], "not a whole number from 1 to 256"),
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


def test_help_and_an_empty_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert "IN.jsonl OUT.jsonl" in capsys.readouterr().out
    (tmp_path / "in.jsonl").write_text("\n")
    assert main([str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")]) == 0
    assert (tmp_path / "out.jsonl").read_text() == ""
