"""Pairs of judged steps: what they share, which are made, in which order. Tokens 90 and 91 are the prompt."""

from __future__ import annotations

import math
import random
from itertools import product

import pytest

from carerl.preferences.config import PreferenceConfig
from carerl.preferences.pairs import Bars, RunnerUp, bars, dealt, pairs, runner_up
from carerl.preferences.records import Pair, Solution
from carerl.types import Example, Outcome
from tests.preferences.solved import EXAMPLE, solved

STEP_DPO = PreferenceConfig(confidence="off", pairs_per_question=100)
CASPO = PreferenceConfig(pairs_per_question=100)
ONLY = PreferenceConfig(confidence="only", pairs_per_question=100)
OUTCOME = PreferenceConfig(unit="response", confidence="off", pairs_per_question=100)
MIDDLE = Bars(unsure=0.5, sure=0.5)


def steps_of(found: list[Pair]) -> set[tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]:
    """Prefix, chosen and rejected; no pair twice."""
    made = [(pair.prompt_ids[2:], pair.chosen_ids, pair.rejected_ids) for pair in found]
    assert len(set(made)) == len(made)
    return set(made)


def chains(seed: int, n: int = 12, length: int = 3) -> list[Solution]:
    """Responses in a world in which step k is right if its last token is k; steps are of one or two tokens."""
    draw = random.Random(seed)
    made = []
    for _ in range(n):
        steps: list[tuple[list[int], float | None, float]] = []
        for k in range(length):
            token = draw.choice((k, k, 7, 8))
            tokens = [draw.choice((20, 21)), token] if draw.random() < 0.5 else [token]
            known = all(right for _, right, _ in steps)
            steps.append((tokens, float(token == k) if known else None, draw.random()))
        made.append(solved(steps))
    return made


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("config", [STEP_DPO, CASPO, ONLY], ids=["off", "prefer", "only"])
def test_pairs_are_those_that_a_plain_search_finds(seed: int, config: PreferenceConfig) -> None:
    """Every two steps after the same tokens, one right and one wrong, all before them right."""
    solutions = chains(seed)
    expected = set()
    for one, other in product(solutions, repeat=2):
        for mine, theirs in product(one.steps, other.steps):
            a, b = one.sample.response_ids, other.sample.response_ids
            if a[: mine.start] == b[: theirs.start] and mine.right == 1.0 and theirs.right == 0.0:
                expected.add((a[: mine.start], a[mine.start : mine.end], b[theirs.start : theirs.end]))
    limits = bars(solutions, config)
    found = pairs(solutions, limits, config, seed)
    if config is ONLY:
        expected = {e for e in expected if e in steps_of(found)}
        assert all(p.chosen_confidence <= limits.unsure and p.rejected_confidence >= limits.sure for p in found)
    assert steps_of(found) == expected and expected
    for pair in found:
        assert pair.prompt_ids[:2] == EXAMPLE.prompt_ids and pair.shared == len(pair.prompt_ids) - 2
        assert pair.chosen_ids != pair.rejected_ids and pair.rule == "wrong" and pair.example_id == "q"


@pytest.mark.parametrize("config", [STEP_DPO, CASPO], ids=["off", "prefer"])
def test_the_order_of_solutions_does_not_matter_and_the_seed_breaks_ties_alone(config: PreferenceConfig) -> None:
    solutions = chains(3)
    found = pairs(solutions, MIDDLE, config, 5)
    for seed in range(4):
        shuffled = random.Random(seed).sample(solutions, len(solutions))
        assert pairs(shuffled, MIDDLE, config, 5) == found
    others = [pairs(solutions, MIDDLE, config, seed) for seed in range(6, 12)]
    assert all(steps_of(other) == steps_of(found) for other in others)
    assert any(other != found for other in others) is (config is STEP_DPO)  # no two gaps are equal in CASPO's


def test_a_capped_question_keeps_its_best_pairs_and_its_forks_take_turns() -> None:
    """The first fork has three wrong steps; by confidence alone they would come before the second fork's."""
    solutions = [
        solved([((1,), 1.0, 0.2), ((2,), 1.0, 0.9)]),
        solved([((11,), 0.0, 0.6)]),
        solved([((12,), 0.0, 0.8)]),
        solved([((13,), 0.0, 0.7)]),
        solved([((1,), 1.0, 0.2), ((14,), 0.0, 0.3)]),
    ]
    order = [pair.rejected_ids[0] for pair in pairs(solutions, MIDDLE, CASPO, 0)]
    assert order == [12, 14, 13, 11]
    for cap in (1, 2, 3):
        capped = PreferenceConfig(pairs_per_question=cap)
        assert [pair.rejected_ids[0] for pair in pairs(solutions, MIDDLE, capped, 0)] == order[:cap]


