"""A round of preferences on disk, and back.

Not covered: what is put into it (tests/preferences), a run that is stopped in a round (tests/controller/test_caspo.py).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from carerl.preferences.records import Pair, Solution, Step
from carerl.runs.directory import RunDirectory
from carerl.runs.rounds import ReferredPair, RoundStore, forget_rounds
from carerl.types import Example, Outcome, Sample

QUESTIONS = [Example("q0", (5, 6), "B"), Example("q1", (5, 7), "C")]


def solution(question: int, ids: tuple[int, ...], prefix: int = 0, right: float | None = 1.0) -> Solution:
    """A solution of two steps, of which the first has two tokens."""
    sample = Sample(f"q{question}", ids, (), False, (3, 3), Outcome.CORRECT, "B")
    steps = (Step(0, 2, 0.1 + 0.2, 0.75, -1.25, right), Step(2, len(ids), 1 / 3, 0.5, -2.5, None))
    return Solution(QUESTIONS[question], sample, steps, prefix, prefix > 0)


DRAWN = {0: [solution(0, (8, 9, 4)), solution(0, (8, 8, 4, 2), right=0.125)], 1: [solution(1, (9, 9, 2), right=None)]}
PAIR = ReferredPair(1, Pair("q1", (5, 7, 8), 1, (9, 2), (4,), "second", 0.25, 0.75), (-0.5, -0.25), (-1.5,))


def store(run: RunDirectory, number: int = 1, **settings: float) -> RoundStore:
    return RoundStore(run, number, settings, str)


def test_solutions_come_back_as_they_were_in_the_order_of_their_responses(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    first = store(run)
    first.add(1, 0, DRAWN[1])
    first.write_part()
    first.add(0, 0, DRAWN[0])
    first.write_part()
    assert store(run).read(QUESTIONS) == DRAWN and not first.steps_file.exists()
    again = store(run)
    again.add(0, 2, [second := solution(0, (8, 7, 7), prefix=2)])
    again.close_steps()
    assert store(run).read(QUESTIONS) == {0: [*DRAWN[0], second], 1: DRAWN[1]}
    assert store(run).metrics is None, "it has no pairs yet"


def test_pairs_come_back_with_their_reference(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    made = store(run)
    made.write_pairs([PAIR], {"round/pairs": 1.0})
    assert store(run).read_pairs() == [PAIR] and store(run).metrics == {"round/pairs": 1.0}
    made.write_pairs([], {"round/pairs": 0.0})
    assert store(run).read_pairs() == []


def test_what_was_drawn_with_other_settings_is_removed(tmp_path: Path) -> None:
    run, said = RunDirectory(tmp_path), list[str]()
    first = store(run, samples=8)
    first.add(0, 0, DRAWN[0])
    first.write_part()
    assert store(run, samples=8).read(QUESTIONS)
    assert RoundStore(run, 1, {"samples": 4}, str, said.append).read(QUESTIONS) == {}
    assert len(said) == 1 and "round 1" in said[0]
    assert json.loads((tmp_path / "rounds" / "01" / "round.json").read_text())["settings"] == {"samples": 4}


def test_solutions_to_another_question_are_refused(tmp_path: Path) -> None:
    made = store(RunDirectory(tmp_path))
    made.add(0, 0, DRAWN[0])
    made.write_part()
    for other in (QUESTIONS[1], replace(QUESTIONS[0], gold="C"), replace(QUESTIONS[0], prompt_ids=(5, 7))):
        with pytest.raises(ValueError, match="question 0 of the round was q0, with its prompt and gold answer"):
            made.read([other])


def test_responses_that_wait_for_verdicts_are_there_until_all_steps_are(tmp_path: Path) -> None:
    """Also what a second model wrote, and how far the engine was off, come back."""
    run = RunDirectory(tmp_path)
    made = store(run)
    second = replace(solution(0, (8, 7, 7), prefix=2, right=None), judge_tokens=5)
    waiting = {0: [replace(DRAWN[0][0], gap_mean=1 / 3, gap_max=0.1 + 0.2)], 1: DRAWN[1]}
    made.write_drawn(waiting, {})
    made.write_drawn({0: [second]}, {0: 1})
    assert (
        store(run).read_drawn(QUESTIONS) == {0: [*waiting[0], second], 1: DRAWN[1]} and store(run).read(QUESTIONS) == {}
    )
    made.add(1, 0, judged := [replace(DRAWN[1][0], review="Well.\n\\boxed{-1}", judge_tokens=7)])
    made.write_part()
    assert store(run).read(QUESTIONS) == {1: judged}
    made.close_steps()
    assert store(run).read_drawn(QUESTIONS) == {} and store(run).read(QUESTIONS) == {1: judged}


def test_a_run_that_goes_back_keeps_the_round_that_comes_next(tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    for number in (1, 2, 3, 11):
        store(run, number)
    forget_rounds(run, 1)
    assert sorted(path.name for path in run.rounds.iterdir()) == ["01", "02"]
