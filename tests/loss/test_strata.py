"""What metrics are split by. That the sums reach the metrics file is tests/e2e/test_pipeline.py's."""

from __future__ import annotations

import pytest
import torch

from carerl.loss.batching import Normalisers
from carerl.loss.head import TokenStatistics
from carerl.loss.strata import STRATA, strata
from carerl.loss.streams import FlatStreams, flatten
from carerl.types import Outcome, Sample, TokenBatch
from tests.loss.batches import objective


def sample(outcome: Outcome | None, confidence: float | None) -> Sample:
    return Sample("q", (1,), (-0.5,), False, (0, 0), outcome=outcome, confidence=confidence)


def test_every_sample_is_right_or_wrong_and_in_one_bin_of_confidence():
    outcomes = [Outcome.CORRECT, Outcome.WRONG, Outcome.UNPARSED, Outcome.CORRECT, Outcome.ABSTAINED]
    confidences = [1.0, 0.25, 0.0, 0.74, 0.5]
    members_BM = strata([sample(o, c) for o, c in zip(outcomes, confidences, strict=True)])
    named = [[name for name, is_in in zip(STRATA, row, strict=True) if is_in] for row in members_BM.tolist()]
    assert named == [
        ["right", "confidence_75"],
        ["wrong", "confidence_25"],  # bins are closed below
        ["wrong", "confidence_0"],
        ["right", "confidence_50"],
        ["wrong", "confidence_50"],
    ]


def test_there_are_no_strata_before_grading():
    assert strata([sample(Outcome.CORRECT, 1.0), sample(None, 1.0)]) is None
    assert strata([sample(Outcome.CORRECT, None)]) is None


def test_means_over_strata_are_means_over_their_tokens():
    """Two rows of 1 and 2 tokens, gaps of .1, .2 and .4: the right row's mean is .1, the wrong one's .3."""
    batch = TokenBatch(
        input_ids_BS=torch.zeros(2, 3, dtype=torch.long),
        prompt_lengths_B=torch.tensor([1, 1]),
        response_lengths_B=torch.tensor([1, 2]),
        strata_BM=strata([sample(Outcome.CORRECT, 0.5), sample(Outcome.WRONG, 0.5)]),
    )
    strata_NM = flatten(batch).strata_NM
    lr_N = torch.tensor([-1.0, -1.0, -1.0])
    stats = TokenStatistics(torch.tensor([-0.9, -0.8, -0.6], requires_grad=True), torch.tensor([0.3, 0.6, 1.2]))
    streams = FlatStreams(ref_logprobs_N=lr_N, regularizer_weight_N=torch.ones(3), strata_NM=strata_NM)
    sums = objective("rkl", 1.0)(stats, streams, Normalisers(1, 3, 1)).sums
    means = {name: total / count for name, (total, count) in sums.items()}
    assert means["train/entropy_right"] == pytest.approx(0.3)
    assert means["train/entropy_wrong"] == pytest.approx(0.9)
    assert means["train/entropy_confidence_50"] == means["train/entropy"] == pytest.approx(0.7)
    assert means["regularizer/coefficient_right"] == pytest.approx(0.1)
    assert means["regularizer/coefficient_wrong"] == pytest.approx(0.3)
    assert not [name for name in means if name.endswith(("_0", "_25", "_75"))], "no token, no value"


def test_strata_change_no_loss():
    lr_N, ones_N = torch.tensor([-1.0, -0.2]), torch.ones(2)
    found = []
    for strata_NM in (None, torch.ones(2, len(STRATA), dtype=torch.bool)):
        lp_N = torch.tensor([-0.9, -0.8], requires_grad=True)
        streams = FlatStreams(ref_logprobs_N=lr_N, regularizer_weight_N=ones_N, strata_NM=strata_NM)
        objective("srkl", 2.0)(TokenStatistics(lp_N, ones_N), streams, Normalisers(1, 2, 1)).loss.backward()
        found.append(lp_N.grad)
    assert torch.equal(*found)


def test_dropped_groups_are_in_no_mean():
    """Tokens 1 and 2 belong to a dropped group: no weight anywhere. The clip fraction counts policy weights alone."""
    lp_N, entropy_N = torch.tensor([-0.5, -1.0, -2.0, -3.0], requires_grad=True), torch.tensor([1.0, 9.0, 9.0, 3.0])
    streams = FlatStreams(
        advantages_N=torch.tensor([1.0, 1.0, 1.0, 0.0]),
        policy_weight_N=torch.tensor([1.0, 0.0, 0.0, 0.0]),
        old_logprobs_N=torch.tensor([-2.0, -2.0, -2.0, -9.0]),
        ref_logprobs_N=torch.tensor([-0.6, -5.0, -5.0, -3.3]),
        regularizer_weight_N=torch.tensor([1.0, 0.0, 0.0, 1.0]),
        strata_NM=torch.ones(4, len(STRATA), dtype=torch.bool),
        lengths_B=torch.tensor([1, 2, 1]),
    )
    sums = objective("rkl", 1.0)(TokenStatistics(lp_N, entropy_N), streams, Normalisers(1, 2, 1)).sums
    assert sums["train/entropy"] == sums["train/entropy_right"] == (4.0, 2.0)
    assert sums["regularizer/log_ratio"] == pytest.approx((0.1 + 0.3, 2))
    assert sums["train/clip_fraction"] == (1.0, 1.0)
