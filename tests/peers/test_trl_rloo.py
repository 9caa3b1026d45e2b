"""RLOO against TRL's RLOOTrainer, whose ratio and clip are those of the whole response; carerl's are the token's
(rloo, departure 1). On the first pass, where all ratios are 1, that is the same gradient."""

from __future__ import annotations

import pytest

from tests.loss.batches import algorithm
from tests.peers.agreement import agree, distance
from tests.peers.trl_steps import Bench, graded_groups

pytestmark = pytest.mark.peers

NEVER = 50.0  # a bound that no ratio reaches


def advantages(bench: Bench):
    batch = bench.batch(algorithm("rloo"))
    return batch.advantages_BT[:, 0].double(), batch


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_the_first_pass_has_trls_gradient(trl, tmp_path, temperature):
    """The losses differ, and neither's value says anything: TRL's is −mean(A), ours −mean(A·|y|), at ratios of 1."""
    bench = Bench(tmp_path, off_policy=False, temperature=temperature)
    ours, peer = bench.carerl(algorithm("rloo")), bench.trl(bench.trainer(trl, tmp_path, "RLOO"))
    agree("TRL rloo, first pass: gradient in log-probs", ours.token_gradient_BT, peer.token_gradient_BT)
    agree("TRL rloo, first pass: gradient in parameters", ours.gradient, peer.gradient)
    advantages_B, batch = advantages(bench)
    agree("departure: RLOO's loss value", ours.loss, float(-(advantages_B * batch.response_lengths_B).mean()))
    assert abs(peer.loss + float(advantages_B.mean())) < 1e-6


def test_responses_of_one_token_equal_trls_off_policy(trl, tmp_path):
    """Token and response are one: loss, clip and gradient agree."""
    bench = Bench(tmp_path, graded_groups(((1,) * 6,) * 3))
    ours, peer = bench.carerl(algorithm("rloo")), bench.trl(bench.trainer(trl, tmp_path, "RLOO"))
    assert 0.05 < ours.clip_fraction < 0.95
    agree("TRL rloo, one token: loss", ours.loss, peer.loss)
    agree("TRL rloo, one token: gradient in log-probs", ours.token_gradient_BT, peer.token_gradient_BT)
    agree("TRL rloo, one token: gradient in parameters", ours.gradient, peer.gradient)


def test_departure_off_policy_a_token_has_its_own_ratio(trl, tmp_path):
    """Without clips: a token's coefficient is −A/B times its own ratio, in TRL times the product of the response's."""
    bench = Bench(tmp_path)
    policy = algorithm("rloo", clip_low=NEVER, clip_high=NEVER)
    ours, peer = bench.carerl(policy), bench.trl(bench.trainer(trl, tmp_path, "RLOO", epsilon=NEVER))
    advantages_B, batch = advantages(bench)
    logprobs_N = bench.statistics(batch).logprobs_N.detach()
    log_ratio_BT = batch.old_logprobs_BT.new_zeros(batch.mask_BT.shape)
    log_ratio_BT[batch.mask_BT] = logprobs_N - batch.old_logprobs_BT[batch.mask_BT]
    scale_BT = -advantages_B[:, None] * batch.mask_BT / batch.rows
    agree("departure: RLOO off-policy, ours", ours.token_gradient_BT, scale_BT * log_ratio_BT.exp())
    response_BT = log_ratio_BT.sum(dim=1, keepdim=True).exp()
    agree("departure: RLOO off-policy, TRL's", peer.token_gradient_BT, scale_BT * response_BT)
    assert distance(ours.token_gradient_BT, peer.token_gradient_BT) > 0.1
