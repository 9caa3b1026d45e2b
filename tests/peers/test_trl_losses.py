"""GRPO, DAPO, GSPO and Dr. GRPO against TRL's GRPOTrainer: loss, its gradient in every token's log-prob and in every
parameter, off-policy, with uneven responses. Where carerl departs, the difference is derived and tested.

RLOO is in ``test_trl_rloo.py``, advantages are in ``test_trl_advantages.py``.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.loss.batches import algorithm, objective
from tests.peers.agreement import agree, distance
from tests.peers.trl_steps import EOS, PAD, Bench, graded_groups, set_rewards

pytestmark = pytest.mark.peers

BETA = 0.3
BUDGET = 10  # tokens a response may have; longer than any has
WIDE = {"clip_low": 0.2, "clip_high": 0.28}
KEPT = {"drop_uniform_groups": False}  # DAPO's dropping has a test of its own
TRL_WIDE = {"epsilon": 0.2, "epsilon_high": 0.28}
DAPO = {"loss_type": "dapo", **TRL_WIDE}
SEQUENCE = {"loss_type": "grpo", "importance_sampling_level": "sequence"}
DR_GRPO = {"loss_type": "dr_grpo", "scale_rewards": "none", "max_completion_length": BUDGET}

# name and settings of carerl's algorithm, and TRL's settings
SAME: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("grpo", {}, {"loss_type": "grpo"}),
    ("grpo", {"advantage_std": False, **WIDE}, {"loss_type": "grpo", "scale_rewards": "none", **TRL_WIDE}),
    ("dapo", KEPT, DAPO),
    ("dapo", KEPT, {**DAPO, "loss_type": "bnpo"}),
    ("dapo", {**KEPT, "entropy_bonus": 0.1}, {**DAPO, "entropy_coef": 0.1}),
    ("gspo", {}, {**SEQUENCE, "epsilon": 3e-4, "epsilon_high": 4e-4}),
    ("gspo", {"clip_low": 0.03, "clip_high": 0.04}, {**SEQUENCE, "epsilon": 0.03, "epsilon_high": 0.04}),
    ("dr_grpo", {"constant_length": BUDGET}, DR_GRPO),
]


def named(settings: dict[str, Any]) -> str:
    return "-".join(f"{key}={value}" for key, value in settings.items()) or "default"


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize(("name", "settings", "theirs"), SAME, ids=lambda v: v if isinstance(v, str) else named(v))
def test_an_off_policy_step_equals_trls(trl, tmp_path, name, settings, theirs, temperature):
    bench = Bench(tmp_path, temperature=temperature)
    ours, peer = bench.carerl(algorithm(name, **settings)), bench.trl(bench.trainer(trl, tmp_path, **theirs))
    assert 0.05 < ours.clip_fraction < 0.95
    agree(f"TRL {name}: loss", ours.loss, peer.loss)
    agree(f"TRL {name}: gradient in log-probs", ours.token_gradient_BT, peer.token_gradient_BT)
    agree(f"TRL {name}: gradient in parameters", ours.gradient, peer.gradient)


def test_the_batch_tells_the_algorithms_apart(trl, tmp_path):
    """The test above can fail: any two of the algorithms differ by far more than its tolerance."""
    bench = Bench(tmp_path)
    steps = [
        bench.carerl(algorithm(name, **settings))
        for name, settings in (
            ("grpo", {}),
            ("dapo", KEPT),
            ("gspo", {}),
            ("dr_grpo", {"constant_length": BUDGET}),
            ("rloo", {}),
        )
    ]
    for k, one in enumerate(steps):
        for other in steps[:k]:
            assert distance(one.gradient, other.gradient) > 0.05


# ---- the divergence -----------------------------------------------------------------------------


def penalty_gradients(bench: Bench, trl: Any, folder: Any, estimator: str, policy: Any, **settings: Any):
    """What the divergence adds to the gradient in the log-probs: ours, TRL's; and to the loss."""
    trainer = bench.trainer(trl, folder, beta=BETA, **settings)
    inputs = bench.scored(trainer)
    theirs = bench.trl(trainer, inputs)
    trainer.beta = 0.0
    without = bench.trl(trainer, inputs)
    ours = bench.carerl(policy, objective("rkl", BETA, estimator, policy))
    ours_without = bench.carerl(policy)
    return (
        ours.token_gradient_BT - ours_without.token_gradient_BT,
        theirs.token_gradient_BT - without.token_gradient_BT,
        ours.loss - ours_without.loss,
        theirs.loss - without.loss,
    )


