r"""Rewards correctness, and what else a response is asked for: a calibrated statement, a form, brevity.

.. math:: R = c - w_b (q - c)^2 + w_f f - w_l \min(1, \max(0, \frac{n - n_0}{n_1 - n_0}))

c: 1 for a correct response, else 0. q: the confidence that the response states (``verbalized``, see
:mod:`carerl.calibration.confidence`). f: 1 if the response has the form ``form``, else 0. n: its tokens; up to
``free_tokens`` they cost nothing, from ``long_tokens`` on they cost the whole penalty.

``rlcr`` is :math:`w_b = 1`: reinforcement learning with calibration rewards (Damani et al., arXiv 2507.16806, eq. 1).
It adds a Brier score to correctness, so that the expected reward is largest at the true probability of being right. No
answer is worth giving up for a better statement: :math:`1 - (1-q)^2 \ge -q^2` for every q.

[ours] 1. A response without a readable confidence is scored as the worst one, (q - c)² = 1, so that leaving it out
never pays; settings whose prompt does not ask for one are refused (``task.ask_confidence``). 2. An abstention (except
where nobody can answer the question), and a response that could not be read or graded, is not correct: c = 0, and its
statement is still scored. 3. The form earns its bonus whether the answer is right or wrong.

The reward never changes the outcome: groups are compared, dropped and counted by ``correct``.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated

from carerl.errors import ConfigError
from carerl.settings import Errors, Run, at_least, one_of
from carerl.types import Sample

from .base import RewardConfig
from .correct import correct

_THINK = re.compile(r"\s*<think>(?:(?!</?think>).)*</think>(?:(?!</?think>).)*\S\s*", re.DOTALL)
FORMS: dict[str, Callable[[str, float | None], bool]] = {
    "boxed": lambda text, stated: "\\boxed{" in text,
    "think": lambda text, stated: _THINK.fullmatch(text) is not None,
    "confidence": lambda text, stated: stated is not None,
}


@dataclass
class ShapedConfig(RewardConfig):
    name: str = "shaped"
    brier: Annotated[float, at_least(0)] = 0.0  # weight of the Brier score of the stated confidence
    form_bonus: Annotated[float, at_least(0)] = 0.0
    form: Annotated[str, one_of(FORMS)] = "boxed"  # boxed | think | confidence: what earns the bonus
    length_penalty: Annotated[float, at_least(0)] = 0.0  # at most, for a response of long_tokens or more
    free_tokens: Annotated[int, at_least(0)] = 0  # up to here length costs nothing
    long_tokens: Annotated[int, at_least(0)] = 0

    @property
    def text_setting(self) -> str:
        return "brier" if self.brier > 0 else "form_bonus" if self.form_bonus > 0 else ""

    @property
    def reads_confidence(self) -> bool:
        return self.brier > 0 or (self.form_bonus > 0 and self.form == "confidence")

    def shorten(self, share: float) -> None:
        if self.free_tokens:
            self.free_tokens = max(1, round(self.free_tokens * share))
        if self.long_tokens:
            self.long_tokens = max(1, round(self.long_tokens * share), self.free_tokens + 1)

    def check(self, run: Run) -> Errors:
        yield from super().check(run)
        free, long = self.free_tokens, self.long_tokens
        if self.length_penalty > 0 and long <= free:
            yield ConfigError(
                "reward.long_tokens",
                long,
                f"the length penalty grows from reward.free_tokens={free} to it, and it is not above",
                f"write reward.long_tokens={max(free + 1, run.rollout.max_new_tokens)}",
            )
        if self.form_bonus == 0:
            yield from self._idle("form", self.form, ShapedConfig.form, "form_bonus=0.1")
        if self.length_penalty == 0:
            yield from self._idle("free_tokens", free, ShapedConfig.free_tokens, "length_penalty=0.5")
            yield from self._idle("long_tokens", long, ShapedConfig.long_tokens, "length_penalty=0.5")

    def _idle(self, name: str, value: str | int, default: str | int, example: str) -> Errors:
        """Yields an error for a setting that was given although the part that reads it has no weight."""
        if value != default:
            yield ConfigError(
                f"reward.{name}",
                value,
                f"reward.{example.partition('=')[0]}=0 turns it off",
                f"write reward.{example} too, or leave reward.{name} out",
            )


@dataclass
class RLCRConfig(ShapedConfig):
    name: str = "rlcr"
    brier: float = 1.0


def reads_text(config: ShapedConfig) -> bool:
    """Returns True if any part of the reward reads the response's text."""
    return config.text_setting != ""


def shaped(config: ShapedConfig) -> Callable[[Sample, str], float]:
    """Builds ``reward(sample, text)``, which raises ValueError for a sample that was not graded."""

    def reward(sample: Sample, text: str) -> float:
        right = correct(sample)
        value = right
        if config.brier > 0:
            stated = sample.stated_confidence
            value -= config.brier * (1.0 if stated is None else (stated - right) ** 2)
        if config.form_bonus > 0:
            value += config.form_bonus * FORMS[config.form](text, sample.stated_confidence)
        if config.length_penalty > 0:
            excess = (len(sample.response_ids) - config.free_tokens) / (config.long_tokens - config.free_tokens)
            value -= config.length_penalty * min(1.0, max(0.0, excess))
        return value

    return reward
