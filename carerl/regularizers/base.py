"""What a regularizer is, and the numerical tools that they share."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

EXP_LIMIT = 30.0  # nats, beyond which exp() goes on as its tangent


class Regularizer(Protocol):
    """A divergence of the policy from the reference at one prefix, as pure functions of log-probabilities.

    ``lp`` and ``lr`` are the log-probs (nats) of the sampled tokens under policy and reference, of one
    shape, at one temperature. ``logp_NV`` and ``logr_NV`` are log-probs of the whole vocabulary, finite.
    All functions compute and return float32, or float64 if an input is float64: bfloat16 errs by .004
    where the largest coefficient of the skew divergence at alpha = .8 is .023.
    """

    def coefficient(self, lp: Tensor, lr: Tensor) -> Tensor:
        """Detached c with E_{a~policy}[c · grad log policy(a)] = grad of the divergence; 0 where lp = lr."""
        ...

    def value(self, lp: Tensor, lr: Tensor) -> Tensor:
        """Detached nonnegative estimate; its mean under the policy is the divergence."""
        ...

    def exact(self, logp_NV: Tensor, logr_NV: Tensor) -> Tensor:
        """The divergence itself, (N,), with gradient through ``logp_NV``."""
        ...

    def log_ratio(self, lp: Tensor, lr: Tensor) -> Tensor:
        """log(policy / what it is held to), with gradient through ``lp``: what k2 and k3 are made from."""
        ...


@dataclass(frozen=True)
class RegularizerEntry:
    """One line of the table: the settings' dataclass, what builds it, and one line for people."""

    config: type
    build: Callable[[Any], Regularizer]
    line: str


def at_least_float32(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors in float32, or all in float64 if one of them is."""
    dtype = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    return tuple(t.to(dtype) for t in tensors)


def gap(lp: Tensor, lr: Tensor) -> Tensor:
    """``lp - lr`` in float32 at least, after a check that the shapes agree: no silent broadcasting."""
    if lp.shape != lr.shape:
        raise ValueError(f"policy and reference log-probs differ in shape: {tuple(lp.shape)}, {tuple(lr.shape)}")
    lp, lr = at_least_float32(lp, lr)
    return lp - lr


def safe_exp(x: Tensor, limit: float = EXP_LIMIT) -> Tensor:
    """exp(x) up to ``limit``, beyond it the tangent there: e^limit · (1 + x − limit).

    [ours] A token can be 200 nats from the reference, where exp overflows float32. The tangent keeps value
    and gradient finite and the gradient's sign right, which a clamp (gradient 0) does not.
    """
    return x.clamp(max=limit).exp() * (1 + (x - limit).clamp(min=0))


def one_minus_exp(x: Tensor) -> Tensor:
    """1 − e^x: with the digits that the difference would cancel near 0, and going on as :func:`safe_exp`."""
    return torch.where(x.abs() < 1, -torch.expm1(x.clamp(-1, 1)), 1 - safe_exp(x))


def skew_log_ratio(d: Tensor, alpha: float) -> Tensor:
    """log(a / (alpha · a + (1 − alpha) · b)) for d = log(a/b), at most log(1/alpha), with gradient.

    Computed from the gap alone, as −log(alpha + (1 − alpha) e^−d). That equals log a − logaddexp(log alpha + log a,
    log(1 − alpha) + log b), but is exactly 0 at d = 0 and loses no digits near it. alpha = 0: d; alpha = 1: 0.
    """
    if alpha == 0.0:
        return d
    if alpha == 1.0:
        return d - d  # 0 with a gradient of 0
    ratio: Tensor = _SkewLogRatio.apply(d, alpha)  # type: ignore[no-untyped-call]
    return ratio


class _SkewLogRatio(torch.autograd.Function):
    """Written out because of whole vocabularies: autograd would keep eight tensors of d's size, this keeps d."""

    @staticmethod
    def forward(ctx: Any, d: Tensor, alpha: float) -> Tensor:
        ctx.save_for_backward(d)
        ctx.alpha = alpha
        near = d.clamp(-1, 1).neg_().expm1_().mul_(1 - alpha).log1p_().neg_()
        far = torch.logaddexp(d.new_full((), math.log(alpha)), math.log1p(-alpha) - d).neg_()
        return torch.where(d.abs() < 1, near, far)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        """1 − alpha · (the ratio), as b's share of the mixture: without the difference, which cancels at large d."""
        (d,) = ctx.saved_tensors
        return gradients[0] * torch.sigmoid(math.log1p(-ctx.alpha) - math.log(ctx.alpha) - d), None


def excess(log_ratio: Tensor) -> Tensor:
    """exp(−x) + x − 1 for x = log(p/q): nonnegative, 0 at x = 0, with mean KL(p ‖ q) under p.

    The estimator known as k3 (J. Schulman, "Approximating KL divergence", 2020). Rounding can leave a value
    of −1e-9 where the truth is 1e-10; reports clamp it, a loss must not (the clamp would take its gradient).
    """
    near = log_ratio.clamp(-1, 1)  # expm1 keeps the digits that the sum would cancel
    return torch.where(log_ratio.abs() < 1, torch.expm1(-near) + near, safe_exp(-log_ratio) + log_ratio - 1)


def check_alpha(alpha: float) -> None:
    if not (math.isfinite(alpha) and 0.0 <= alpha <= 1.0):
        raise ValueError(f"regularizer.alpha={alpha}: it must lie in [0, 1]")
