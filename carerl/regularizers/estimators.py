"""Makes a per-token loss from a divergence: which estimators exist, and which gradient each one expects.

Tokens are sampled from the policy, or from an older one (then with ``importance``). The target is the gradient of the
divergence at the prefixes visited, with the distribution of prefixes held fixed. The cosines were measured in float64
on the tests' enumerated vocabularies, 10-way near the reference and 48-way far from it, for skew reverse KL at alpha =
.8:

=========  =========================================  ===============================  =================
name       per-token loss, L = log_ratio              expected gradient                cosine to target
=========  =========================================  ===============================  =================
``score``  stop_gradient(coefficient) · lp            the divergence's, unbiased       1 / 1
``full``   the divergence over the vocabulary         the divergence's, no variance    1 / 1
``k2``     L²/2, through the mixture                  biased; unbiased at alpha = 0    –
``k3``     exp(−L) + L − 1, through the mixture       biased; at alpha = 0 that of     .996 / .974
                                                      *forward* KL
``k1``     L, through the mixture                     0 at alpha = 0, above it         −.997 / −.943
                                                      opposed to the target: refused
=========  =========================================  ===============================  =================

A loss of stop_gradient(log rho) · lp (the divergence in the reward, without its −alpha·rho) keeps the direction, but
its scale is 3.7 to 5.2 times too large.
"""

from __future__ import annotations

from torch import Tensor

from carerl.regularizers.base import Regularizer, excess

ESTIMATORS = ("score", "full", "k2", "k3")

K1_REASON = (
    "k1 as a loss does not regularise: autograd through the sampled log-ratio has an expected gradient of 0 "
    "for reverse KL, and for the skew divergence one that points away from the reference"
)


def refusal(estimator: str, no_log_ratio: str = "") -> str | None:
    """Returns why a regularizer does not take ``estimator``; None if it does. ``no_log_ratio``: see
    :class:`carerl.regularizers.config.RegularizerConfig`."""
    if estimator == "k1":
        return K1_REASON
    if estimator not in ESTIMATORS:
        return f"there is no estimator of this name; there are {', '.join(ESTIMATORS)}"
    if estimator in ("k2", "k3") and no_log_ratio:
        return f"{estimator} is made from a log-ratio whose mean under the policy is the divergence; {no_log_ratio}"
    return None


def reward_shaping(regularizer: Regularizer, beta: float, old_lp: Tensor, lr: Tensor) -> Tensor:
    """Returns −beta · coefficient, detached: what a divergence in the reward adds to each sampled token's advantage,
    after the rewards were normalised. ``old_lp``: log-probs under the policy that sampled.

    On the first pass the policy term then has the gradient of ``score``, but with the policy term's weights and
    denominator instead of the regularizer's. The two gradients are the same where all tokens weigh alike; where tokens
    weigh 1/|y| this one is biased.
    """
    return -beta * regularizer.coefficient(old_lp, lr)


def token_loss(
    regularizer: Regularizer, estimator: str, lp: Tensor, lr: Tensor, importance: Tensor | None = None
) -> Tensor:
    """Returns the per-token loss whose gradient through ``lp`` is the estimator's; see the module's table.

    ``lp`` (with gradient) and ``lr`` are log-probs of the sampled tokens, of any one shape. ``importance`` is policy /
    sampler of those tokens, of the same shape; it is detached here. None means that the policy itself sampled them. The
    result is float32, or float64 if an input is. With ``score`` only the gradient has a meaning, not the value.

    Raises ValueError for ``k1``, for ``full`` (which needs the vocabulary: use ``regularizer.exact``) and for unknown
    names.
    """
    if estimator == "score":
        loss = regularizer.coefficient(lp, lr) * lp
    elif estimator == "k2":
        loss = regularizer.log_ratio(lp, lr).square() / 2
    elif estimator == "k3":
        loss = excess(regularizer.log_ratio(lp, lr))
    elif estimator == "full":
        raise ValueError("estimator full is no function of the sampled token: use regularizer.exact")
    else:
        raise ValueError(refusal(estimator))
    return loss if importance is None else importance.detach() * loss
