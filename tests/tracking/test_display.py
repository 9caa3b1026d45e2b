"""Displays: what a person can read, where lines go, and that a screen of 80 × 24 suffices."""

from __future__ import annotations

import io
import threading
from typing import Any

import pytest
from rich.console import Console

from carerl.tracking.display import DISPLAYS, Pace, PlainDisplay, QuietDisplay, make_display
from carerl.tracking.live import LiveDisplay, change_text, sparkline
from tests.runs.synthetic_runs import BASE

STEP = {
    "rollout/reward": 0.8125,
    "rollout/accuracy": 0.8125,
    "regularizer/reverse_kl": 1.203,
    "train/entropy": 0.102,
    "rollout/mismatch_mean": 1.2e-7,
    "time/tokens_per_second": 18234.0,
    "time/step": 1.0,
    "time/generate": 0.25,
    "time/reward": 0.01,
    "time/reference": 0.09,
    "time/train": 0.5,
    "time/sync": 0.05,
}


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def live(clock: Clock, total: int = 200) -> tuple[LiveDisplay, Console]:
    console = Console(file=io.StringIO(), width=80, height=24, force_terminal=True, color_system=None)
    return LiveDisplay(total, "care_grpo_tiny · seed 100", console=console, now=clock), console


def screen(display: LiveDisplay, console: Console) -> list[str]:
    """The panel as it stands, drawn on a console of the same size (the live one adds its own codes)."""
    paper = Console(file=io.StringIO(), width=console.width, height=24, color_system=None)
    paper.print(display._render())
    return paper.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_live_panel_fits_a_terminal_and_shows_everything() -> None:
    """The fullest panel that there is: a nested progress bar, a step, an evaluation after another."""
    clock = Clock()
    display, console = live(clock)
    try:
        display.evaluation(0, BASE)
        for step in range(1, 105):
            clock.time += 0.5
            display.step(step, STEP)
        display.stage("generate")
        display.progress(400, 2000, "base_tiny")
        clock.time += 4
        display.evaluation(100, {**BASE, "eval/accuracy": 0.91, "calibration/facts_ece": 0.051})
        lines = screen(display, console)
    finally:
        display.close()
    text = "\n".join(lines)
    assert len(lines) <= 23 and max(map(len, lines)) <= 80
    for shown in ("care_grpo_tiny · seed 100", "generate", "0:04", "104/200", "base_tiny", "400/2000"):
        assert shown in text, shown
    for shown in (
        "reward",
        "0.812",
        "divergence",
        "1.203",
        "entropy",
        "0.102",
        "mismatch",
        "1.2e-07",
        "18,234",
    ):
        assert shown in text, shown
    # 1.00 s of a step, of which .25 + .01 + .09 + .50 + .05 are known: .10 is other
    for shown in ("step 1.00 s", "generate 25%", "ref 9%", "train 50%", "sync 5%", "other 10%"):
        assert shown in text, shown
    # .5 s a step, 96 steps left, less the 4 s since the last one
    assert "0:44 left" in text
    assert "evaluation at step 100" in text and "+0.595" in text and "+0.020" in text
    assert "…" not in text  # nothing cut off


def test_progress_of_a_job_whose_text_changes() -> None:
    """The base's loss stands in the text: 100 of 1,000 rows a second done since 500, 300 are left."""
    clock = Clock()
    display, console = live(clock)
    for done in (500, 600, 700):
        display.progress(done, 1000, f"base_tiny · loss {done / 100:.3f}")
        clock.time += 1
    clock.time -= 1
    text = "\n".join(screen(display, console))
    assert "base_tiny · loss 7.000" in text and "700/1000" in text and "0:03 left" in text
    display.progress(1000, 1000, "done")
    assert "/1000" not in "\n".join(screen(display, console))
    display.progress(0, 500, "another")
    (line,) = [line for line in screen(display, console) if "another" in line]
    assert "0/500" in line and "left" not in line  # nothing is known of its pace yet
    display.close()


def test_time_bar_is_split_in_proportion() -> None:
    display, console = live(Clock())
    display.step(1, {"time/step": 1.0, "time/generate": 0.25, "time/train": 0.75})
    render = display._time_lines()
    display.close()
    bar: Any = render[0]
    lengths = [span.end - span.start for span in bar.spans]
    assert sum(lengths) == 76 - len("step 1.00 s  ")
    assert lengths[1] / lengths[0] == pytest.approx(3, rel=0.1)
    assert console.width == 80


def test_live_survives_being_drawn_while_it_is_fed() -> None:
    display, console = live(Clock())
    stop = threading.Event()
    failures: list[BaseException] = []

    def draw() -> None:
        while not stop.is_set():
            try:
                screen(display, console)
            except BaseException as error:
                failures.append(error)
                return

    thread = threading.Thread(target=draw)
    thread.start()
    for step in range(1, 300):
        display.step(step, {**STEP, "rollout/reward": float("nan") if step % 7 == 0 else 0.5})
        display.stage("train" if step % 2 else "sync")
        display.progress(step % 5, 5, "x")
    stop.set()
    thread.join()
    display.close()
    display.close()
    assert failures == []


