"""Rewards are numbers made from outcomes; the outcome stays what it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from carerl.config.load import load
from carerl.errors import ConfigError
from carerl.rewards import REWARDS
from carerl.types import Outcome, Sample


def sample(outcome: Outcome | None, stated: float | None = None, tokens: int = 1) -> Sample:
    return Sample("e", (1,) * tokens, (-0.1,) * tokens, False, (0, 0), outcome=outcome, stated_confidence=stated)


def rewarded(name: str, found: Sample, text: str = "", **settings: Any) -> float:
    build = REWARDS[name].build
    assert build is not None, "a reward of one response"
    return build(REWARDS[name].config(**settings))(found, text)


def test_pitfall_15_only_a_correct_outcome_is_rewarded():
    assert {outcome: rewarded("correct", sample(outcome)) for outcome in Outcome} == {
        Outcome.CORRECT: 1.0,
        Outcome.WRONG: 0.0,
        Outcome.ABSTAINED: 0.0,
        Outcome.UNPARSED: 0.0,
        Outcome.TRUNCATED: 0.0,
        Outcome.INVALID: 0.0,
    }


def test_a_sample_without_outcome_is_not_a_wrong_one():
    for name in (name for name, entry in REWARDS.items() if entry.build is not None):
        with pytest.raises(ValueError, match="not been graded"):
            rewarded(name, sample(None))


def test_the_calibration_reward_is_largest_at_the_true_probability():
    """A proper score: stated over a grid, the best expectation is at p, and being right is worth more than any
    statement (arXiv 2507.16806, section 3)."""
    grid = np.linspace(0, 1, 101)
    right = np.array([rewarded("rlcr", sample(Outcome.CORRECT, q)) for q in grid])
    wrong = np.array([rewarded("rlcr", sample(Outcome.WRONG, q)) for q in grid])
    for p in (0.0, 0.13, 0.5, 0.87, 1.0):
        assert grid[(p * right + (1 - p) * wrong).argmax()] == pytest.approx(p)
    assert right.min() == 0.0 and wrong.max() == 0.0 and right.max() == 1.0 and wrong.min() == -1.0
    assert (right >= wrong).all()


@pytest.mark.parametrize("outcome", list(Outcome))
def test_saying_nothing_is_never_better_than_saying_something(outcome):
    silent = rewarded("rlcr", sample(outcome, None))
    assert all(rewarded("rlcr", sample(outcome, q)) >= silent for q in np.linspace(0, 1, 11))


def test_length_costs_nothing_at_first_and_the_whole_penalty_in_the_end():
    settings = {"length_penalty": 0.5, "free_tokens": 10, "long_tokens": 30}
    costs = {n: 1 - rewarded("shaped", sample(Outcome.CORRECT, tokens=n), **settings) for n in (1, 10, 15, 20, 30, 90)}
    assert costs == pytest.approx({1: 0, 10: 0, 15: 0.125, 20: 0.25, 30: 0.5, 90: 0.5})


@pytest.mark.parametrize(
    ("form", "text", "stated", "has_it"),
    [
        ("boxed", r"So \boxed{4}.", None, True),
        ("boxed", "So 4.", None, False),
        ("think", "<think>2 + 2</think> It is 4.", None, True),
        ("think", "<think>2 + 2</think>", None, False),
        ("think", "It is 4. <think>2 + 2</think>", None, False),
        ("think", "<think>a<think>b</think> It is 4.", None, False),
        ("confidence", "It is 4.", 0.0, True),
        ("confidence", "It is 4.", None, False),
    ],
)
def test_a_form_is_worth_its_bonus_whatever_the_answer(form, text, stated, has_it):
    for outcome in (Outcome.CORRECT, Outcome.WRONG):
        found = rewarded("shaped", sample(outcome, stated), text, form=form, form_bonus=0.25)
        assert found - (outcome is Outcome.CORRECT) == pytest.approx(0.25 * has_it)


TEXT = ["recipe=care_grpo_3b", "dry_run=true"]


@pytest.mark.parametrize(
    ("words", "field", "told"),
    [
        (["reward.name=rlcr"], "task.ask_confidence", "write task.ask_confidence=true"),
        (["reward.name=shaped", "reward.brier=.5"], "task.ask_confidence", "reward.brier=0.5"),
        (["reward.name=shaped", "reward.form_bonus=.1", "reward.form=confidence"], "task.ask_confidence", "form_bonus"),
        (["reward.name=shaped", "reward.form=think"], "reward.form", "reward.form_bonus=0 turns it off"),
        (["reward.name=shaped", "reward.long_tokens=100"], "reward.long_tokens", "reward.length_penalty=0"),
        (["reward.name=shaped", "reward.free_tokens=100"], "reward.free_tokens", "reward.length_penalty=0"),
        (["reward.name=rlcr", "task.ask_confidence=true", "reward.form=think"], "reward.form", "form_bonus"),
    ],
)
def test_settings_that_nothing_would_look_at_are_refused(words, field, told):
    with pytest.raises(ConfigError) as caught:
        load([*TEXT, *words])
    assert caught.value.field == field and told in str(caught.value)


@pytest.mark.parametrize(
    "words",
    [
        ["reward.name=rlcr", "task.ask_confidence=true"],
        ["reward.name=shaped"],
        ["reward.name=shaped", "reward.form_bonus=.1", "reward.form=think"],
        ["reward.name=shaped", "reward.length_penalty=.1", "reward.free_tokens=10", "reward.long_tokens=100"],
    ],
)
def test_settings_that_something_looks_at_are_not(words):
    load([*TEXT, *words])


def test_the_fragment_asks_for_the_confidence_that_it_rewards(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recipes").mkdir()
    for order in ("care_grpo_3b, reward/rlcr", "reward/rlcr, care_grpo_3b, reward/rlcr"):
        (tmp_path / "recipes" / "mine.yaml").write_text(f"description: Mine\nextends: [{order}]\n")
        config = load(["recipe=mine", "dry_run=true"])
        assert (config.reward.name, config.reward.brier, config.task.ask_confidence) == ("rlcr", 1.0, True)


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (["reward.name=rlcr"], "reward.brier"),
        (["reward.name=shaped", "reward.form_bonus=.1"], "reward.form_bonus"),
        (["reward.name=shaped", "reward.length_penalty=.1"], "reward.long_tokens"),
        (["reward.name=shaped", "reward.form=box"], "reward.form"),
        (["reward.name=shaped", "reward.brier=-1"], "reward.brier"),
    ],
)
def test_rewards_that_cannot_be_earned_are_refused(words, field):
    with pytest.raises(ConfigError) as caught:
        load(["recipe=care_grpo_tiny", *words])
    assert caught.value.field == field
