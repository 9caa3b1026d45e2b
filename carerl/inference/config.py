"""The settings of inference that draws several responses to a question and elects an answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from carerl.errors import ConfigError
from carerl.settings import Errors, Run, Settings, at_least, one_of, share

from .confidence import RULES

LEARNED = -1.0  # in place of a threshold
MEASURES = ("lowest", "tail", "mean")
VOTES = ("best", "borda")


@dataclass
class CatConfig(Settings):
    """Settings of :mod:`carerl.inference.methods.cat`."""

    # branches whose cumulative confidence falls below it after a step are pruned. A response's last step is not judged,
    # so above 1 those are left that ended within their first step, or one where there are none; -1: learned on
    # validation
    threshold: Annotated[float, at_least(LEARNED)] = LEARNED
    # where it is learned: the share of validation traces that it would prune
    quantile: Annotated[float, share(0.2)] = 0.2
    # mean: token-weighted; product | minimum: of the steps' confidences
    cumulative: Annotated[str, one_of(RULES)] = "mean"
    reallocate: bool = True  # each pruned branch pays for a fork of a confident one


@dataclass
class DeepConfConfig(Settings):
    """Settings of :mod:`carerl.inference.methods.deepconf` and of :mod:`carerl.inference.methods.deepconf_offline`."""

    # traces of the question that its bar is taken from, part of the budget; the paper takes 16 of 512.
    # 0: the bar is learned on validation
    warmup: Annotated[int, at_least(0)] = 4
    quantile: Annotated[float, share(0.1)] = 0.1  # of the warm-up traces' lowest group confidences: the bar
    # tokens of a group; a quarter of the response's length limit where that is shorter, or none would ever be full
    window: Annotated[int, at_least(1)] = 2048
    # lowest group | the last window tokens | all tokens: the confidence that a trace's vote weighs, online and offline,
    # and that decides offline which traces vote. Online the bar is always of lowest groups
    measure: Annotated[str, one_of(MEASURES)] = "lowest"
    keep: Annotated[float, share(0.9)] = 0.9  # offline: the share of traces that vote, the most confident


@dataclass
class SelfCertaintyConfig(Settings):
    """Settings of :mod:`carerl.inference.methods.self_certainty`."""

    vote: Annotated[str, one_of(VOTES)] = "best"  # best: the most certain trace's answer; borda: votes by rank
    power: Annotated[float, at_least(0)] = 1.0  # of borda's ranks; 0: every trace votes equally


@dataclass
class DecodeConfig(Settings):
    """Settings of how an evaluation elects answers, see :mod:`carerl.inference`. Without ``methods`` it does not.

    The length limit of a response is ``rollout.max_new_tokens``, as everywhere.
    """

    # of carerl.inference.methods.METHODS: greedy, self_consistency, self_certainty, deepconf, deepconf_offline, cat
    methods: list[str] = field(default_factory=list)
    # the suites whose questions they answer, of those that are evaluated; empty: all
    suites: list[str] = field(default_factory=list)
    budget: Annotated[int, at_least(1)] = 10  # K: responses to a question; tokens are at most K · length limit
    temperature: Annotated[float, at_least(0)] = 0.0  # 0: evaluation.temperature; greedy's is 0 always
    top: Annotated[int, at_least(1)] = 20  # the likeliest tokens that a token's spread is computed from
    # ends a step of a text; a blank line for large models, "\n" for small ones, which write none
    delimiter: str = "\n\n"
    show: str = ""  # the id of a question whose trees are printed in the end
    # those that thresholds are learned on, one trace each
    validation_questions: Annotated[int, at_least(1)] = 64
    cat: CatConfig = field(default_factory=CatConfig)
    deepconf: DeepConfConfig = field(default_factory=DeepConfConfig)
    self_certainty: SelfCertaintyConfig = field(default_factory=SelfCertaintyConfig)

    def check(self, run: Run) -> Errors:
        threshold = self.cat.threshold
        if LEARNED < threshold < 0:
            yield ConfigError(
                "decode.cat.threshold",
                threshold,
                "a confidence is never negative",
                f"write decode.cat.threshold=0, which prunes nothing, or {LEARNED:g} to have it learned on validation",
            )
        if "deepconf" in self.methods and self.deepconf.warmup >= self.budget:
            yield ConfigError(
                "decode.deepconf.warmup",
                self.deepconf.warmup,
                f"all decode.budget={self.budget} responses would be drawn for the warm-up, and none ended early",
                f"write decode.deepconf.warmup={max(0, min(self.budget - 1, self.budget * 2 // 5))}",
            )
