"""Holds a policy to the reference on prompts that no reward sees: the settings of anchors.

A penalty acts where the reward acts. What is lost lies elsewhere: the calibration of facts, and saying "I don't know".
An anchor is a prompt of that elsewhere with a response; the loss holds the policy to the reference at each of the
response's tokens, exactly over the vocabulary: weight · (1/N) Σ_rows Σ_t D_t, N the response tokens of an optimizer
minibatch's anchors over all ranks (:mod:`carerl.loss.anchored`). [ours]

With responses of the reference and D = KL(reference ‖ policy) the sum over a response is an unbiased estimate of the
divergence of whole responses, KL(reference(·|x) ‖ policy(·|x)). It is never stale and needs no importance weights: the
prefixes are drawn from the reference, which does not change. Where responses are drawn from the policy, the prefixes'
distribution is held fixed.

1. Both distributions are those at ``rollout.temperature``, and responses are drawn at it: the policy of this package is
   always the one that samples.
2. The reference's responses are drawn before the first update, by the engines, which hold its weights then.
"""

from .config import NAMES, RANDOM, SAMPLERS, AnchorConfig

__all__ = ["NAMES", "RANDOM", "SAMPLERS", "AnchorConfig"]
