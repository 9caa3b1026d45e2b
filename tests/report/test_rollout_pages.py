"""Responses in the terminal: which rows are shown, how a response is cut at its tokens, what is coloured, the keys.

That a run's own tables have the values is in tests/controller/test_sampling.py and, for whole runs, in tests/e2e."""

from __future__ import annotations

import io
import os
import pty
import re
import select as readiness
import subprocess
import sys
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from carerl.report.rollout_pages import page, select, token_pieces
from carerl.rollouts import browse, main
from carerl.runs.tables import write_rollouts
from tests.runs.synthetic_runs import config, fill_run, make_run


def row(**changed: Any) -> dict[str, Any]:
    """Divergences .01, .6 and 3 on a response of three tokens."""
    return {
        "step": 4,
        "example_id": "train/4/1",
        "sample": 0,
        "prompt": "Q 3 +4 =",
        "response": "C 3 7",
        "gold": "7",
        "answer": "7",
        "outcome": "correct",
        "correct": True,
        "reward": 1.0,
        "advantage": -0.25,
        "confidence": 0.75,
        "tokens": 3,
        "mean_logprob": -0.1,
        "weight_version": 3,
        "response_ids": [4, 5, 6],
        "token_text": ["C", "3", "7"],
        "token_logprob": [-0.1, -0.1, -0.1],
        "token_rkl": [0.01, 0.6, 3.0],
        **changed,
    }


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Tables of steps 2 and 4; in that of step 4 question 1 is right and 2 is wrong, twice each."""
    path = make_run(tmp_path / "runs", config("none", 1), {"eval/accuracy": 0.5})
    write_rollouts(path / "rollouts" / "step_000002.parquet", [row(step=2)])
    right = [row(sample=k) for k in range(2)]
    wrong = [row(sample=k, example_id="train/4/2", outcome="wrong", response=f"D 3 {k}") for k in range(2)]
    write_rollouts(path / "rollouts" / "step_000004.parquet", [*right, *wrong])
    return path


def printed(rows: list[dict[str, Any]], colour: bool = False) -> str:
    console = Console(
        file=io.StringIO(), width=100, force_terminal=colour, color_system="truecolor" if colour else None
    )
    for number, one in enumerate(rows, 1):
        console.print(page(one, number, len(rows)))
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_page_has_everything_about_a_response() -> None:
    text = printed([row()])
    for part in ("1 of 1", "step 4", "train/4/1", "correct", "reward 1.00", "confidence 0.750", "advantage -0.250"):
        assert part in text
    assert "prompt   Q 3 +4 =" in text and "response C 3 7" in text and "gold     7" in text
    assert "most divergent: 7 3.00  3 0.60  C 0.01" in text


def test_a_reward_for_the_likeliest_option_is_explained() -> None:
    assert "argmax" not in printed([row()])
    text = printed([row(outcome="wrong", answer="A", likeliest="B", argmax_outcome="correct")])
    assert "wrong   reward 1.00" in text and "argmax   B correct" in text


def test_tokens_are_coloured_by_divergence() -> None:
    """.01 is below the first threshold; .6 is from .5 on, 3 from 2 on."""
    line = next(line for line in printed([row()], colour=True).splitlines() if "response" in line)
    coloured = re.findall(r"\x1b\[([\d;]+)m([^\x1b]*)", line)
    background = {text.strip(): codes.partition("48;2;")[2] for codes, text in coloured if text.strip()}
    assert background["3"] == "242;140;75" and background["7"] == "142;27;27"
    assert background.get("C", "") == ""


@pytest.mark.parametrize(
    ("texts", "response", "pieces"),
    [
        (["C", "3", "7"], "C 3 7", ["C", " 3", " 7"]),
        (["The", " sum", " is", "\n"], "The sum is\n", ["The", " sum", " is", "\n"]),
        # é is two tokens of one byte each, which have no text; they share it
        (["caf", "\ufffd", "\ufffd", " au"], "café au", ["caf", "é", " au"]),
        (["7", "\ufffd"], "7", ["7"]),
        # a token that decoding drops at the end
        (["7", "<eos>"], "7", ["7"]),
    ],
)
def test_the_pieces_of_a_response_are_its_tokens_and_join_to_it(
    texts: list[str], response: str, pieces: list[str]
) -> None:
    found = token_pieces(row(response=response, token_text=texts, token_rkl=[float(i) for i in range(len(texts))]))
    assert [text for text, _ in found] == pieces and "".join(text for text, _ in found) == response


def test_tokens_of_one_character_have_the_greatest_of_their_divergences() -> None:
    texts = ["caf", "\ufffd", "\ufffd", " au"]
    found = token_pieces(row(response="café au", token_text=texts, token_rkl=[0.0, 2.0, 1.0, 0.1]))
    assert found == [("caf", 0.0), ("é", 2.0), (" au", 0.1)]


def test_a_table_without_token_values_is_shown_all_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = make_run(tmp_path, config("none", 1), {"eval/accuracy": 0.5})
    fill_run(path, steps=4)  # a table as runs wrote it before
    assert main([str(path)]) == 0
    text = capsys.readouterr().out
    assert text.count("its table has no per-token values") == 16 and "C 3 7 4 3 A 3 EOS" in text
    assert "the reference was not asked" in printed([row(token_rkl=None)])


def test_what_a_model_wrote_does_not_steer_the_terminal() -> None:
    text = printed([row(response="a\x1b[2Jb\x9b", token_text=["a\x1b[2Jb\x9b"], token_rkl=[0.1], prompt="\x07")])
    assert "\x1b" not in text and "\x9b" not in text and "\x07" not in text and "a␛[2Jb␛" in text


def test_rows_are_chosen_by_outcome_and_question(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(run)]) == 0
    assert capsys.readouterr().out.count("of 4") == 4, "the last step"
    assert main([str(run), "step=2"]) == 0
    assert "1 of 1 · step 2" in capsys.readouterr().out
    for chosen in ("outcome=wrong", "question=2", "question=train/4/2"):
        assert main([str(run), chosen]) == 0
        text = capsys.readouterr().out
        assert "D 3 0" in text and "D 3 1" in text and "C 3 7" not in text and "2 of 2" in text
    assert [r["sample"] for r in select([row(), row(sample=1)], "correct", "1")] == [0, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{tmp}/nowhere"], "nowhere: no such directory"),
        (["{tmp}/empty"], "not a run directory (no config.yaml in it)"),
        (["{tmp}/runs"], "not a run, but holds 1; name one: none-s1-"),
        (["{tmp}/bare/none-s2-20261121-100000-ab12"], "no rollout tables in rollouts/; tracking.rollouts_every"),
        (["{run}", "step=3"], "step=3: no rollout table; there are steps 2, 4"),
        (["{run}", "outcome=invalid"], "outcome=invalid: no such response; there are correct (2), wrong (2)"),
        (["{run}", "question=9"], "question=9: not in this step; there are train/4/1, train/4/2"),
    ],
)
def test_bad_input_is_told_in_a_line(
    tmp_path: Path, run: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    make_run(tmp_path / "bare", config("none", 2), {"eval/accuracy": 0.5})
    (tmp_path / "empty").mkdir()
    assert main([argument.format(tmp=tmp_path, run=run) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err
    assert captured.err.startswith("rollouts: ") and captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "RUN is refused"),
        (["a", "b"], "2 given, 1 wanted"),
        (["a", "step=x"], "not a whole number, 0 or more"),
        (["a", "stp=3"], "did you mean step=?"),
    ],
)
def test_words_that_make_no_sense_are_refused(
    capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and message in captured.err


def test_keys_turn_pages_and_stop_at_the_ends() -> None:
    """n, n, n past the end, p, an unknown key, and q."""
    pressed = iter([b"n", b"\x1b[C", b"n", b"p", b"?", b"q"])
    console = Console(file=io.StringIO(), width=100)
    browse([row(sample=k) for k in range(3)], console, lambda: next(pressed))
    shown = re.findall(r"(\d) of 3", console.file.getvalue())  # type: ignore[attr-defined]
    assert shown == ["1", "2", "3", "3", "2"] and next(pressed, None) is None


def test_a_real_terminal_is_asked_for_keys(run: Path) -> None:
    """A pseudo-terminal: the first page waits; n shows the second; q ends with its settings as they were."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "carerl.rollouts", str(run), "outcome=wrong"]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    try:
        pages = read_until_keys(ours)
        first = next(pages)
        assert "1 of 2" in first and "2 of 2" not in first
        os.write(ours, b"n")
        assert "2 of 2" in next(pages)
        os.write(ours, b"q")
        assert process.wait(timeout=30) == 0
        assert termios.tcgetattr(theirs)[3] & termios.ICANON, "lines again, as before"
    finally:
        process.kill()
        process.wait()
        os.close(theirs)
        os.close(ours)


def read_until_keys(descriptor: int) -> Iterator[str]:
    """The output up to each line that names the keys."""
    text = b""
    while True:
        ready, _, _ = readiness.select([descriptor], [], [], 60)
        assert ready, f"nothing more after {text!r}"
        text += os.read(descriptor, 65536)
        if b"q quit" in text:
            yield text.decode()
            text = b""
