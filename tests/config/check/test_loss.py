"""Settings of decisions that are legal by themselves and mean nothing, or harm, together with others."""

from __future__ import annotations

import pytest

from carerl.config.load import load
from carerl.errors import ConfigError

CE, ARGMAX = "recipe=calibration_aware_tiny", "recipe=grpo_decision_tiny"


@pytest.mark.parametrize(
    ("words", "field", "reason", "remedy"),
    [
        (
            [CE, "rollout.temperature=0.8"],
            "rollout.temperature",
            "decision.name=ce would train the probabilities at this temperature",
            "rollout.temperature=1",
        ),
        ([CE, "algorithm.name=dapo"], "algorithm.max_draws", "chosen by whether they were right", "max_draws=1"),
        ([ARGMAX, "algorithm.name=dapo"], "algorithm.max_draws", "once all responses have ended", "max_draws=1"),
    ],
)
def test_decisions_do_not_go_with(words: list[str], field: str, reason: str, remedy: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load(words)
    assert caught.value.field == field and reason in caught.value.reason and remedy in caught.value.remedy
    load([*words, f"{field}=1"])


def test_the_likeliest_option_is_rewarded_at_any_temperature() -> None:
    load([ARGMAX, "rollout.temperature=0.8"])
