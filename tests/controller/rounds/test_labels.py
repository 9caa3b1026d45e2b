"""Who judges the steps of solutions, and what is asked of whom. Engines and graders are stand-ins with known answers.

Not covered: reading a review, shares of completions (tests/preferences/test_judges.py); real engines (tests/e2e).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from carerl.backends.engines.base import Request
from carerl.config.load import load
from carerl.controller.rounds import labels
from carerl.controller.rounds.labels import LABELS, MonteCarlo, SecondModel, Workplace, label_of
from carerl.preferences.config import LABELS as NAMES
from carerl.preferences.records import Solution, Step
from carerl.seeds import derived_seed
from carerl.tasks import TASKS
from carerl.types import Completion, Example, Group, Outcome, Sample, Sampling

QUESTIONS = {0: Example("q0", (2, 3), "1"), 5: Example("q5", (2, 7, 7), "1", {"question": "Seven?"})}
CONFIG = load(["recipe=caspo_tiny", "preference.label=monte_carlo", "preference.completions=4"])


class Engines:
    """Completes each prefix with one token, 0 or 1, that its seed and its sample's number decide. ``asked``: all
    requests so far."""

    def __init__(self) -> None:
        self.asked: list[Request] = []

    def complete(
        self, requests: Sequence[Request], sampling: Sampling, go_on: Callable[[], bool], homes: Sequence[Any] = ()
    ) -> list[list[Completion]]:
        self.asked += requests
        assert len({request.number for request in requests}) == len(requests)
        if not go_on():
            return []
        return [
            [Completion((derived_seed(sampling.seed, request.number) >> k & 1,), (), False) for k in range(sampling.n)]
            for request in requests
        ]


class Graders:
    """Finds a response right if it ends with token 1."""

    def grade(self, groups: list[Group]) -> list[Group]:
        for group in groups:
            for sample in group.samples:
                sample.outcome = Outcome.CORRECT if sample.response_ids[-1] == 1 else Outcome.WRONG
        return groups


def solution(question: int, *steps: tuple[int, ...], outcome: Outcome = Outcome.CORRECT) -> Solution:
    ids = tuple(token for step in steps for token in step)
    ends = [sum(map(len, steps[: k + 1])) for k in range(len(steps))]
    made = tuple(Step(a, b, 0.5, 0.5, -1.0) for a, b in zip((0, *ends), ends, strict=False))
    example = QUESTIONS[question]
    return Solution(example, Sample(example.id, ids, (), False, (0, 0), outcome), made)


def workplace(go_on: bool = True, config: Any = CONFIG, **crew: Any) -> Workplace:
    task = TASKS["tiny"].build(load(["recipe=caspo_tiny"]).task, 100)
    parts: Any = SimpleNamespace(**{"engines": Engines(), "graders": Graders(), **crew})
    return Workplace(config, task, parts, lambda ids: " ".join(map(str, ids)), 77, (1,), lambda: go_on)


SOLUTIONS = {
    0: [solution(0, (8,), (9, 9), (1,)), solution(0, (8,), (4,), (0,), outcome=Outcome.WRONG)],
    5: [solution(5, (8,), (1,))],
}


def test_every_label_that_the_settings_name_has_its_way() -> None:
    assert set(LABELS) == set(NAMES)


def test_completions_judge_each_place_once_and_the_grader_the_last_step() -> None:
    place = workplace()
    place.graded = (graded := []).extend
    judged = MonteCarlo(place).judge(SOLUTIONS, {})
    assert judged is not None
    asked = {request.prompt_ids: request for request in place.crew.engines.asked}  # type: ignore[attr-defined]
    assert set(asked) == {(2, 3, 8), (2, 3, 8, 9, 9), (2, 3, 8, 4), (2, 7, 7, 8)}, "equal prefixes are asked once"
    assert [asked[(2, 3, *ids)].max_new_tokens for ids in ((8,), (8, 9, 9))] == [7, 5]
    first, second = ([step.right for step in one.steps] for one in judged[0])
    assert first[0] == second[0], "it is the same place"
    assert (first[-1], second[-1]) == (1.0, 0.0)
    seed = derived_seed(77, labels.LABEL_STREAM)
    drawn = derived_seed(seed, asked[(2, 3, 8, 4)].number)
    assert second[1] == sum(drawn >> k & 1 for k in range(4)) / 4
    assert len(graded) == 4 and all(len(group.samples) == 4 for group in graded)
    assert [[one.judge_tokens for one in own] for own in judged.values()] == [[8, 4], [4]], "a place counts once"


def test_behind_a_wrong_step_nothing_is_completed_and_other_places_keep_their_verdicts() -> None:
    """``wrong_to`` is what makes the first place wrong here: no completion is asked for behind it."""
    free = MonteCarlo(workplace()).judge(SOLUTIONS, {})
    config = load(["recipe=caspo_tiny", "preference.label=monte_carlo", "preference.completions=4"])
    assert free is not None
    first = free[0][0].steps[0].right
    assert first is not None and first < 1.0 and free[5][0].steps[0].right > first  # type: ignore[operator]
    config.preference.wrong_to = first
    place = workplace(config=config)
    judged = MonteCarlo(place).judge(SOLUTIONS, {})
    assert judged is not None
    assert {request.prompt_ids for request in place.crew.engines.asked} == {(2, 3, 8), (2, 7, 7, 8)}  # type: ignore
    assert [[step.right for step in one.steps] for one in judged[0]] == [[first, None, None]] * 2
    assert judged[5] == free[5]


def test_verdicts_do_not_depend_on_what_is_judged_together() -> None:
    together = MonteCarlo(workplace()).judge(SOLUTIONS, {})
    apart = [MonteCarlo(workplace()).judge({k: own}, {}) for k, own in SOLUTIONS.items()]
    assert together == {k: own for part in apart if part for k, own in part.items()}
    other = workplace()
    other.seed = 78
    assert MonteCarlo(other).judge(SOLUTIONS, {}) != together


def test_places_that_were_judged_are_not_asked_again() -> None:
    place = workplace()
    known = MonteCarlo(place).judge(SOLUTIONS, {})
    assert known is not None
    before = {request.number for request in place.crew.engines.asked}  # type: ignore[attr-defined]
    place.crew.engines.asked.clear()  # type: ignore[attr-defined]
    later = MonteCarlo(place).judge({0: [solution(0, (8,), (9, 9), (6,), (1,))]}, known)
    assert later is not None
    (asked,) = place.crew.engines.asked  # type: ignore[attr-defined]
    assert asked.prompt_ids == (2, 3, 8, 9, 9, 6) and asked.number not in before
    assert [step.right for step in later[0][0].steps[:2]] == [step.right for step in known[0][0].steps[:2]]


@pytest.mark.parametrize("kind", [MonteCarlo, SecondModel])
def test_a_stop_leaves_everything_unjudged(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "load_tokenizer", lambda files: Words())
    monkeypatch.setattr(labels, "end_ids", lambda files: ())
    monkeypatch.setattr(labels.hub, "model_files", lambda path, revision: path)
    config = load(["recipe=caspo_7b"])
    assert kind(workplace(go_on=False, config=config, judge=Engines())).judge(SOLUTIONS, {}) is None


class Words:
    """A tokenizer whose tokens are the characters. Its chat template says who speaks."""

    chat_template: str | None = "a template"
    eos_token_id = 3

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids: list[int], skip_special_tokens: bool) -> str:
        return "".join(map(chr, ids))

    def apply_chat_template(self, messages: list[dict[str, str]], tokenize: bool, add_generation_prompt: bool) -> str:
        return "".join(f"{message['role']}: {message['content']}" for message in messages) + " judge:"


class Reviewer(Engines):
    """Says of every solution that its second step is the first wrong one, and of those with '4' nothing that can be
    read."""

    def complete(self, requests: Sequence[Request], *_: Any, **__: Any) -> list[list[Completion]]:
        self.asked += requests
        texts = ["".join(map(chr, request.prompt_ids)) for request in requests]
        replies = [r"I cannot say." if "<step_1>\n4" in text else r"It is \boxed{1}." for text in texts]
        return [[Completion(tuple(map(ord, reply)), (), False)] for reply in replies]


def test_a_second_model_reads_question_and_steps_in_its_own_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(labels, "load_tokenizer", lambda files: Words())
    monkeypatch.setattr(labels, "end_ids", lambda files: (7,))
    monkeypatch.setattr(labels.hub, "model_files", lambda path, revision: path)
    config = load(["recipe=caspo_7b", "judge.max_model_len=3000", "judge.max_new_tokens=1000"])
    reviewer = Reviewer()
    place = workplace(config=config, judge=reviewer)
    judged = SecondModel(place).judge(SOLUTIONS, {})
    assert judged is not None
    assert [[step.right for step in one.steps] for one in judged[0]] == [[1.0, 0.0, None], [None, None, None]]
    assert [step.right for step in judged[5][0].steps] == [1.0, 1.0], "the grader's, although the review says no"
    assert [one.review for one in judged[0]] == [r"It is \boxed{1}.", "I cannot say."]
    assert [one.judge_tokens for one in judged[0]] == [len(r"It is \boxed{1}."), len("I cannot say.")]
    texts = ["".join(map(chr, request.prompt_ids)) for request in reviewer.asked]
    assert all(text.startswith("user: ") and text.endswith(" judge:") for text in texts)
    assert "Seven?" in texts[2] and "2 3" in texts[0], "the bare question, or the prompt where the task has none"
    assert "<step_1>\n9 9\n</step_1>" in texts[0]
    config.judge.max_model_len = 1000 + len(reviewer.asked[0].prompt_ids) - 1
    short = SecondModel(workplace(config=config, judge=Reviewer())).judge({0: SOLUTIONS[0][:1]}, {})
    assert short == {0: SOLUTIONS[0][:1]}, "too long for it: no verdict"


def test_whole_responses_are_not_judged_and_a_rehearsal_tosses() -> None:
    whole = workplace(config=load(["recipe=outcome_dpo_tiny"]))
    assert label_of(whole).judge(SOLUTIONS, {}) == SOLUTIONS
    config = load(["recipe=caspo_tiny", "rehearse=true", "preference.label=monte_carlo"])
    tossed = label_of(workplace(config=config)).judge(SOLUTIONS, {})
    assert tossed is not None
    verdicts = [[step.right for step in one.steps] for own in tossed.values() for one in own]
    assert all(right in (1.0, 0.0, None) for own in verdicts for right in own)
    assert verdicts[0][0] == verdicts[1][0], "the same tokens"
