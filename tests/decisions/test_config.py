"""What a run says of its decisions, and where there are none to set anything for."""

from __future__ import annotations

import pytest

from carerl.config.load import load
from carerl.errors import ConfigError


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["recipe=care_grpo_tiny"], []),
        (
            ["recipe=grpo_decision_tiny"],
            ["decisions: not trained (decision.name=none), reward argmax"],
        ),
        (
            ["recipe=grpo_decision_tiny", "decision.reward=sampled", "decision.weight=0.01"],
            ["decisions: not trained (decision.name=none), reward sampled"],
        ),
        (
            ["recipe=calibration_aware_tiny"],
            ["decisions: cross-entropy toward paper, weight 0.03, clamp uniform, reward argmax"],
        ),
        (
            ["recipe=calibration_aware_tiny", "decision.target=gold", "decision.mask=false",
             "decision.regularize=false", "decision.reward=sampled"],
            ["decisions: cross-entropy toward gold, weight 0.03, no penalty, policy term kept, reward sampled"],
        ),
        (["recipe=sft_decision_tiny"], []),
    ],
)  # fmt: skip
def test_a_run_says_what_it_does_at_decisions(words: list[str], lines: list[str]) -> None:
    config = load(words)
    assert config.decision.lines(config) == lines


@pytest.mark.parametrize("recipe", ["sft_decision_tiny", "base_tiny"])
@pytest.mark.parametrize(
    "word", ["name=ce", "weight=0.5", "target=gold", "clamp=off", "reward=argmax", "regularize=false", "mask=false"]
)
def test_what_does_not_train_on_its_own_responses_has_no_settings_of_decisions(recipe: str, word: str) -> None:
    load([f"recipe={recipe}", "decision.weight=0.001"])
    with pytest.raises(ConfigError) as caught:
        load([f"recipe={recipe}", f"decision.{word}"])
    assert caught.value.field == f"decision.{word.partition('=')[0]}"
