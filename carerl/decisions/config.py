"""The settings of the loss at the decision token."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from carerl.errors import ConfigError
from carerl.settings import Errors, Run, Settings, at_least, changed, one_of

from .targets import CLAMPS, TARGETS

NAMES = ("none", "ce")
REWARDS = ("sampled", "argmax")


@dataclass
class DecisionConfig(Settings):
    """Settings of what is done at the decision token, see :mod:`carerl.decisions`.

    ``weight`` is the paper's lambda, which multiplies the mean over the decisions of an optimizer minibatch [ours: the
    paper does not say over what]. ``reward`` is not part of the loss: it holds whatever ``name`` is.

    The cross-entropy is of the policy that samples, at ``rollout.temperature``. Evaluations take the probabilities at
    temperature 1, so another one is refused where the loss trains decisions (:mod:`carerl.config.check.loss`).
    """

    name: Annotated[str, one_of(NAMES)] = "none"  # none | ce: cross-entropy at the decision token
    weight: Annotated[float, at_least(0)] = 0.001  # of the cross-entropy; the paper tried .0005 to .005
    # paper | rest | gold: what it is taken toward, see carerl/decisions/targets.py
    target: Annotated[str, one_of(TARGETS)] = "paper"
    # uniform | both | off: terms that are off where the decision has at most the probability 1/K, K options
    clamp: Annotated[str, one_of(CLAMPS)] = "uniform"
    # sampled | argmax: the reward is for the response, or for the same with its likeliest option as the decision
    reward: Annotated[str, one_of(REWARDS)] = "sampled"
    regularize: bool = True  # the penalty acts at the decision token too
    # the decision token has no policy term; false: the cross-entropy comes on top of it
    mask: bool = True

    @property
    def trains(self) -> bool:
        """True if the loss has anything to do at decision tokens."""
        return self.name != "none"

    @property
    def needed(self) -> bool:
        """True if the decisions of training responses are looked for."""
        return self.trains or self.reward == "argmax"

    @property
    def words(self) -> str:
        """What is done at decisions, in words."""
        if not self.trains:
            return f"not trained (decision.name={self.name}), reward {self.reward}"
        parts = (
            (True, f"cross-entropy toward {self.target}, weight {self.weight:g}"),
            (self.target != "gold", f"clamp {self.clamp}"),  # gold has no bound
            (not self.regularize, "no penalty"),
            (not self.mask, "policy term kept"),
            (True, f"reward {self.reward}"),
        )
        return ", ".join(words for on, words in parts if on)

    def lines(self, run: Run) -> list[str]:
        """Returns the line that says before a run begins what it does at decisions; none where every setting is its
        default, or where the run does not train on its own responses."""
        return [f"decisions: {self.words}"] if self != DecisionConfig() and _samples(run) else []

    def check(self, run: Run) -> Errors:
        reason = "only a run that trains on its own responses has decisions to train"
        for name, value in () if _samples(run) else changed(self):
            yield ConfigError(f"decision.{name}", value, reason, f"leave decision.{name} out")


def _samples(run: Run) -> bool:
    """Returns True for a run that trains on its own responses, one by one."""
    return run.trains_on_questions and not (run.taught or run.prefers)
