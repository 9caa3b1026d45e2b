"""Text from elsewhere on a terminal: nothing in it is obeyed."""

from __future__ import annotations

import io
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from carerl import grade, job
from carerl.actors.handles.graders import Graders, GradingError
from carerl.errors import ConfigError
from carerl.text.printable import printable, printable_log
from carerl.tracking.display import PlainDisplay
from carerl.tracking.live import LiveDisplay
from carerl.types import Example, Group, Outcome, Sample

STEERING = [*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0), 0x061C, 0x200E, 0x200F,
            *range(0x2028, 0x202F), *range(0x2066, 0x206A), 0xD800, 0xDFFF]  # fmt: skip
HOSTILE = "a" + "".join(map(chr, STEERING)) + "b"


def harmless(text: str) -> bool:
    return not {ord(letter) for letter in text} & set(STEERING)


@pytest.mark.parametrize("code", STEERING, ids=hex)
def test_a_character_that_steers_a_terminal_is_shown_as_one_that_does_not(code: int) -> None:
    shown = printable(f"a{chr(code)}b")
    assert harmless(shown) and len(shown) == 3 and shown[0] + shown[2] == "ab"
    shown.encode()


@pytest.mark.parametrize(
    "text", ["plain\tand\nlines", "naïve ½ 你好 – ␛", "שלום", "\u200d\U0001f468", "[red]:smile:", "a\u00a0b", ""]
)
def test_other_text_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_a_log_keeps_its_lines_and_loses_its_colours() -> None:
    assert printable_log("\x1b[1;32mok\x1b[m 1\r2\r\n\x1b]52;c;ZXZpbA==\x07") == "ok 1\n2\n␛]52;c;ZXZpbA==␇"


def test_a_refused_value_and_what_a_grader_raised() -> None:
    assert harmless(str(ConfigError("model.path", HOSTILE, HOSTILE, HOSTILE)).replace("\n", ""))
    sample = Sample("q", (1,), (0.0,), False, (0, 0), Outcome.INVALID)
    grading: Any = Graders([])
    grading._raised = HOSTILE
    with pytest.raises(GradingError) as caught:
        grading.check([Group(Example("q", (1,), "7"), [sample])])
    assert harmless(str(caught.value))


def test_displays(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = io.StringIO()
    display = PlainDisplay(2, HOSTILE, file=plain, interval=0.0)
    display.stage(HOSTILE)
    display.message(HOSTILE)
    display.warning(HOSTILE)
    display.progress(1, 2, HOSTILE)
    display.close()
    assert harmless(plain.getvalue()) and "ab" not in plain.getvalue()
    drawn = io.StringIO()
    live = LiveDisplay(2, HOSTILE, file=drawn)
    live.stage(HOSTILE)
    live.message(HOSTILE)
    live.progress(1, 2, HOSTILE)
    live.close()
    assert not {"\x9d", "\x90", "\x07", "\u202e"} & set(drawn.getvalue())


def test_the_output_of_a_job(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def follow(client: Any, name: str, show: Any) -> Any:
        show(f"{HOSTILE}\n")
        return SimpleNamespace(status="SUCCEEDED", exit_code=0)

    monkeypatch.setattr(job.jobs, "client", lambda *_: None)
    monkeypatch.setattr(job.jobs, "submit", lambda *_, **__: "job_1")
    monkeypatch.setattr(job.jobs, "follow", follow)
    assert job.main(["recipe=care_grpo_tiny"]) == 0
    assert harmless(capsys.readouterr().out.replace("\n", ""))


def test_a_bad_row_of_responses(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "in.jsonl"
    rows.write_text('{"id": "\\u009d\\u202e", "response": "\\boxed{7}", "answer": "7", "\\u001b]0;x": 1}\n' * 2)
    grade.main([str(rows), str(tmp_path / "out.jsonl"), "task=math"])
    found = capsys.readouterr()
    assert harmless((found.out + found.err).replace("\n", "").replace("\t", ""))


def test_a_warning_about_data_rows(capsys: pytest.CaptureFixture[str]) -> None:
    import warnings

    from carerl.controller.preparation import _warnings_in_words

    with pytest.raises(KeyError), _warnings_in_words():
        warnings.simplefilter("always")
        warnings.warn(f"3 rows overlap: {HOSTILE}", stacklevel=1)
        raise KeyError
    said = capsys.readouterr().err
    assert said.startswith("warning: 3 rows overlap: a") and harmless(said.replace("\n", ""))


def test_the_masking_is_of_this_module_alone() -> None:
    """One function: no second table of control characters anywhere in the package."""
    from pathlib import Path

    package = Path(sys.modules["carerl"].__file__ or "").parent
    own = {path.name for path in package.rglob("*.py") if "0x2400" in path.read_text() or "0x9B" in path.read_text()}
    assert own == {"printable.py"}
