"""The learner's loss: policy term + beta · regularizer − bonus · entropy + cross-entropy + weight · anchor.

Each component is a *sum* over the tokens at hand, divided by a denominator of its own that was counted over the whole
optimizer minibatch. So losses and gradients add up over micro-batches and ranks, however the minibatch is cut.

Departures from the papers [ours]:
1. The regularizer is averaged over tokens under every algorithm. GRPO's paper has it inside the sequence mean, but a
   weight of 1/|y| depends on the response and biases the sampled estimators.
2. Sampled estimators are weighted by policy / pi_old, detached, if ``old_logprobs`` say that an older policy drew the
   samples. ``full`` needs no ratio: it sums over the whole vocabulary.
3. Where engine and learner disagree about the sampling weights, the policy term and the sampled regularizer
   are weighted by exp(old − rollout), detached and bounded, see :mod:`carerl.loss.mismatch`.
4. The entropy bonus is the exact entropy at every prefix visited and takes no ratio. It is averaged over the tokens of
   the policy term.
5. A decision without a policy term (:mod:`carerl.decisions`) has an advantage of 0 and is not in a sequence's ratio.
   Both means stay over all |y| tokens. So under a sequence's ratio, where the mean of the tokens' advantages counts,
   the other tokens have (|y| - 1)/|y| of their gradient.
6. An anchor's token has a divergence from the reference and no other component (:mod:`carerl.anchors`). Metrics of the
   others leave it out.
7. A trace's token has a cross-entropy and no other component, and a response's policy term may be weighed
   (:mod:`carerl.loss.distilled`). Metrics of the other components leave traces out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from carerl.algorithms.base import Algorithm
from carerl.algorithms.surrogate import LOG_RATIO_LIMIT
from carerl.loss.strata import COEFFICIENT_BINS, STRATA, in_bins
from carerl.loss.streams import FlatStreams
from carerl.loss.tally import ObjectiveOutput, Tally, takes_part
from carerl.regularizers import ESTIMATORS, PLACES, REGULARIZERS, Regularizer, refusal, reward_shaping, token_loss

from .batching import Normalisers
from .head import Exact, TokenStatistics
from .mismatch import mismatch_weight

REVERSE_KL = REGULARIZERS["rkl"].build(REGULARIZERS["rkl"].config())  # what every run reports


def needs_hidden(regularizer_config: Any, anchor_exact: bool = False) -> bool:
    """Returns True if the reference must send hidden states; False if its log-probs of the sampled tokens are enough.
    ``anchor_exact``: whether anchors have an exact divergence.

    Hidden states are asked for without a penalty as well, as the reverse KL is reported exactly. An estimate from the
    tokens drawn is too small where the policy's entropy is low: half of the true value for a policy that has almost
    collapsed, just where the report matters.
    """
    return bool(anchor_exact or regularizer_config.estimator == "full" or regularizer_config.beta == 0)


@dataclass(frozen=True)
class Strengths:
    """Holds what multiplies the components in one update. A run may adapt both from step to step."""

    beta: float = 0.0
    """Multiplies the regularizer; at least 0."""

    entropy_bonus: float = 0.0
    """Multiplies the mean token entropy, which is subtracted from the loss."""


@dataclass(frozen=True)
class AnchorTerm:
    """Holds the policy to the reference on anchors. ``weight`` multiplies the mean over their tokens. ``exact``: the
    divergence; None for the cross-entropy of their responses."""

    weight: float
    exact: Exact | None = None


class Objective:
    """Computes the loss of a micro-batch. A component is on if the batch has its stream: advantages, or the weights of
    regularizer, entropy, cross-entropy or anchors.

    ``beta`` >= 0 multiplies the regularizer, unless an update brings strengths of its own. A ``beta`` of 0 switches the
    regularizer off, whatever these say. ``place`` is ``loss``, or ``reward``: then the regularizer is added to the
    advantages, see :func:`carerl.regularizers.reward_shaping`. ``anchor``: what is done on anchors. Raises ValueError
    for an estimator, a place or a strength that is refused.
    """

    def __init__(
        self,
        algorithm: Algorithm | None,
        regularizer: Regularizer,
        beta: float,
        estimator: str,
        place: str = "loss",
        anchor: AnchorTerm | None = None,
    ):
        if estimator not in ESTIMATORS:
            raise ValueError(refusal(estimator))
        if place not in PLACES or (place == "reward" and estimator != "score"):
            raise ValueError(f"place = {place} with estimator = {estimator}: a place in the reward is for score")
        if not beta >= 0:
            raise ValueError(f"beta = {beta}: a negative strength would drive the policy off the reference")
        self._algorithm = algorithm
        self._regularizer = regularizer
        self._strengths = Strengths(beta, 0.0 if algorithm is None else algorithm.entropy_bonus)
        self._regularized = beta > 0
        self._estimator = estimator
        self._in_reward = place == "reward" and beta > 0
        self._anchor = anchor

    @classmethod
    def supervised(cls) -> Objective:
        """Returns an objective with cross-entropy only."""
        none = REGULARIZERS["none"]
        return cls(None, none.build(none.config()), 0.0, "score")

    @property
    def exact(self) -> Exact | None:
        """The exact divergence if the loss uses it, else None."""
        return self._regularizer.exact if self._estimator == "full" and self._regularized else None

    @property
    def anchor_exact(self) -> Exact | None:
        """The exact divergence of anchors if the loss uses it, else None."""
        return None if self._anchor is None else self._anchor.exact

    def __call__(
        self, stats: TokenStatistics, streams: FlatStreams, normalisers: Normalisers, strengths: Strengths | None = None
    ) -> ObjectiveOutput:
        """Computes the loss of N tokens; N may be 0. ``strengths`` None takes those of the settings.

        Raises ValueError for a stream or statistic of another shape or dtype than its name says, and for one that a
        component needs and that is missing.
        """
        _check_shapes(stats, streams)
        strengths = strengths or self._strengths
        tally = Tally(takes_part(streams, stats.logprobs_N), streams.strata_NM)
        tally.mean_and_split("train/entropy", stats.entropy_N)
        if stats.certainty_N is not None:
            tally.mean("train/certainty", stats.certainty_N)
        parts: dict[str, Tensor] = {}
        weight_N = self._mismatch_weight(stats, streams, tally)
        if streams.advantages_N is not None:
            parts["policy"] = self._policy(stats, streams, weight_N, strengths.beta, tally) / normalisers.policy
        if streams.regularizer_weight_N is not None:
            term_N = self._penalty(stats, streams, weight_N, tally)
            if term_N is not None:
                penalty = strengths.beta * (streams.regularizer_weight_N * term_N).sum()
                parts["regularizer"] = penalty / normalisers.regularizer
        if streams.entropy_weight_N is not None:
            if self._algorithm is None:
                raise ValueError("a batch with entropy weights needs an algorithm")
            bonus = (streams.entropy_weight_N * stats.entropy_N).sum() / normalisers.entropy
            parts["entropy"] = -strengths.entropy_bonus * bonus
        if streams.ce_weight_N is not None:
            parts["ce"] = self._cross_entropy(stats, streams, tally) / normalisers.ce
        if streams.anchor_weight_N is not None:
            parts["anchor"] = self._anchored(stats, streams.anchor_weight_N, tally) / normalisers.anchor
        # Every parameter takes part in every backward pass, also when no component has a token.
        loss = sum(parts.values(), start=0.0 * stats.logprobs_N.sum())
        return tally.output(loss, parts)

    def _mismatch_weight(self, stats: TokenStatistics, streams: FlatStreams, tally: Tally) -> Tensor | None:
        """Returns the correction (N,), detached; None if there is nothing to correct.

        Without ``old_logprobs`` the current policy is the one that the engine meant to sample from.
        """
        algorithm, rollout_N = self._algorithm, streams.rollout_logprobs_N
        if algorithm is None or algorithm.mismatch_cap == 0.0 or rollout_N is None:
            return None
        old_N = stats.logprobs_N if streams.old_logprobs_N is None else streams.old_logprobs_N
        cap, correction = algorithm.mismatch_cap, algorithm.mismatch_correction
        weight_N = mismatch_weight(old_N, rollout_N, streams.lengths_B, cap, correction)
        if correction != "truncate":
            tally.mean("train/mismatch_masked", weight_N == 0)
        return weight_N

    def _policy(
        self, stats: TokenStatistics, streams: FlatStreams, weight_N: Tensor | None, beta: float, tally: Tally
    ) -> Tensor:
        """Sums the weighted policy terms, before the division by the normaliser."""
        if self._algorithm is None or streams.advantages_N is None or streams.policy_weight_N is None:
            raise ValueError("a batch with advantages needs an algorithm and a policy_weight stream")
        lp_N = stats.logprobs_N
        old_N = lp_N.detach() if streams.old_logprobs_N is None else streams.old_logprobs_N
        advantages_N = streams.advantages_N
        if self._in_reward and (lr_N := self._reference(stats, streams)) is not None:
            shaping_N = reward_shaping(self._regularizer, beta, old_N, lr_N)
            if streams.regularizer_weight_N is not None:
                shaping_N = shaping_N * (streams.regularizer_weight_N != 0)
            advantages_N = advantages_N + shaping_N
        elif streams.decision_bound_N is not None:
            # Without an advantage of its own a decision must not move the ratio of its sequence either.
            lp_N = torch.where(streams.decided_N & (advantages_N == 0), old_N, lp_N)
        term_N, clipped_N = self._algorithm.surrogate(lp_N, old_N, advantages_N, streams.lengths_B)
        counted_N = streams.policy_weight_N != 0
        tally.mean("train/clip_fraction", clipped_N, counted_N)
        tally.mean("train/ratio", _ratio(lp_N, old_N), counted_N)
        if weight_N is not None:
            term_N = weight_N * term_N
        return (streams.policy_weight_N * term_N).sum()

    def _cross_entropy(self, stats: TokenStatistics, streams: FlatStreams, tally: Tally) -> Tensor:
        """Sums the weighted cross-entropy, before the division by the normaliser: toward the response's own token, and
        at a decision toward a distribution over its options."""
        assert streams.ce_weight_N is not None
        ce_N, weight_N, bound_N = -stats.logprobs_N, streams.ce_weight_N, streams.decision_bound_N
        if bound_N is None:
            if streams.advantages_N is not None:  # then it is that of traces
                tally.mean("distillation/cross_entropy", ce_N, weight_N != 0)
            return (weight_N * ce_N).sum()
        if stats.cross_entropy_N is None:
            raise ValueError("a batch with decisions needs the tokens and targets of their options")
        decided_N = streams.decided_N
        ce_N = torch.where(decided_N, stats.cross_entropy_N, ce_N)
        # The bound is by the current policy: an old probability would hold the term on or off for a whole step.
        probability_N = stats.logprobs_N.detach().exp()
        off_N = probability_N <= bound_N  # False where the bound is NaN
        tally.mean("decision/cross_entropy", ce_N, decided_N)
        tally.mean("decision/probability", probability_N, decided_N)
        tally.mean("decision/bounded", off_N, decided_N)
        return (weight_N.masked_fill(off_N, 0.0) * ce_N).sum()

    def _anchored(self, stats: TokenStatistics, weight_N: Tensor, tally: Tally) -> Tensor:
        """Sums the weighted divergence of anchors, before the division by the normaliser."""
        if self._anchor is None:
            raise ValueError("a batch with anchors needs an anchor term")
        there_N = weight_N != 0
        if self._anchor.exact is None:
            term_N = -stats.logprobs_N
        elif stats.divergence_N is not None:
            term_N = stats.divergence_N
        elif there_N.any():
            raise ValueError("anchors need their exact divergence: pass Objective.anchor_exact to token_statistics")
        else:  # a micro-batch without anchors, for which nobody asked the reference
            term_N = 0.0 * stats.logprobs_N
        tally.mean("anchor/divergence", term_N, there_N)
        return self._anchor.weight * (weight_N * term_N).sum()

    def _penalty(
        self, stats: TokenStatistics, streams: FlatStreams, weight_N: Tensor | None, tally: Tally
    ) -> Tensor | None:
        """Returns the regularizer's loss of each token; None if beta is 0 or the regularizer is in the reward. Reports
        the divergence in any case."""
        lp_N, lr_N = stats.logprobs_N, self._reference(stats, streams)
        if lr_N is None:
            return None
        reverse_kl_N = REVERSE_KL.value(lp_N, lr_N) if stats.rkl_N is None else stats.rkl_N
        tally.mean_and_split("regularizer/reverse_kl", reverse_kl_N)
        tally.mean("regularizer/log_ratio", lp_N - lr_N)  # noisy, but unlike the estimate above right when lp is near 0
        if not self._regularized:
            return None
        if self._estimator == "full":
            if stats.divergence_N is None:
                raise ValueError("estimator full needs the exact divergence: pass Objective.exact to token_statistics")
            tally.mean_and_split("regularizer/value", stats.divergence_N)
            self._report_coefficient(lp_N, lr_N, tally)
            return stats.divergence_N
        importance_N = None if streams.old_logprobs_N is None else _ratio(lp_N, streams.old_logprobs_N)
        if weight_N is not None:
            importance_N = weight_N if importance_N is None else weight_N * importance_N
        tally.mean_and_split("regularizer/value", self._regularizer.value(lp_N, lr_N))
        self._report_coefficient(lp_N, lr_N, tally)
        if self._in_reward:
            return None
        return token_loss(self._regularizer, self._estimator, lp_N, lr_N, importance_N)

    def _report_coefficient(self, lp_N: Tensor, lr_N: Tensor, tally: Tally) -> None:
        """Reports how hard a sampled token is pushed, and as a histogram in which direction."""
        coefficient_N = self._regularizer.coefficient(lp_N, lr_N)
        tally.mean_and_split("regularizer/coefficient", coefficient_N.abs())
        for name, there_N in zip(COEFFICIENT_BINS, in_bins(coefficient_N), strict=True):
            tally.mean(f"regularizer/coefficient_bin_{name}", there_N)

    def _reference(self, stats: TokenStatistics, streams: FlatStreams) -> Tensor | None:
        """Returns the reference's log-probs of the sampled tokens; None if they are missing and not needed."""
        lr_N = stats.ref_logprobs_N if stats.ref_logprobs_N is not None else streams.ref_logprobs_N
        if lr_N is None and self._regularized:
            raise ValueError("a regularizer with beta > 0 needs the reference's log-probs or hidden states")
        return lr_N


def _check_shapes(stats: TokenStatistics, streams: FlatStreams) -> None:
    """Refuses a stream or statistic whose shape or dtype is not what its name ends in: ``_N``, ``_B`` or ``_NM``.

    It looks at shapes and dtypes and reads no value, so it never waits for a GPU. Raises ValueError with the name, what
    it has and what was expected.
    """
    tokens = stats.logprobs_N.numel()
    for name, found in (*vars(stats).items(), *vars(streams).items()):
        if found is None:
            continue
        suffix = name.rpartition("_")[2]
        if suffix == "N":
            right, expected = found.shape == (tokens,) and found.dtype.is_floating_point, f"floating point ({tokens},)"
        elif suffix == "B":
            right, expected = found.dim() == 1 and found.dtype == torch.int64, "torch.int64 (rows,)"
        else:
            shape = (tokens, len(STRATA))
            right, expected = found.shape == shape and found.dtype == torch.bool, f"torch.bool {shape}"
        if not right:
            raise ValueError(f"{name} is {found.dtype} {tuple(found.shape)}, but must be {expected}")


def _ratio(lp_N: Tensor, old_N: Tensor) -> Tensor:
    return (lp_N - old_N).detach().clamp(max=LOG_RATIO_LIMIT).exp()