def test_closing_the_live_panel_leaves_messages_only() -> None:
    clock = Clock()
    display, console = live(clock)
    display.step(1, STEP)
    display.message("checkpoint [kept] at step 1")
    display.close()
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "checkpoint [kept] at step 1" in output
    assert output.endswith("\x1b[2K") or output.count("\x1b[2K") >= 3  # the panel's lines are erased


def test_plain_prints_first_last_and_every_interval() -> None:
    clock, out = Clock(), io.StringIO()
    display = PlainDisplay(40, "care_grpo_tiny · seed 1", file=out, interval=10, now=clock)
    for step in range(1, 41):
        clock.time += 1
        display.stage("generate")
        display.stage("train")
        display.step(step, STEP)
    display.evaluation(40, BASE)
    display.close()
    lines = out.getvalue().splitlines()
    assert lines[0] == "[0:00] care_grpo_tiny · seed 1"
    assert [line for line in lines if "stage: " in line] == ["[0:01] stage: generate", "[0:01] stage: train"]
    # step 1 at 1 s, then 10 s later each: 11, 21, 31, and the last
    steps = [line for line in lines if "] step " in line]
    assert [line.split("step ")[1].split("/")[0].strip() for line in steps] == ["1", "11", "21", "31", "40"]
    assert "reward 0.812" in steps[1] and "divergence 1.203" in steps[1] and "left 0:29" in steps[1]
    assert lines[-1].startswith("[0:40] evaluation at step 40: accuracy 0.315 · maj@N 0.410 · FACTS ECE 0.031")


def test_plain_shows_a_long_build_going_on() -> None:
    clock, out = Clock(), io.StringIO()
    display = PlainDisplay(10, "x", file=out, interval=10, now=clock)
    for done in range(0, 2001, 100):
        display.progress(done, 2000, "building base_tiny")
        clock.time += 4
    lines = [line for line in out.getvalue().splitlines() if "building" in line]
    # at 0 s, then the first of the calls every 4 s that is 10 s or more later, and the end
    assert lines[:2] == [
        "[0:00] building base_tiny  0/2000    0 %",
        "[0:12] building base_tiny  300/2000   15 %",
    ]
    assert lines[-1].endswith("2000/2000  100 %")
    assert len(lines) == 8


def test_a_step_of_supervised_training_shows_its_loss() -> None:
    out = io.StringIO()
    display = PlainDisplay(2000, "base_tiny", file=out)
    display.step(1, {"train/ce_loss": 2.5, "train/lr": 3e-3, "train/grad_norm": 1.0})
    assert "cross-entropy 2.500" in out.getvalue() and "learning rate 0.003" in out.getvalue()


def test_pace_follows_the_recent_steps_only() -> None:
    clock = Clock()
    pace = Pace(100, clock, window=10)
    assert pace.left() is None
    for step in range(1, 21):  # a slow start
        clock.time += 10
        pace.step(step)
    for step in range(21, 41):
        clock.time += 1
        pace.step(step)
    assert pace.left() == pytest.approx(60)


@pytest.mark.parametrize(
    ("terminal", "environment", "expected"),
    [
        (True, {}, LiveDisplay),
        (True, {"CI": "1"}, PlainDisplay),
        (True, {"TERM": "dumb"}, PlainDisplay),
        (False, {}, PlainDisplay),
    ],
)
def test_auto_is_live_on_a_terminal_only(
    terminal: bool, environment: dict[str, str], expected: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    display = make_display("auto", 10, "x", file=Terminal() if terminal else io.StringIO())
    display.close()
    assert type(display) is expected


def test_every_display_takes_every_call(capsys: pytest.CaptureFixture[str]) -> None:
    for mode in DISPLAYS:
        display = make_display(mode, 10, "x", file=io.StringIO())
        display.stage("generate")
        display.progress(0, 0, "")
        display.progress(1, 0, "")
        display.step(10, {})
        display.step(3, {"rollout/reward": float("inf"), "time/step": 0.0})
        display.evaluation(0, {})
        display.message("[/] not markup")
        display.close()
        display.close()
    assert type(make_display("quiet", 1, "x")) is QuietDisplay
    assert capsys.readouterr().out == ""
    with pytest.raises(ValueError, match="use auto, live, plain or quiet"):
        make_display("loud", 10, "x")


def test_sparkline_averages_long_courses() -> None:
    # 28 values into 14 characters, two each: a ramp stays a ramp from the lowest to the highest block
    line = sparkline([float(i) for i in range(28)], width=14)
    assert len(line) == 14 and line[0] == "▁" and line[-1] == "█" and list(line) == sorted(line)


def test_changes_are_coloured_by_what_is_better() -> None:
    assert change_text("calibration/facts_ece", 0.03, 0.05).style == "red"  # more error
    assert change_text("eval/accuracy", 0.3, 0.9).style == "green"
    assert change_text("eval/accuracy", 0.3, 0.3000001).style == "bright_black"  # +0.000
    assert change_text("eval/entropy", 0.2, 0.1).style == "bright_black"  # neither