def quantities(bench: Bench, policy: Any):
    """mask, log-prob minus the reference's, k3, the token's ratio and its own row's length, each (B, T)."""
    batch = bench.batch(policy)
    with torch.no_grad():
        lp_BT = torch.zeros(batch.mask_BT.shape, dtype=torch.float64)
        lp_BT[batch.mask_BT] = bench.statistics(batch).logprobs_N
    old_BT = batch.old_logprobs_BT if batch.old_logprobs_BT is not None else lp_BT
    gap_BT = lp_BT - batch.ref_logprobs_BT
    k3_BT = (-gap_BT).exp() + gap_BT - 1
    lengths_BT = batch.response_lengths_B[:, None].double().expand_as(gap_BT)
    return batch.mask_BT, gap_BT, k3_BT, (lp_BT - old_BT).exp(), lengths_BT


@pytest.mark.parametrize("off_policy", [True, False])
def test_score_has_the_gradient_of_trls_corrected_divergence(trl, tmp_path, off_policy):
    """TRL differentiates ratio · k3 (`use_bias_correction_kl`, its default), whose gradient is
    ratio · (k3 + 1 − e^(lr − lp)) = ratio · (lp − lr): what `score` says without the detour, on and off policy."""
    bench, policy = Bench(tmp_path, off_policy=off_policy), algorithm("dapo", **KEPT)
    step = bench.carerl(policy, objective("rkl", BETA, "score", policy))
    trainer = bench.trainer(trl, tmp_path, beta=BETA, **DAPO)
    assert trainer.args.use_bias_correction_kl
    peer = bench.trl(trainer)
    agree("TRL dapo + corrected KL, score: gradient in log-probs", step.token_gradient_BT, peer.token_gradient_BT)
    agree("TRL dapo + corrected KL, score: gradient in parameters", step.gradient, peer.gradient)
    ours, theirs, _, _ = penalty_gradients(bench, trl, tmp_path, "score", policy, **DAPO)
    agree("TRL dapo + corrected KL, score: its part of the gradient", ours, theirs)


def test_k3_equals_trls_uncorrected_divergence_on_policy(trl, tmp_path):
    bench, policy = Bench(tmp_path, off_policy=False), algorithm("dapo", **KEPT)
    step = bench.carerl(policy, objective("rkl", BETA, "k3", policy))
    peer = bench.trl(bench.trainer(trl, tmp_path, beta=BETA, use_bias_correction_kl=False, **DAPO))
    agree("TRL dapo + k3, on-policy: loss", step.loss, peer.loss)
    agree("TRL dapo + k3, on-policy: gradient in log-probs", step.token_gradient_BT, peer.token_gradient_BT)
    agree("TRL dapo + k3, on-policy: gradient in parameters", step.gradient, peer.gradient)


def test_departure_k3_takes_a_detached_ratio(trl, tmp_path):
    """Off-policy. Uncorrected, TRL's k3 is that of the old policy's tokens; ours is weighted by the ratio, detached
    (objective, departure 2): the gradients differ by beta/N · (ratio − 1) · (1 − e^(lr − lp)). Corrected, TRL's ratio
    is differentiated too: the values are equal, and its gradient has beta/N · ratio · k3 more, which makes forward KL's
    gradient reverse KL's."""
    bench, policy = Bench(tmp_path), algorithm("dapo", **KEPT)
    mask_BT, gap_BT, k3_BT, ratio_BT, _ = quantities(bench, policy)
    scale_BT = BETA * mask_BT / mask_BT.sum()
    ours, theirs, _, _ = penalty_gradients(bench, trl, tmp_path, "k3", policy, use_bias_correction_kl=False, **DAPO)
    agree("departure: k3 weighted by the ratio", ours - theirs, scale_BT * (ratio_BT - 1) * (1 - (-gap_BT).exp()))
    ours, theirs, value, their_value = penalty_gradients(bench, trl, tmp_path, "k3", policy, **DAPO)
    agree("TRL dapo + corrected KL, k3: its part of the loss", value, their_value)
    agree("departure: the ratio of k3 is detached", theirs - ours, scale_BT * ratio_BT * k3_BT)


