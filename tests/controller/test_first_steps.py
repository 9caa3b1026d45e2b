"""When a run says how much memory its actors take: once. What it says: tests/config/plan/test_peaks.py."""

from __future__ import annotations

from typing import Any

from carerl.config.load import load
from carerl.config.plan.peaks import Peak
from carerl.controller.first_steps import FIRST, FirstSteps
from carerl.tracking.display import QuietDisplay


class Display(QuietDisplay):
    def __init__(self) -> None:
        self.said: list[str] = []

    def message(self, text: str) -> None:
        self.said.append(text)


class Actors:
    """Counts how often their memory is asked for."""

    asked = 0

    def peaks(self) -> dict[str, Peak]:
        self.asked += 1
        return {"learner 0": Peak(99.0), "grading 0": Peak(0.1)}


def steps(number: int, last: int) -> tuple[list[dict[str, float]], list[str], int]:
    actors: Any = Actors()
    display, first = Display(), FirstSteps()
    config = load(["recipe=care_grpo_tiny"])
    found = [first.peaks(actors, config, display, step == last) for step in range(1, number + 1)]
    return found, display.said, actors.asked


def test_it_is_said_once_after_the_first_steps_with_what_is_above_the_plan() -> None:
    found, said, asked = steps(5, last=5)
    assert [bool(metrics) for metrics in found] == [step == FIRST for step in range(1, 6)] and asked == 1
    assert found[FIRST - 1] == {"system/resident_learner_gib": 99.0, "system/resident_grading_gib": 0.1}
    assert said[0].startswith("main memory at its peak so far, GiB (planned): learner 99.00 (")
    assert [text.split(":")[:2] for text in said[1:]] == [["more memory than planned", " learner"]]


def test_a_run_of_one_step_says_it_too() -> None:
    found, _, asked = steps(1, last=1)
    assert found[0] and asked == 1
