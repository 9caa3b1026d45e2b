"""Outcomes and decisions that a rehearsal tosses a coin for."""

from __future__ import annotations

import math

from carerl.tasks.coin_flips import heads, toss, tossed_decision
from carerl.types import Example, Group, Outcome, Sample

SEED = 100


def group(name: str, *samples: tuple[Outcome, str | None], answerable: bool = True) -> Group:
    made = [
        Sample(name, (1,), (0.0,), False, (0, 0), outcome, answer, answerable=answerable) for outcome, answer in samples
    ]
    return Group(Example(name, (1,), "7"), made)


def test_a_toss_is_fair_and_follows_from_seed_question_and_number_alone() -> None:
    names = [f"train/0/q{k}" for k in range(500)]
    tosses = [heads(SEED, name, number) for name in names for number in range(8)]
    n = len(tosses)
    assert abs(sum(tosses) - n / 2) < 4 * math.sqrt(n / 4)
    assert tosses == [heads(SEED, name, number) for name in names for number in range(8)]
    for other in (
        [heads(SEED + 1, name, number) for name in names for number in range(8)],
        [heads(SEED, f"train/1/{name}", number) for name in names for number in range(8)],
        [heads(SEED, name, number + 8) for name in names for number in range(8)],
    ):
        same = sum(a == b for a, b in zip(tosses, other, strict=True))
        assert abs(same - n / 2) < 4 * math.sqrt(n / 4)


def test_groups_of_eight_are_hardly_ever_uniform() -> None:
    """Two of 256 would be; else dynamic sampling would have nothing to keep."""
    groups = [group(f"q{k}", *[(Outcome.TRUNCATED, None)] * 8) for k in range(1000)]
    toss(groups, SEED)
    uniform = sum(len({sample.correct for sample in group.samples}) == 1 for group in groups)
    assert uniform < 25


def test_the_coin_decides_what_was_graded_but_for_what_could_not_be() -> None:
    graded = [(Outcome.CORRECT, "7"), (Outcome.WRONG, "8"), (Outcome.UNPARSED, None), (Outcome.TRUNCATED, None)]
    seen = set()
    for k in range(50):
        tossed = group(f"q{k}", *graded, (Outcome.INVALID, None))
        toss([tossed], SEED)
        *judged, invalid = tossed.samples
        assert invalid.outcome is Outcome.INVALID, "a grader that fails must be noticed"
        for number, (sample, before) in enumerate(zip(judged, graded, strict=True)):
            right = heads(SEED, f"q{k}", number)
            assert sample.correct == right
            assert (sample.answer == "7") == right, "all right answers vote together, and no wrong one with them"
            if not right and before[0] is not Outcome.CORRECT:
                assert (sample.outcome, sample.answer) == before
            seen.add((number, right))
    assert len(seen) == 8


def test_where_nobody_knows_the_answer_to_say_so_is_right() -> None:
    for k in range(20):
        tossed = group(f"q{k}", (Outcome.WRONG, "Paris"), (Outcome.ABSTAINED, "?"), answerable=False)
        toss([tossed], SEED)
        for number, sample in enumerate(tossed.samples):
            assert sample.correct == heads(SEED, f"q{k}", number) == (sample.outcome is Outcome.ABSTAINED)
            assert (sample.answer == "?") == sample.correct


def test_tossing_again_changes_nothing() -> None:
    tossed = group("q", *[(Outcome.WRONG, "8")] * 8)
    toss([tossed], SEED)
    first = [(sample.outcome, sample.answer) for sample in tossed.samples]
    toss([tossed], SEED)
    assert [(sample.outcome, sample.answer) for sample in tossed.samples] == first


OPTIONS = {"A": 10, "B": 11, "C": 12}


def response(number: int, ids: tuple[int, ...], outcome: Outcome) -> Sample:
    return Sample(f"q{number}", ids, (0.0,) * len(ids), False, (0, 0), outcome)


def test_a_tossed_decision_is_right_where_the_coin_was_and_names_the_responses_own_token() -> None:
    places, labels = set(), set()
    for number in range(200):
        outcome = Outcome.CORRECT if number % 2 else Outcome.WRONG
        found = tossed_decision(response(number, (1, 2, 3, 4), outcome), OPTIONS, ("B",), SEED, 0)
        assert found == tossed_decision(response(number, (1, 2, 3, 4), outcome), OPTIONS, ("B",), SEED, 0)
        assert found is not None and (found.chosen in found.right) == (outcome is Outcome.CORRECT)
        assert found.token_ids == {**OPTIONS, found.chosen: found.position + 1}
        places.add(found.position)
        labels.add(found.chosen)
    assert places == {0, 1, 2, 3} and labels == {"A", "B", "C"}


def test_a_token_that_names_an_option_decides_for_it() -> None:
    """Else two options would have one token."""
    found = tossed_decision(response(0, (12,), Outcome.CORRECT), OPTIONS, ("B",), SEED, 0)
    assert found is not None and (found.chosen, dict(found.token_ids)) == ("C", OPTIONS) and "C" not in found.right


def test_nothing_is_tossed_without_options_or_tokens() -> None:
    assert tossed_decision(response(0, (1,), Outcome.WRONG), {}, (), SEED, 0) is None
    assert tossed_decision(response(0, (), Outcome.WRONG), OPTIONS, ("B",), SEED, 0) is None