@pytest.mark.parametrize(
    ("name", "settings", "theirs", "weight"),
    [
        ("grpo", {}, {"loss_type": "grpo"}, lambda rows, lengths_BT: 1 / (rows * lengths_BT)),
        (
            "dr_grpo",
            {"constant_length": BUDGET},
            DR_GRPO,
            lambda rows, lengths_BT: 1 / (rows * BUDGET + 0 * lengths_BT),
        ),
    ],
    ids=["grpo", "dr_grpo"],
)
def test_departure_the_divergence_is_a_mean_over_tokens(trl, tmp_path, name, settings, theirs, weight):
    """TRL weighs a token's divergence as its policy term, by 1/(B·|y|) in GRPO and 1/(B·budget) in Dr. GRPO; carerl by
    1/N under every algorithm, as 1/|y| depends on the response and biases the estimators (objective, departure 1)."""
    bench, policy = Bench(tmp_path), algorithm(name, **settings)
    mask_BT, gap_BT, _, ratio_BT, lengths_BT = quantities(bench, policy)
    ours, peer, _, _ = penalty_gradients(bench, trl, tmp_path, "score", policy, **theirs)
    coefficient_BT = BETA * ratio_BT * gap_BT * mask_BT
    agree("departure: divergence, weight 1/N of ours", ours, coefficient_BT / mask_BT.sum())
    agree(f"departure: divergence, weight of TRL's {name}", peer, coefficient_BT * weight(len(mask_BT), lengths_BT))
    assert distance(ours, peer) > 0.1


def test_responses_of_one_length_have_the_same_divergence_under_grpo(trl, tmp_path):
    """Then 1/(B·|y|) is 1/N."""
    bench, policy = Bench(tmp_path, graded_groups(((4, 4, 4, 4),) * 3)), algorithm("grpo")
    step = bench.carerl(policy, objective("rkl", BETA, "score", policy))
    peer = bench.trl(bench.trainer(trl, tmp_path, beta=BETA, loss_type="grpo"))
    agree(
        "TRL grpo + corrected KL, equal lengths: gradient in log-probs", step.token_gradient_BT, peer.token_gradient_BT
    )
    agree("TRL grpo + corrected KL, equal lengths: gradient in parameters", step.gradient, peer.gradient)


def test_departure_gspos_divergence_keeps_the_tokens_ratio(trl, tmp_path):
    """TRL corrects each token's k3 by the response's ratio s, geometric mean of the tokens', and differentiates it:
    s/(B·|y|) · (1 − e^(lr − lp) + mean of the response's k3). Off-policy that is neither the token's weight nor
    reverse KL's gradient; carerl keeps ratio/N · (lp − lr) (gspo, departure 1)."""
    bench, policy = Bench(tmp_path), algorithm("gspo")
    mask_BT, gap_BT, k3_BT, ratio_BT, lengths_BT = quantities(bench, policy)
    ours, theirs, _, _ = penalty_gradients(
        bench, trl, tmp_path, "score", policy, epsilon=3e-4, epsilon_high=4e-4, **SEQUENCE
    )

    def means(x_BT: torch.Tensor) -> torch.Tensor:
        return (x_BT * mask_BT).sum(1, keepdim=True) / lengths_BT

    sequence_BT = means(ratio_BT.log()).exp()
    expected_BT = sequence_BT * (1 - (-gap_BT).exp() + means(k3_BT)) / (len(mask_BT) * lengths_BT)
    agree("departure: GSPO's divergence, ours", ours, BETA * mask_BT * ratio_BT * gap_BT / mask_BT.sum())
    agree("departure: GSPO's divergence, TRL's", theirs, BETA * mask_BT * expected_BT)
    assert distance(ours, theirs) > 0.1


# ---- denominators -------------------------------------------------------------------------------


