"""Internal rewards: values by hand, degenerate groups, ties, and that no gold answer reaches one."""

from __future__ import annotations

import math
import random
from collections import Counter
from itertools import permutations

import pytest

from carerl.config.load import load
from carerl.errors import ConfigError
from carerl.rewards import REWARDS, internal_rewards
from carerl.types import Example, Group, Outcome, Sample

INTERNAL = ("certainty", "entropy", "majority", "semantic")


def group(*answers: str | None, outcome: Outcome | None = None, example_id: str = "q") -> Group:
    samples = [Sample(example_id, (5, 6), (-1.0, -1.0), False, (0, 0), outcome=outcome, answer=a) for a in answers]
    for k, sample in enumerate(samples):
        sample.certainty, sample.entropy = 0.5 + k, 2.0 - k / 4
    return Group(Example(example_id, (1,), "gold"), samples)


def rewards(name: str, found: Group, seed: int = 0) -> list[float]:
    internal_rewards([found], REWARDS[name].config(), seed)
    return [sample.reward for sample in found.samples]  # type: ignore[misc]


def test_the_table_and_the_settings_agree_on_what_is_internal() -> None:
    for name, entry in REWARDS.items():
        config = entry.config()
        assert config.internal == (name in INTERNAL) == (entry.build is None) == (entry.of_group is not None)
        assert config.scored == (name in ("certainty", "entropy"))


@pytest.mark.parametrize(
    ("answers", "majority", "semantic"),
    [
        (("7", "3", "7", None), [1, 0, 1, 0], [0.5, 0.25, 0.5, 0]),
        (("7", "7", "7"), [1, 1, 1], [1, 1, 1]),
        (("?", "?", "4"), [1, 1, 0], [2 / 3, 2 / 3, 1 / 3]),  # not knowing is an answer
        ((None, None, "4", "4"), [0, 0, 1, 1], [0, 0, 0.5, 0.5]),
        ((None, None, None), [0, 0, 0], [0, 0, 0]),
    ],
)
def test_votes_by_hand(answers: tuple[str | None, ...], majority: list[float], semantic: list[float]) -> None:
    assert rewards("majority", group(*answers)) == majority
    assert rewards("semantic", group(*answers)) == pytest.approx(semantic)


def test_agreement_is_worth_nothing_where_nobody_agrees() -> None:
    assert rewards("semantic", group("1", "2", "3", None)) == [0, 0, 0, 0]
    assert rewards("semantic", group("1", None, None)) == [0, 0, 0], "one answer agrees with nobody"


def test_a_tie_is_broken_by_the_seed_whatever_the_order() -> None:
    answers = ("1", "1", "2", "2", None)
    for seed in range(8):
        won = set()
        for order in set(permutations(answers)):
            earned = rewards("majority", group(*order), seed)
            won |= {answer for answer, reward in zip(order, earned, strict=True) if reward}
        assert len(won) == 1 and None not in won
    wins = Counter(rewards("majority", group("1", "2", "3"), seed).index(1.0) for seed in range(3000))
    assert all(abs(n - 1000) < 5 * math.sqrt(1000 * 2 / 3) for n in (wins[0], wins[1], wins[2]))
    of_questions = {rewards("majority", group("1", "2", example_id=f"q{k}"))[0] for k in range(20)}
    assert of_questions == {0.0, 1.0}, "a seed does not prefer the same answer to every question"


def test_certainty_and_entropy_are_the_learners_own_numbers() -> None:
    assert rewards("certainty", group("1", "2", None)) == [0.5, 1.5, 2.5]
    assert rewards("entropy", group("1", "2", None)) == [-2.0, -1.75, -1.5]


@pytest.mark.parametrize("name", ["certainty", "entropy"])
def test_an_empty_response_earns_least_and_an_unscored_one_is_refused(name: str) -> None:
    found = group("1", "2", "3")
    empty = found.samples[1]
    empty.response_ids, empty.certainty, empty.entropy = (), None, None
    assert rewards(name, found) == {"certainty": [0.5, 0.0, 2.5], "entropy": [-2.0, -2.0, -1.5]}[name]
    alone = group("1")
    alone.samples[0].response_ids = ()
    assert rewards(name, alone) == [0.0]
    empty.response_ids = (5,)
    with pytest.raises(ValueError, match=rf"a sample of q has no {name}"):
        rewards(name, found)
    empty.certainty = empty.entropy = math.nan
    with pytest.raises(ValueError, match="nan"):
        rewards(name, found)


def test_graders_compute_every_other_reward() -> None:
    with pytest.raises(ValueError, match="not internal"):
        internal_rewards([group("1", "1")], REWARDS["correct"].config(), 0)


@pytest.mark.parametrize("name", INTERNAL)
def test_what_grading_found_changes_no_reward(name: str) -> None:
    """Golds and outcomes replaced by garbage: the same numbers."""
    rng = random.Random(3)
    for _ in range(20):
        answers = [rng.choice(("1", "2", "?", None)) for _ in range(6)]
        plain, garbage = group(*answers), group(*answers)
        garbage.example = Example("q", (1,), rng.choice(answers) or "")
        for sample in garbage.samples:
            sample.outcome, sample.answerable = rng.choice(list(Outcome)), rng.random() < 0.5
            sample.reward, sample.confidence, sample.stated_confidence = 9.0, rng.random(), rng.random()
        assert rewards(name, plain, 5) == rewards(name, garbage, 5)


@pytest.mark.parametrize("name", INTERNAL)
def test_what_would_let_a_gold_answer_in_is_refused(name: str) -> None:
    word = f"reward.name={name}"
    load(["recipe=none_grpo_tiny", word])
    load(["recipe=none_dapo_tiny", word, "algorithm.drop_uniform_groups=false", "algorithm.max_draws=1"])
    for words, field in (
        (["recipe=none_dapo_tiny"], "algorithm.drop_uniform_groups"),
        (["recipe=none_grpo_tiny", "checkpoint.best=accuracy", "task.validation_questions=50"], "checkpoint.best"),
        (["recipe=calibration_aware_tiny", "decision.reward=sampled"], "decision.name"),
        (["recipe=calibration_aware_tiny", "decision.name=none", "decision.reward=argmax"], "decision.reward"),
    ):
        with pytest.raises(ConfigError, match="reads no gold answer") as caught:
            load([*words, word])
        assert caught.value.field == field