def test_an_unsure_right_and_a_sure_wrong_step_come_before_a_wider_gap() -> None:
    solutions = [
        solved([((1,), 1.0, 0.5)]), solved([((2,), 1.0, 0.6)]), solved([((11,), 0.0, 0.9)]),
        solved([((12,), 0.0, 0.4)]),
    ]  # fmt: skip
    found = pairs(solutions, Bars(unsure=0.6, sure=0.95), CASPO, 0)
    assert [(p.chosen_ids[0], p.rejected_ids[0]) for p in found] == [(1, 11), (2, 11), (1, 12), (2, 12)]
    found = pairs(solutions, Bars(unsure=0.5, sure=0.4), CASPO, 0)  # 2 is not unsure: its gap to 11 is wide in vain
    assert [(p.chosen_ids[0], p.rejected_ids[0]) for p in found] == [(1, 11), (1, 12), (2, 11), (2, 12)]
    assert [(p.chosen_ids[0], p.rejected_ids[0]) for p in pairs(solutions, Bars(0.5, 0.4), ONLY, 0)] == [
        (1, 11), (1, 12),
    ]  # fmt: skip


def test_equal_siblings_do_not_hang_on_rounding() -> None:
    """Confidences that differ by 1e-9 are one: the seed decides, and not the rounding."""
    exact = [solved([((1,), 1.0, 0.5)]), solved([((11,), 0.0, 0.5)]), solved([((12,), 0.0, 0.5)])]
    rounded = [solved([((1,), 1.0, 0.5)]), solved([((11,), 0.0, 0.5)]), solved([((12,), 0.0, 0.5 + 1e-9)])]
    for seed in range(6):
        mine, theirs = (pairs(solutions, MIDDLE, CASPO, seed) for solutions in (exact, rounded))
        assert mine == theirs
    firsts = {pairs(rounded, MIDDLE, CASPO, seed)[0].rejected_ids for seed in range(12)}
    assert firsts == {(11,), (12,)}


def test_verdicts_of_one_step_are_pooled_and_doubtful_ones_are_in_no_pair() -> None:
    """Shares of completions: .25 and .5 of the same step are .375, which is neither right nor wrong here."""
    settings = PreferenceConfig(confidence="off", right_from=0.5, wrong_to=0.125)
    solutions = [
        solved([((1,), 0.25, 0.5), ((4,), 1.0, 0.5)]), solved([((1,), 0.5, 0.5), ((5,), 0.0, 0.5)]),
        solved([((2,), 0.5, 0.5)]), solved([((3,), 0.125, 0.5)]), solved([((6,), 0.25, 0.5)]),
    ]  # fmt: skip
    assert steps_of(pairs(solutions, MIDDLE, settings, 0)) == {((), (2,), (3,))}  # nor do forks lie behind it
    settings.right_from = 0.375
    found = steps_of(pairs(solutions, MIDDLE, settings, 0))
    assert found == {((), (1,), (3,)), ((), (2,), (3,)), ((1,), (4,), (5,))}


def test_a_step_that_was_cut_is_in_no_pair_but_a_cut_response_is_rejected() -> None:
    cut = solved([((1,), 1.0, 0.5), ((11,), 0.0, 0.5)], Outcome.TRUNCATED, truncated=True)
    whole = solved([((1,), 1.0, 0.5), ((2,), 1.0, 0.5)], Outcome.CORRECT)
    assert pairs([cut, whole], MIDDLE, STEP_DPO, 0) == []
    (pair,) = pairs([cut, whole], MIDDLE, OUTCOME, 0)
    assert (pair.chosen_ids, pair.rejected_ids, pair.shared) == ((1, 2), (1, 11), 0)