def test_departure_dapo_does_not_count_uniform_groups(trl, tmp_path):
    """A group with equal rewards has no policy term on either side, but TRL counts its tokens and carerl does not, as
    DAPO drops such groups: with N_kept tokens in the others, ours · N_kept = TRL's · N. Kept, they are equal."""
    made = graded_groups()
    set_rewards(made[1], [1.0] * 4)
    bench = Bench(tmp_path, made)
    tokens = [sum(len(sample.response_ids) for sample in group.samples) for group in made]
    kept, total = tokens[0] + tokens[2], sum(tokens)
    assert kept < 0.8 * total
    peer = bench.trl(bench.trainer(trl, tmp_path, **DAPO))
    dropped, counted = bench.carerl(algorithm("dapo")), bench.carerl(algorithm("dapo", **KEPT))
    agree("TRL dapo, a uniform group kept: gradient in parameters", counted.gradient, peer.gradient)
    agree("departure: uniform groups dropped, loss", dropped.loss * kept / total, peer.loss)
    agree("departure: uniform groups dropped, gradient", dropped.gradient * kept / total, peer.gradient)


def test_truncated_responses_are_masked_alike_in_dapo(trl, tmp_path):
    made = graded_groups()
    samples = [sample for group in made for sample in group.samples]
    for k, sample in enumerate(samples):
        if k % 2:
            sample.response_ids = (*sample.response_ids[:-1], EOS)
        sample.truncated = sample.response_ids[-1] not in (PAD, EOS)  # TRL's rule
    assert 0 < sum(sample.truncated for sample in samples) < len(samples)
    bench = Bench(tmp_path, made)
    ours = bench.carerl(algorithm("dapo", mask_truncated=True, **KEPT))
    peer = bench.trl(bench.trainer(trl, tmp_path, mask_truncated_completions=True, **DAPO))
    agree("TRL dapo, truncated masked: loss", ours.loss, peer.loss)
    agree("TRL dapo, truncated masked: gradient in parameters", ours.gradient, peer.gradient)


def halves(inputs: dict[str, Any]) -> list[dict[str, Any]]:
    """As TRL cuts a batch of rollouts into micro-batches."""
    from trl.trainer.utils import split_tensor_dict

    return split_tensor_dict(inputs, 2)


@pytest.mark.parametrize(("name", "settings", "theirs"), [SAME[0], SAME[2], SAME[-1]], ids=["grpo", "dapo", "dr_grpo"])
def test_two_micro_batches_of_trl_add_up_to_our_step(trl, tmp_path, name, settings, theirs):
    bench = Bench(tmp_path)
    cut = {"per_device_train_batch_size": 6, "gradient_accumulation_steps": 2}
    trainer = bench.trainer(trl, tmp_path, **cut, **theirs)
    parts = [bench.trl(trainer, part) for part in halves(bench.scored(trainer))]
    ours = bench.carerl(algorithm(name, **settings))
    agree(f"TRL {name}, two micro-batches: loss", ours.loss, sum(part.loss for part in parts))
    agree(f"TRL {name}, two micro-batches: gradient", ours.gradient, parts[0].gradient + parts[1].gradient)


def test_departure_dapos_denominator_is_the_minibatchs_own(trl, tmp_path):
    """Two optimizer steps a batch of N tokens: TRL divides each by N/2, the mean of both; carerl by the N_k tokens
    that the minibatch has. So ours · N_k = TRL's · N/2."""
    bench = Bench(tmp_path, graded_groups(((1, 2, 1, 3), (2, 3, 4, 5), (6, 5, 4, 5))))
    policy = algorithm("dapo", **KEPT)
    trainer = bench.trainer(trl, tmp_path, per_device_train_batch_size=6, steps_per_generation=2, **DAPO)
    mask_BT = bench.batch(policy).mask_BT
    for k, part in enumerate(halves(bench.scored(trainer))):
        rows = list(range(6 * k, 6 * k + 6))
        factor = float(mask_BT[rows].sum() / (mask_BT.sum() / 2))
        assert abs(factor - 1) > 0.2
        peer, ours = bench.trl(trainer, part), bench.carerl(policy, rows=rows)
        agree("departure: denominator of a minibatch, loss", ours.loss * factor, peer.loss)
        agree("departure: denominator of a minibatch, gradient", ours.gradient * factor, peer.gradient)
