"""A tiny vocabulary in float64, where an expected gradient is a sum and not an average of samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from carerl.regularizers import REGULARIZERS, Regularizer

ALPHAS = (0.0, 0.2, 0.5, 0.8, 0.95, 1.0)
CASES: list[tuple[str, dict[str, float]]] = [
    ("rkl", {}),
    ("fkl", {}),
    ("js", {}),
    *(("srkl", {"alpha": alpha}) for alpha in ALPHAS),
    *(("sfkl", {"alpha": alpha}) for alpha in ALPHAS),
]

TokenLoss = Callable[[Tensor, Tensor], Tensor]


def build(name: str, **settings: float) -> Regularizer:
    entry = REGULARIZERS[name]
    return entry.build(entry.config(**settings))


def near(vocabulary: int = 10) -> tuple[Tensor, Tensor]:
    """Policy logits (leaf) and reference log-probs, a few tenths of a nat apart."""
    generator = torch.Generator().manual_seed(0)
    reference = torch.randn(vocabulary, generator=generator, dtype=torch.float64)
    policy = reference + 0.3 * torch.randn(vocabulary, generator=generator, dtype=torch.float64)
    return policy.requires_grad_(), reference.log_softmax(-1)


def far(vocabulary: int = 48) -> tuple[Tensor, Tensor]:
    """A whole nat apart in the standard deviation, single tokens up to three."""
    generator = torch.Generator().manual_seed(1)
    reference = torch.randn(vocabulary, generator=generator, dtype=torch.float64)
    policy = reference + torch.randn(vocabulary, generator=generator, dtype=torch.float64)
    return policy.requires_grad_(), reference.log_softmax(-1)


def true_gradient(regularizer: Regularizer, logits: Tensor, logr: Tensor) -> Tensor:
    """Autograd through the exact divergence."""
    divergence = regularizer.exact(logits.log_softmax(-1)[None], logr[None])[0]
    return torch.autograd.grad(divergence, logits)[0]


def per_token_gradients(loss: TokenLoss, logits: Tensor, logr: Tensor) -> Tensor:
    """(V, V): row a is the gradient of the per-token loss when token a was sampled."""
    rows = []
    for token in range(len(logits)):
        lp = logits.log_softmax(-1)[token : token + 1]
        rows.append(torch.autograd.grad(loss(lp, logr[token : token + 1]).sum(), logits)[0])
    return torch.stack(rows)


def expected_gradient(loss: TokenLoss, logits: Tensor, logr: Tensor, sampler: Tensor | None = None) -> Tensor:
    """Exact expectation over the sampled token; ``sampler``: probabilities, the policy's own by default."""
    probabilities = logits.detach().softmax(-1) if sampler is None else sampler
    return probabilities @ per_token_gradients(loss, logits, logr)


def relative_variance(loss: TokenLoss, logits: Tensor, logr: Tensor) -> float:
    """Trace of the gradient's covariance over the squared norm of its mean."""
    probabilities = logits.detach().softmax(-1)
    rows = per_token_gradients(loss, logits, logr)
    mean = probabilities @ rows
    return float(probabilities @ (rows - mean).square().sum(-1) / mean.square().sum())


def cosine(a: Tensor, b: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(a, b, dim=0))


def scale(a: Tensor, b: Tensor) -> float:
    """Length of ``a`` along ``b``, in units of ``b``."""
    return float(a @ b / (b @ b))