def test_outcome_dpo_takes_whole_responses_by_their_grades() -> None:
    """Steps' verdicts are not read; what grading could not judge is on neither side; prefixes are shared."""
    graded = [
        solved([((1,), 0.0, 0.2), ((2, 3), 0.0, 0.8)], Outcome.CORRECT),
        solved([((1,), 1.0, 0.5)], Outcome.WRONG),
        solved([((4,), 1.0, 0.5)], Outcome.ABSTAINED),
        solved([((5,), 1.0, 0.5)], Outcome.INVALID),
        solved([((1,), 1.0, 0.9), ((8, 9), 1.0, 0.6)], Outcome.CORRECT, prefix=2),
        solved([((1,), 1.0, 0.9), ((8,), 1.0, 0.6)], Outcome.WRONG, prefix=1),
        solved([((1,), 1.0, 0.9), ((8, 6), 1.0, 0.7)], Outcome.WRONG, prefix=2),
    ]
    found = pairs(graded, MIDDLE, OUTCOME, 0)
    assert steps_of(found) == {((), (1, 2, 3), (1,)), ((), (1, 2, 3), (4,)), ((1, 8), (9,), (6,))}
    by_shared = {pair.shared: pair for pair in found}
    assert by_shared[0].chosen_confidence == pytest.approx((0.2 + 2 * 0.8) / 3)  # a mean over tokens
    assert by_shared[2].chosen_confidence == pytest.approx(0.6)  # of the step that the given token is in
    with pytest.raises(ValueError, match="has not been graded"):
        pairs([solved([((1,), 1.0, 0.5)], None)], MIDDLE, OUTCOME, 0)


# ---- the second most probable token


def test_the_second_most_probable_token_is_asked_for_with_ties_to_the_lower_id() -> None:
    fork = RunnerUp((5, 6), (3,))
    assert fork.given({3: -0.1, 9: -2.5, 4: -2.6}) == (5, 6, 9)
    assert fork.given({9: -2.5, 4: -2.5, 3: -0.1}) == (5, 6, 4)
    assert fork.given({8: -0.7, 7: -0.7}) == (5, 6, 8)  # of two equal ones the lower is the first
    assert fork.given({3: -2.0, 9: -0.1}) is None  # the right step is the second itself
    assert RunnerUp((), (3, 9)).given({3: -2.0, 9: -0.1}) == (3,)  # but not that of the other right step
    with pytest.raises(ValueError, match="1 next tokens"):
        fork.given({3: 0.0})


def test_runner_ups_are_asked_for_beside_right_and_unsure_steps_alone() -> None:
    solutions = [
        solved([((1, 2), 1.0, 0.3), ((3,), 1.0, 0.9), ((4,), 1.0, 0.4)]),
        solved([((1, 2), 1.0, 0.3), ((5,), 0.0, 0.1), ((6,), None, 0.1)]),
        solved([((7,), 1.0, 0.5), ((8,), None, 0.2)]),
        solved([((9,), 1.0, 0.8)]),
    ]
    asked = runner_up(solutions, MIDDLE, CASPO)
    assert asked == [RunnerUp((), (1, 7)), RunnerUp((1, 2, 3), (4,))]
    for config in (STEP_DPO, OUTCOME, PreferenceConfig(second="off")):
        assert runner_up(solutions, MIDDLE, config) == []
    assert runner_up(solutions, Bars(), CASPO) == []


@pytest.mark.parametrize(("verdict", "judged", "always"), [(0.0, True, True), (1.0, False, True), (None, False, True)])
def test_a_runner_up_is_rejected_if_judged_wrong_or_always(verdict: float | None, judged: bool, always: bool) -> None:
    """The step 1 is unsure, 2 is not. Under ``always`` a right runner-up is rejected for the unsure one alone."""
    solutions = [
        solved([((1,), 1.0, 0.3)]), solved([((2,), 1.0, 0.9)]),
        solved([((5, 6), verdict, 0.4), ((7,), 1.0, 0.4)], prefix=1, second=True),
    ]  # fmt: skip
    for second, rejected in (("judged", judged), ("always", always)):
        config = PreferenceConfig(second=second)
        found = [pair for pair in pairs(solutions, MIDDLE, config, 0) if pair.rejected_ids == (5, 6)]
        expected = ([(1,), (2,)] if verdict == 0.0 else [(1,)]) if rejected else []
        assert sorted(pair.chosen_ids for pair in found) == expected
        assert {pair.rule for pair in found} <= {"second"}
    chosen = [p.chosen_ids for p in pairs([*solutions, solved([((8,), 0.0, 0.5)])], MIDDLE, PreferenceConfig(), 0)]
    assert ((5, 6) in chosen) is (verdict == 1.0)  # judged right, it can be chosen like any other


def test_what_was_also_drawn_freely_is_a_wrong_step_and_no_second() -> None:
    drawn = [solved([((1,), 1.0, 0.3)]), solved([((5,), 0.0, 0.4)])]
    asked = solved([((5,), 0.0, 0.4)], prefix=1, second=True)
    (alone,) = pairs([drawn[0], asked], MIDDLE, CASPO, 0)
    (both,) = pairs([*drawn, asked], MIDDLE, CASPO, 0)
    assert (alone.rule, both.rule) == ("second", "wrong")


