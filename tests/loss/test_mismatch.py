"""The correction for what engine and learner disagree about: by hand, and that it does not depend on length.

That it multiplies policy term and sampled regularizer alike, and stays when micro-batches are cut otherwise, is in
``test_objective.py`` and ``test_algorithms.py``.
"""

from __future__ import annotations

import math

import pytest
import torch

from carerl.algorithms.base import CORRECTIONS
from carerl.loss.adaptive import adapted_entropy_bonus
from carerl.loss.batching import Normalisers
from carerl.loss.head import TokenStatistics
from carerl.loss.mismatch import mismatch_weight
from carerl.loss.streams import FlatStreams
from tests.loss.batches import algorithm, objective

LENGTHS_B = torch.tensor([2, 0, 3])
WEIGHTS_N = torch.tensor([4.0, 0.25, 3.0, 1.5, 3.0], dtype=torch.float64)  # geometric means 1 and 13.5^(1/3) = 2.38


@pytest.mark.parametrize(
    ("correction", "expected"),
    [
        ("truncate", [2.0, 0.25, 2.0, 1.5, 2.0]),  # min(w, 2)
        ("mask", [0.0, 0.0, 0.0, 1.5, 0.0]),  # outside [1/2, 2]
        ("sequence_mask", [2.0, 0.25, 0.0, 0.0, 0.0]),  # the second row's 2.38 is outside
    ],
)
def test_pitfall_09_weights_are_what_is_documented_and_detached(correction, expected):
    old_N = WEIGHTS_N.log().requires_grad_()
    rollout_N = torch.zeros(5, dtype=torch.float64, requires_grad=True)
    ours = mismatch_weight(old_N, rollout_N, LENGTHS_B, cap=2.0, correction=correction)
    assert not ours.requires_grad
    torch.testing.assert_close(ours, torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("correction", CORRECTIONS)
def test_pitfall_09_no_weight_exceeds_the_cap_at_any_gap(correction):
    gaps_N = torch.tensor([-500.0, -3.0, -0.1, 0.0, 0.1, 3.0, 500.0])
    weights_N = mismatch_weight(gaps_N, torch.zeros(7), torch.ones(7, dtype=torch.long), 2.0, correction)
    assert bool(torch.isfinite(weights_N).all()) and float(weights_N.min()) >= 0 and float(weights_N.max()) <= 2.0
    torch.testing.assert_close(weights_N[2:5], torch.tensor([-0.1, 0.0, 0.1]).exp())
    if correction != "truncate":
        assert weights_N[[0, 1, 5, 6]].tolist() == [0, 0, 0, 0]


def noise(rows: int, length: int) -> torch.Tensor:
    """Log-weights of tokens as an engine in low precision has them: zero mean, a tenth of a nat."""
    generator = torch.Generator().manual_seed(length)
    return 0.1 * torch.randn(rows * length, generator=generator, dtype=torch.float64)


def rejected(correction: str, length: int, rows: int = 200, cap: float = 1.1) -> float:
    lengths_B = torch.full((rows,), length)
    log_N = noise(rows, length)
    weights_N = mismatch_weight(log_N, torch.zeros_like(log_N), lengths_B, cap, correction)
    return float((weights_N == 0).double().mean())


def test_pitfall_08_long_responses_are_not_rejected_for_being_long():
    """The geometric mean of more tokens is closer to 1. The product, sqrt(length) · .1 nats wide, would reject 76 % at
    100 tokens and 92 % at 1000, where log 1.1 = .0953."""
    rates = [rejected("sequence_mask", length) for length in (1, 10, 100, 1000)]
    assert rates[0] > 0.2 and rates == sorted(rates, reverse=True) and rates[-1] == 0
    products = [
        float((noise(200, length).reshape(200, -1).sum(1).abs() > math.log(1.1)).double().mean())
        for length in (1, 100, 1000)
    ]
    assert products == sorted(products) and products[-1] > 0.8, "the test can fail"


def test_pitfall_08_a_token_mask_rejects_tokens_at_one_rate():
    rates = [rejected("mask", length) for length in (10, 100, 1000)]
    assert max(rates) - min(rates) < 0.05 and rates[0] > 0.2


def test_masked_tokens_stay_in_the_denominator_and_are_counted():
    """Two tokens of advantage 1, one of them 2 nats off: −1/2, not −1."""
    stats = TokenStatistics(torch.zeros(2, dtype=torch.float64, requires_grad=True), torch.zeros(2))
    streams = FlatStreams(
        advantages_N=torch.ones(2),
        policy_weight_N=torch.ones(2),
        rollout_logprobs_N=torch.tensor([0.0, 2.0]),
        lengths_B=torch.tensor([2]),
    )
    policy = algorithm("dapo", mismatch_cap=2.0, mismatch_correction="mask")
    out = objective(policy=policy)(stats, streams, Normalisers(2, 2, 1))
    assert out.shares["train/policy_loss"] == pytest.approx(-0.5)
    assert out.sums["train/mismatch_masked"] == (1.0, 2.0)


def test_what_makes_no_mask_is_refused():
    zeros = torch.zeros(5)
    with pytest.raises(ValueError, match="truncate, mask"):
        mismatch_weight(zeros, zeros, LENGTHS_B, 2.0, "clip")
    for correction in ("mask", "sequence_mask"):
        with pytest.raises(ValueError, match="cap"):
            mismatch_weight(zeros, zeros, LENGTHS_B, 0.5, correction)
    with pytest.raises(ValueError, match="lengths"):
        mismatch_weight(zeros, zeros, None, 2.0, "sequence_mask")


def test_the_adapted_entropy_bonus_follows_its_target():
    assert adapted_entropy_bonus(0.01, entropy=0.2, target=0.3, step=0.004) == pytest.approx(0.014)
    assert adapted_entropy_bonus(0.01, entropy=0.3, target=0.3, step=0.004) == pytest.approx(0.006)
    assert adapted_entropy_bonus(0.001, entropy=0.5, target=0.3, step=0.004) == 0.0