def test_a_right_step_that_was_drawn_and_asked_for_is_rejected_for_its_token_alone() -> None:
    """``always``: its rule says so, and no step that begins with the same token is chosen before it."""
    always = PreferenceConfig(second="always")
    asked = solved([((5, 6), 1.0, 0.4), ((7,), 1.0, 0.4)], prefix=1, second=True)
    others = [solved([((1,), 1.0, 0.3)]), solved([((5, 6), 1.0, 0.4)]), solved([((5, 9), 1.0, 0.2)])]
    (pair,) = pairs([*others, asked], MIDDLE, always, 0)
    assert (pair.chosen_ids, pair.rejected_ids, pair.rule) == ((1,), (5, 6), "second")
    wrong = [solved([((5, 6), 0.0, 0.4)]), solved([((5, 6), 0.0, 0.4)], prefix=1, second=True)]
    found = pairs([others[0], others[2], *wrong], MIDDLE, always, 0)
    assert {(pair.chosen_ids, pair.rule) for pair in found} == {((1,), "wrong"), ((5, 9), "wrong")}


# ---- bars, and dealing


def test_bars_are_the_quantiles_of_right_and_of_wrong_steps() -> None:
    """At least the asked share of right steps is at or below the one bar, and of wrong ones at or above the other."""
    for seed, (unsure, sure) in product(range(3), [(0.0, 0.0), (0.25, 0.5), (0.5, 0.1), (1.0, 1.0)]):
        solutions = chains(seed) + [
            solved([((n,), float(n % 2), 0.1 * n)], example=Example("other", (1,), "")) for n in range(6)
        ]
        found = bars(solutions, PreferenceConfig(unsure=unsure, sure=sure))
        right, wrong = set(), set()
        for question in ("q", "other"):
            own = [s for s in solutions if s.example.id == question]
            for pair_config, side, into in ((1.0, "chosen", right), (0.0, "rejected", wrong)):
                steps: dict[tuple[int, ...], list[float]] = {}
                for s in own:
                    for step in s.steps:
                        if step.right == pair_config:
                            steps.setdefault(s.sample.response_ids[: step.end], []).append(step.confidence)
                into |= {(question, side, ids, sum(values) / len(values)) for ids, values in steps.items()}
        lows, highs = [each[3] for each in right], [each[3] for each in wrong]
        below = sum(value <= found.unsure + 1e-6 for value in lows)
        above = sum(value >= found.sure - 1e-6 for value in highs)
        assert below == max(1, math.ceil(unsure * len(lows))) and above == max(1, math.ceil(sure * len(highs)))
    assert bars([], CASPO) == Bars(-math.inf, math.inf)


def test_pairs_are_dealt_evenly_each_once_an_epoch() -> None:
    made = [Pair("q", (1,), 0, (n,), (100,), "wrong", 0.5, 0.5) for n in range(23)]
    config = PreferenceConfig(pairs_per_update=5, epochs=2)
    updates = dealt(made, config, 7)
    assert sorted(map(len, updates)) == [4, 4, 4, 4, 5, 5, 5, 5, 5, 5]
    epochs = [[pair for update in updates[k : k + 5] for pair in update] for k in (0, 5)]
    assert all(sorted(pair.chosen_ids for pair in epoch) == [(n,) for n in range(23)] for epoch in epochs)
    assert epochs[0] != epochs[1] != made and dealt(made, config, 7) == updates != dealt(made, config, 8)
    assert dealt([], config, 7) == []


def test_mixed_questions_and_broken_confidences_are_refused() -> None:
    other = solved([((1,), 1.0, 0.5)], example=Example("other", (1,), ""))
    with pytest.raises(ValueError, match="several"):
        pairs([solved([((1,), 1.0, 0.5)]), other], MIDDLE, CASPO, 0)
    for config in (CASPO, OUTCOME):
        with pytest.raises(ValueError, match="confidence is nan"):
            pairs([solved([((1,), 1.0, math.nan)])], MIDDLE, config, 0)


def test_settings_name_the_method_and_refuse_contradictory_bars() -> None:
    assert [config.method for config in (CASPO, STEP_DPO, OUTCOME)] == ["caspo", "step_dpo", "outcome_dpo"]
    assert [config.judged for config in (CASPO, STEP_DPO, OUTCOME)] == [True, True, False]
    (error,) = PreferenceConfig(right_from=0.25, wrong_to=0.25).check(None)  # type: ignore[arg-type]
    assert error.field == "preference.wrong_to"
    assert list(CASPO.check(None)) == []  # type: ignore[arg-type]
