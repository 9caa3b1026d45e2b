"""Every algorithm of the table: by hand on small inputs, and the same however a batch is cut or padded.

GRPO's step against a plain formula is in ``test_objective.py``, ranks of a process group are in ``tests/backends``.
"""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from carerl.algorithms import ALGORITHMS, Algorithm
from carerl.algorithms.advantages import batch_normalised, group_relative, leave_one_out
from carerl.algorithms.aggregation import sequence_mean, sequence_sum, token_mean
from carerl.algorithms.dapo import overlong_punishment
from carerl.algorithms.surrogate import clipped, row_means, sequence_clipped
from carerl.loss.batching import Normalisers, informative, make_batch, normalisers
from carerl.loss.head import TokenStatistics
from carerl.loss.objective import Objective
from carerl.loss.packing import pack_rows
from carerl.loss.streams import FlatStreams, flatten
from carerl.regularizers import REGULARIZERS
from carerl.types import Group, Outcome, TokenBatch
from tests.loss.batches import LENGTHS, Toy, algorithm, full_batch, groups, objective, positions, run
from tests.loss.test_objective import SPLITS, models, padded

VARIANTS: list[tuple[str, dict[str, object]]] = [
    *((name, {"constant_length": 8} if name == "dr_grpo" else {}) for name in ALGORITHMS),
    ("dapo", {"mask_truncated": True, "overlong_length": 6, "overlong_buffer": 4}),
    ("gspo", {"clip_low": 0.03, "clip_high": 0.04, "update": "positive"}),
    ("gspo", {"mismatch_cap": 1.2, "mismatch_correction": "sequence_mask"}),
    ("grpo", {"mismatch_cap": 1.2, "mismatch_correction": "mask"}),
    ("grpo", {"update": "negative"}),
    ("dapo", {"entropy_bonus": 0.1, "mask_truncated": True}),
    ("reinforce_pp", {"group_baseline": False, "entropy_bonus": 0.1}),
]
by_variant = pytest.mark.parametrize(("name", "settings"), VARIANTS, ids=lambda v: v if isinstance(v, str) else "")


def varied_groups() -> list[Group]:
    """A group that is all right, a truncated response of both kinds, an empty response."""
    made = groups(((3, 1, 4, 2), (5, 2, 0, 1), (1, 6, 3, 3)))
    for sample in made[0].samples:
        sample.outcome, sample.reward = Outcome.CORRECT, 1.0
    made[1].samples[0].truncated = made[2].samples[1].truncated = True
    return made


def step(policy: Algorithm, split: list[list[int]], widen: int = 0, beta: float = 1.0) -> tuple[Tensor, Tensor, dict]:
    """Summed loss, gradient and shares over the micro-batches of a split of :func:`varied_groups`."""
    model, old, ref = models()
    batch = full_batch(ref, old, policy=policy, made=varied_groups())
    if widen:
        batch = padded(batch, widen, fill=7)
    norms = normalisers(batch, policy)
    target = objective("srkl", beta, policy=policy, alpha=0.5) if beta else objective(policy=policy)
    loss, shares = torch.zeros((), dtype=torch.float64), {}
    for rows in split:
        out = run(model, batch.select(rows) if not widen else batch, target, norms)
        loss = loss + out.loss.detach()
        shares = {key: shares.get(key, 0.0) + value for key, value in out.shares.items()}
    return loss, model.gradient(), shares


@by_variant
def test_pitfall_01_any_split_into_micro_batches_gives_the_same_gradient(name, settings):
    policy = algorithm(name, **settings)
    loss, gradient, _ = step(policy, SPLITS[0])
    assert gradient.norm() > 1e-3
    for split in SPLITS[1:]:
        other_loss, other, _ = step(policy, split)
        assert float((other - gradient).norm()) <= 1e-10 * float(gradient.norm())
        torch.testing.assert_close(other_loss, loss, rtol=1e-10, atol=1e-12)


def test_pitfall_01_a_mean_over_each_micro_batch_would_differ():
    """The test above can fail: DAPO's token mean taken in each of two micro-batches, then averaged."""
    policy = algorithm("dapo", drop_uniform_groups=False)
    _, right, _ = step(policy, SPLITS[0], beta=0.0)
    model, old, ref = models()
    batch = full_batch(ref, old, policy=policy, made=varied_groups())
    for rows in ([0], list(range(1, 12))):
        part = batch.select(rows)
        count = 2 * normalisers(part, policy).policy
        run(model, part, objective(policy=policy), Normalisers(count, 1, 1))
    assert (model.gradient() - right).norm() > 0.05 * right.norm()


@by_variant
def test_pitfall_03_doubling_the_padding_changes_nothing(name, settings):
    policy = algorithm(name, **settings)
    loss, gradient, shares = step(policy, SPLITS[0])
    wide_loss, wide, wide_shares = step(policy, SPLITS[0], widen=12)
    assert torch.equal(loss, wide_loss) and torch.equal(gradient, wide) and shares == wide_shares


@by_variant
def test_pitfall_03_a_rows_weights_do_not_depend_on_the_width_of_its_batch(name, settings):
    """Neither on how long the longest response beside it is, nor on padding."""
    policy = algorithm(name, **settings)
    batch = make_batch(varied_groups(), policy, 1.0)
    weight_BT, _ = policy.aggregation(batch)
    assert float(weight_BT.sum()) > 0
    for row in range(batch.rows):
        alone = batch.select([row])
        assert alone.width < batch.width or row == 9, "row 9 is the longest"
        assert torch.equal(policy.aggregation(alone)[0][0], weight_BT[row, : alone.width])
    wide_BT, _ = policy.aggregation(padded(batch, 12, fill=7))
    assert torch.equal(wide_BT[:, : batch.width], weight_BT) and wide_BT[:, batch.width :].abs().sum() == 0


@by_variant
def test_pitfall_02_denominators_add_up_over_any_division_of_the_rows(name, settings):
    policy = algorithm(name, **settings)
    batch = make_batch(varied_groups(), policy, 1.0)
    whole = normalisers(batch, policy)
    parts = [policy.aggregation(batch.select(rows))[1] for rows in SPLITS[2]]
    assert sum(parts) == whole.policy > 1


@by_variant
@pytest.mark.parametrize("estimator", ["score", "full"])
def test_pitfall_10_rows_that_have_nothing_to_say_are_finite_and_add_nothing(name, settings, estimator):
    """Empty responses, rows whose weights are all 0, and a whole batch of either: finite losses and gradients, and
    exactly nothing from the rows themselves."""
    policy = algorithm(name, **settings)
    _, old, ref = models()
    batch = full_batch(ref, old, policy=policy, lengths=((0, 2, 3), (2, 0, 0)))
    norms, target = normalisers(batch, policy), objective("srkl", 1.0, estimator, policy=policy, alpha=0.5)

    def gradient(part: TokenBatch) -> Tensor:
        model = models()[0]
        out = run(model, part, target, norms, ref)
        assert bool(torch.isfinite(out.loss)) and bool(torch.isfinite(model.gradient()).all())
        return model.gradient()

    whole = gradient(batch)
    assert whole.norm() > 1e-4
    torch.testing.assert_close(gradient(batch.select([1, 2, 3])), whole, rtol=1e-12, atol=1e-15)
    assert gradient(batch.select([0, 4, 5])).abs().sum() == 0
    weights = [n for n in batch.__dataclass_fields__ if "weight" in n and getattr(batch, n) is not None]
    masked = batch.with_streams(**{n: torch.zeros_like(getattr(batch, n)) for n in weights})
    assert gradient(masked).abs().sum() == 0
    nothing = full_batch(ref, old, policy=policy, lengths=((0, 0), (0, 0)))
    counts = normalisers(nothing, policy)
    assert min(counts.policy, counts.regularizer, counts.entropy) >= 1, "nothing is divided by 0"
    assert gradient(nothing).abs().sum() == 0


@pytest.mark.parametrize(("name", "keeps"), [("grpo", True), ("gspo", True), ("dapo", False)])
@pytest.mark.parametrize("estimator", ["score", "full"])
def test_pitfall_12_what_a_group_without_variance_adds_to_the_gradient(name, keeps, estimator):
    """All of group 0 is right. Under GRPO and GSPO it adds no policy gradient and all of its regularizer; under DAPO
    neither."""
    policy = algorithm(name)
    gradients = {}
    for beta in (0.0, 1.0):
        model, old, ref = models()
        batch = full_batch(ref, old, policy=policy, made=varied_groups())
        target = objective("srkl", beta, estimator, policy=policy, alpha=0.5)
        run(model, batch.select(range(4)), target, normalisers(batch, policy), ref)
        gradients[beta] = model.gradient()
    assert gradients[0.0].abs().sum() == 0
    size = float(gradients[1.0].norm())
    assert size > 1e-3 if keeps else size == 0


# ---- advantages ---------------------------------------------------------------------------------


def test_leave_one_out_by_hand():
    """(1, 0, 0, 0): 1 − 0 and 0 − 1/3. (1, 2): 1 − 2 and 2 − 1."""
    ours = leave_one_out(torch.tensor([[1.0, 0.0, 0.0, 0.0]], dtype=torch.float64))
    torch.testing.assert_close(ours, torch.tensor([[1, -1 / 3, -1 / 3, -1 / 3]], dtype=torch.float64))
    assert leave_one_out(torch.tensor([[1.0, 2.0]])).tolist() == [[-1.0, 1.0]]


def test_batch_normalised_by_hand():
    """(1, 0), (1, 1): mean .75, deviations .25 −.75 .25 .25, variance (3 · .0625 + .5625)/3 = .25, std .5. With each
    group's own mean: .5 −.5 0 0, variance .5/3."""
    rewards = torch.tensor([[1.0, 0.0], [1.0, 1.0]], dtype=torch.float64)
    ours = batch_normalised(rewards, group_baseline=False, epsilon=0.0)
    torch.testing.assert_close(ours, torch.tensor([[0.5, -1.5], [0.5, 0.5]], dtype=torch.float64))
    ours = batch_normalised(rewards, group_baseline=True, epsilon=0.0)
    high = 0.5 / math.sqrt(0.5 / 3)
    torch.testing.assert_close(ours, torch.tensor([[high, -high], [0, 0]], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reward", [0.3, 0.1, 1 / 3, 1e-9, 12345.678])
def test_pitfall_11_constant_rewards_give_exactly_zero(reward, dtype):
    for size in (2, 3, 7, 8):
        rewards = torch.full((3, size), reward, dtype=dtype)
        for baseline in (True, False):
            for epsilon in (0.0, 1e-9):
                assert torch.equal(batch_normalised(rewards, baseline, epsilon), torch.zeros_like(rewards))
        assert torch.equal(leave_one_out(rewards), torch.zeros_like(rewards))
        rewards[0, 0] += 1  # a group that has something to say takes nothing to the others
        assert torch.equal(batch_normalised(rewards, True, 0.0)[1:], torch.zeros_like(rewards[1:]))
        assert torch.equal(leave_one_out(rewards)[1:], torch.zeros_like(rewards[1:]))


def test_pitfall_11_the_residue_is_real():
    """The test above can fail: without the guard seven rewards of .3 leave a residue in float32, divided by 1e-9."""
    rewards = torch.full((3, 7), 0.3)
    centred = rewards - rewards.mean()
    assert (centred / (centred.std() + 1e-9)).abs().max() > 0.5
    assert (rewards - rewards.mean(dim=1, keepdim=True)).abs().max() > 0


def test_one_sample_a_prompt_is_enough_for_a_batch_baseline_only():
    ours = batch_normalised(torch.tensor([[1.0], [0.0]]), group_baseline=False, epsilon=0.0)
    torch.testing.assert_close(ours, torch.tensor([[1.0], [-1.0]]) / math.sqrt(2))
    for advantages in (leave_one_out, lambda r: batch_normalised(r, True, 0.0)):
        with pytest.raises(ValueError, match="G > 1"):
            advantages(torch.ones(3, 1))
    with pytest.raises(ValueError, match="finite"):
        batch_normalised(torch.tensor([[1.0], [math.nan]]), False, 0.0)


# ---- aggregation and policy terms by hand -------------------------------------------------------


def test_aggregations_by_hand():
    """Responses of 2, 0 and 1 tokens; then without the first one."""
    batch = pack_rows([(1,), (1,), (1,)], [(4, 5), (), (6,)])
    assert sequence_mean(batch)[0].tolist() == [[0.5, 0.5], [0, 0], [1, 0]] and sequence_mean(batch)[1] == 3
    assert token_mean(batch)[0].tolist() == [[1, 1], [0, 0], [1, 0]] and token_mean(batch)[1] == 3
    weights, count = sequence_sum(batch, 4.0)
    assert weights.tolist() == [[0.25, 0.25], [0, 0], [0.25, 0]] and count == 3
    fewer = batch.with_streams(policy_rows_B=torch.tensor([False, True, True]))
    for aggregation, left in ((sequence_mean, 2), (token_mean, 1), (lambda b: sequence_sum(b, 4.0), 2)):
        weights, count = aggregation(fewer)
        assert weights[0].tolist() == [0, 0] and weights[2, 0] > 0 and count == left


@pytest.mark.parametrize(
    ("name", "settings", "expected"),
    # rewards (1, 0) and (0, 1), responses of 3 and 1, 1 and 2 tokens; at ratio 1 the loss is −sum(weight · A)/count
    [
        # A = ±.5/(√.5 + 1e-4) = ±a: means over sequences cancel
        ("grpo", {}, 0.0),
        ("gspo", {}, 0.0),
        # −(3 − 1 − 1 + 2)/7 a
        ("dapo", {}, -3 / 7 * 0.5 / (math.sqrt(0.5) + 1e-4)),
        # A = ±.5: −(3 − 1 − 1 + 2)/(10 · 4) · .5
        ("dr_grpo", {"constant_length": 10}, -3 / 40 * 0.5),
        # A = ±1, sums over tokens: −(3 − 1 − 1 + 2)/4
        ("rloo", {}, -3 / 4),
        ("reinforce_pp", {}, 0.0),
    ],
)
def test_the_policy_loss_of_a_first_pass_by_hand(name, settings, expected):
    policy = algorithm(name, **settings)
    made = groups(((3, 1), (1, 2)))
    assert [[s.reward for s in group.samples] for group in made] == [[1.0, 0.0], [0.0, 1.0]]
    _, _, ref = models()
    batch = full_batch(ref, None, policy=policy, made=made).with_streams(rollout_logprobs_BT=None)
    out = run(models()[0], batch, objective(policy=policy), normalisers(batch, policy))
    assert out.shares["train/policy_loss"] == pytest.approx(expected, rel=1e-6, abs=1e-8)


def test_rows_have_their_own_means():
    values = torch.tensor([1.0, 3.0, 5.0, 7.0, 9.0, 11.0], requires_grad=True)
    means = row_means(values, torch.tensor([2, 0, 1, 3]))
    assert means.tolist() == [2.0, 2.0, 5.0, 9.0, 9.0, 9.0]
    (gradient,) = torch.autograd.grad(means[0] + means[3], values)
    torch.testing.assert_close(gradient, torch.tensor([0.5, 0.5, 0, 1 / 3, 1 / 3, 1 / 3]))
    assert row_means(torch.zeros(0), torch.tensor([0, 0])).shape == (0,)
    assert row_means(torch.zeros(0), torch.zeros(0, dtype=torch.long)).shape == (0,)
    for lengths in (None, torch.tensor([2, 3])):
        with pytest.raises(ValueError, match="6 tokens"):
            row_means(values, lengths)


def test_pitfall_10_one_ratio_per_sequence_normalised_by_its_length():
    """Rows of 2 and 1 tokens with log-ratios (.02, 0) and .03: ratios e^.01 and e^.03, not e^.02 and e^.03. With
    A = 1 and bounds of ±.02 the second is clipped at 1.02. Both tokens of the first row have the loss −e^.01, whose
    gradient is −e^.01 · ½ on each of them: together −e^.01 on each."""
    lp = torch.tensor([0.02, 0.0, 0.03], dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([2, 1])
    loss, flags = sequence_clipped(lp, torch.zeros(3), torch.ones(3), lengths, low=0.02, high=0.02)
    e = math.exp(0.01)
    assert loss.tolist() == pytest.approx([-e, -e, -1.02]) and flags.tolist() == [False, False, True]
    (gradient,) = torch.autograd.grad(loss.sum(), lp)
    assert gradient.tolist() == pytest.approx([-e, -e, 0.0])
    bad, _ = sequence_clipped(lp, torch.zeros(3), -torch.ones(3), lengths, low=0.02, high=0.02)
    assert bad.tolist() == pytest.approx([e, e, math.exp(0.03)]), "a bad sequence that grew is not spared"
    tokens, _ = clipped(lp, torch.zeros(3), torch.ones(3), lengths, low=0.02, high=0.02)
    assert tokens.tolist() == pytest.approx([-1.02, -1.0, -1.02], rel=1e-3), "the token ratio is another one"


def test_pitfall_10_a_step_of_gspo_equals_the_plain_formula():
    """Loops over rows: −mean_seq min(s A, clip(s) A), s = exp(mean over the response of lp − old)."""
    policy = algorithm("gspo", clip_low=0.03, clip_high=0.04)
    model, old, ref = models()
    batch = full_batch(ref, old, policy=policy)
    out = run(model, batch, objective(policy=policy), normalisers(batch, policy))
    plain = models()[0]
    lp_N, rows = plain.statistics(batch).logprobs_N, positions(batch)[0]
    terms = []
    for row in range(batch.rows):
        length = int(batch.response_lengths_B[row])
        s = (lp_N[rows == row] - batch.old_logprobs_BT[row, :length]).mean().exp()
        a = batch.advantages_BT[row, 0]
        terms.append(-torch.min(s * a, s.clamp(0.97, 1.04) * a))
    torch.stack(terms).mean().backward()
    torch.testing.assert_close(model.gradient(), plain.gradient(), rtol=1e-6, atol=1e-9)
    clip_count, tokens = out.sums["train/clip_fraction"]
    assert 0 < clip_count < tokens, "the clip must have had something to do"


def test_pitfall_10_rows_without_a_token_or_a_weight_are_finite_and_change_no_other_row():
    """A response of 0 tokens, and rows whose weights are all 0 because their advantages are negative."""
    policy = algorithm("gspo", update="positive")
    model, old, ref = models()
    batch = full_batch(ref, old, policy=policy, lengths=((0, 2), (2, 0)))
    norms = normalisers(batch, policy)
    assert norms.policy == 4, "empty responses are responses"
    out = run(model, batch, objective("srkl", 1.0, policy=policy), norms)
    assert bool(torch.isfinite(out.loss)) and bool(torch.isfinite(model.gradient()).all())
    nothing = batch.with_streams(policy_weight_BT=torch.zeros_like(batch.policy_weight_BT))
    masked = models()[0]
    out = run(masked, nothing, objective(policy=policy), norms)
    assert float(out.loss.detach()) == 0 and masked.gradient().abs().sum() == 0
    only_empty = batch.select([0, 3])
    assert only_empty.response_tokens == 0
    out = run(models()[0], only_empty, objective(policy=policy), norms)
    assert float(out.loss.detach()) == 0


def test_pitfall_05_gspo_does_not_take_its_sequence_ratio_to_the_regularizer():
    """The sampled regularizer is a token's: its gradient off policy is the one that it has under GRPO."""
    gradients = []
    for name in ("grpo", "gspo"):
        policy = algorithm(name)
        model, old, ref = models()
        batch = full_batch(ref, old, policy=policy).with_streams(advantages_BT=None)
        run(model, batch, objective("srkl", 1.0, policy=policy, alpha=0.5), normalisers(batch, policy))
        gradients.append(model.gradient())
    assert torch.equal(*gradients)


def enumerated_policy_gradient(policy: Algorithm) -> tuple[Tensor, Tensor]:
    """Expected gradient of −(policy loss) over all pairs of responses, and the gradient of the expected reward.

    Two tokens, 0 ends a response: the responses are (0), (1, 0), (1, 1) with rewards 1, 0, 2; one logit a step.
    """
    responses, rewards = ((0,), (1, 0), (1, 1)), (1.0, 0.0, 2.0)
    logits = torch.tensor([[0.3, -0.2], [0.5, 0.1]], dtype=torch.float64, requires_grad=True)
    logp = logits.log_softmax(-1)
    token_lps = [torch.stack([logp[t, token] for t, token in enumerate(ids)]) for ids in responses]
    probabilities = torch.stack([lps.sum().exp() for lps in token_lps])
    (truth,) = torch.autograd.grad((probabilities * torch.tensor(rewards)).sum(), logits, retain_graph=True)
    expected = torch.zeros_like(truth)
    for i in range(3):
        for j in range(3):
            batch = pack_rows([(1,), (1,)], [responses[i], responses[j]])
            weight_BT, count = policy.aggregation(batch)
            advantages = policy.advantages(torch.tensor([[rewards[i], rewards[j]]], dtype=torch.float64))[0]
            streams = FlatStreams(
                advantages_N=advantages.repeat_interleave(batch.response_lengths_B),
                policy_weight_N=weight_BT[batch.mask_BT],
                lengths_B=batch.response_lengths_B,
            )
            lp_N = torch.cat([token_lps[i], token_lps[j]])
            stats = TokenStatistics(lp_N, torch.zeros_like(lp_N))
            out = objective(policy=policy)(stats, streams, Normalisers(count, 1, 1))
            (gradient,) = torch.autograd.grad(out.loss, logits, retain_graph=True)
            expected = expected - (probabilities[i] * probabilities[j]).detach() * gradient
    return expected, truth


def test_rloo_is_an_unbiased_policy_gradient_and_dr_grpo_is_proportional_to_one():
    """Dr. GRPO: (G − 1)/G = 1/2 from the baseline with the sample's own reward, 1/8 from the constant length."""
    expected, truth = enumerated_policy_gradient(algorithm("rloo"))
    torch.testing.assert_close(expected, truth, rtol=1e-12, atol=1e-14)
    expected, truth = enumerated_policy_gradient(algorithm("dr_grpo", constant_length=8))
    torch.testing.assert_close(expected, truth / 16, rtol=1e-12, atol=1e-14)


def test_dividing_by_the_length_of_the_response_is_no_policy_gradient():
    """The test above can fail, and what Dr. GRPO's paper is about: GRPO without its standard deviation points
    elsewhere than the gradient of the expected reward."""
    expected, truth = enumerated_policy_gradient(algorithm("grpo", advantage_std=False))
    cosine = torch.nn.functional.cosine_similarity(expected.flatten(), truth.flatten(), dim=0)
    assert float(cosine) < 0.999


# ---- which samples take part --------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_positive_and_negative_updates_add_up_to_the_full_one(name):
    """Denominators, regularizer and entropy bonus are the full batch's in all three; the policy gradients add."""
    outcomes = {}
    for update in ("full", "positive", "negative"):
        settings = {"constant_length": 8} if name == "dr_grpo" else {}
        policy = algorithm(name, update=update, entropy_bonus=0.1, **settings)
        model, _, ref = models()
        batch = full_batch(ref, None, policy=policy, made=varied_groups())  # no clip: it could take a whole half
        norms = normalisers(batch, policy)
        out = run(model, batch.with_streams(entropy_weight_BT=None), objective(policy=policy), norms)
        outcomes[update] = (batch, norms, out.shares["train/policy_loss"], model.gradient())
    full, positive, negative = outcomes.values()
    assert full[1] == positive[1] == negative[1]
    assert full[2] == pytest.approx(positive[2] + negative[2], abs=1e-12)
    torch.testing.assert_close(full[3], positive[3] + negative[3], rtol=1e-9, atol=1e-12)
    assert positive[3].norm() > 1e-5 and negative[3].norm() > 1e-5
    for half, sign in ((positive[0], 1), (negative[0], -1)):
        assert torch.equal(half.regularizer_weight_BT, full[0].regularizer_weight_BT)
        assert torch.equal(half.entropy_weight_BT, full[0].entropy_weight_BT)
        assert bool((half.advantages_BT[half.policy_weight_BT > 0] * sign >= 0).all())
    halves = (positive[0].policy_weight_BT > 0).int() + (negative[0].policy_weight_BT > 0).int()
    assert torch.equal(halves, (full[0].policy_weight_BT > 0).int()), "each token in exactly one half"


def test_an_unknown_update_is_refused():
    with pytest.raises(ValueError, match="update"):
        algorithm(update="both")


def test_pitfall_12_dapo_drops_uniform_groups_and_their_denominators_and_grpo_keeps_both():
    """Group 0 is all right: DAPO counts the 8 + 10 response tokens of the other two, GRPO all 12 sequences."""
    made = varied_groups()
    dapo, grpo = algorithm("dapo"), algorithm("grpo")
    batch = make_batch(made, dapo, 1.0)
    lengths = [len(s.response_ids) for group in made[1:] for s in group.samples]
    norms = normalisers(batch, dapo)
    assert norms.policy == norms.regularizer == sum(lengths) == 21
    assert batch.policy_weight_BT[:4].abs().sum() == 0 and batch.regularizer_weight_BT[:4].abs().sum() == 0
    assert batch.regularizer_weight_BT[4:].sum() == 21
    kept = make_batch(made, grpo, 1.0)
    assert normalisers(kept, grpo).policy == 12 and normalisers(kept, grpo).regularizer == 10 + 21
    assert kept.regularizer_weight_BT[:4].sum() == 10
    off = algorithm("dapo", drop_uniform_groups=False)
    assert normalisers(make_batch(made, off, 1.0), off).policy == 31


def test_pitfall_16_uniform_groups_are_told_by_outcomes_and_not_by_shaped_rewards():
    """All right, but of different lengths, so that the overlong punishment makes the rewards differ."""
    made = varied_groups()
    assert informative(made).tolist() == [False, True, True]
    policy = algorithm("dapo", overlong_length=4, overlong_buffer=4)
    batch = make_batch(made, policy, 1.0)
    assert batch.advantages_BT[:4].abs().sum() > 0, "the shaped rewards do differ"
    assert batch.policy_weight_BT[:4].abs().sum() == 0
    assert [sample.reward for sample in made[0].samples] == [1.0] * 4, "the samples keep their rewards"
    for sample in made[0].samples:
        sample.outcome = Outcome.UNPARSED
    assert informative(made).tolist() == [False, True, True]
    made[0].samples[0].outcome = None
    with pytest.raises(ValueError, match="graded"):
        make_batch(made, policy, 1.0)


def test_soft_overlong_punishment_by_hand():
    """L_max 10, buffer 4: 0 up to 6 tokens, −1/4 a token from there, −1 from 10 on."""
    ours = [overlong_punishment(tokens, length=10, buffer=4) for tokens in (0, 6, 7, 8, 10, 11)]
    assert ours == [0.0, 0.0, -0.25, -0.5, -1.0, -1.0]
    made = groups(((3, 1, 4, 2),))
    policy = algorithm("dapo", overlong_length=4, overlong_buffer=2)
    batch = make_batch(made, policy, 1.0)
    # rewards 1 0 1 0 and lengths 3 1 4 2: shaped .5 0 0 0
    shaped = group_relative(torch.tensor([[0.5, 0.0, 0.0, 0.0]], dtype=torch.float64), True, 1e-4)
    torch.testing.assert_close(batch.advantages_BT[:, 0], shaped[0].float())


def test_pitfall_12_truncated_responses_leave_the_policy_term_and_its_denominator_alone():
    """Rows 4 (5 tokens) and 9 (6 tokens) are truncated. Their regularizer stays, and so do the advantages."""
    made = varied_groups()
    masked, plain = (algorithm("dapo", mask_truncated=on) for on in (True, False))
    batch, other = make_batch(made, masked, 1.0), make_batch(made, plain, 1.0)
    assert batch.policy_weight_BT[[4, 9]].abs().sum() == 0
    assert normalisers(batch, masked).policy == 21 - 5 - 6 and normalisers(batch, masked).regularizer == 21
    assert torch.equal(batch.regularizer_weight_BT, other.regularizer_weight_BT)
    assert torch.equal(batch.advantages_BT, other.advantages_BT)


# ---- entropy bonus ------------------------------------------------------------------------------


def test_the_entropy_bonus_is_the_mean_entropy_over_the_tokens_of_the_policy_term():
    policy = algorithm("dapo", entropy_bonus=0.25)
    model, old, ref = models()
    batch = full_batch(ref, old, policy=policy, made=varied_groups())
    norms = normalisers(batch, policy)
    assert norms.entropy == norms.policy == 21
    out = run(model, batch.with_streams(advantages_BT=None), objective(policy=policy), norms)
    plain = models()[0]
    rows = positions(batch)[0]
    expected = -0.25 * plain.statistics(batch).entropy_N[rows >= 4].mean()
    expected.backward()
    assert out.shares["train/entropy_loss"] == pytest.approx(float(expected.detach()), rel=1e-9)
    assert out.shares["train/loss"] == out.shares["train/entropy_loss"]
    torch.testing.assert_close(model.gradient(), plain.gradient(), rtol=1e-9, atol=1e-12)


def test_the_entropy_bonus_raises_entropy_and_is_off_by_default():
    policy = algorithm(entropy_bonus=1.0)
    model: Toy = models()[0]
    batch = make_batch(groups(LENGTHS), policy, 1.0)
    norms = normalisers(batch, policy)
    before = float(model.statistics(batch).entropy_N.mean().detach())
    run(model, batch.with_streams(advantages_BT=None, rollout_logprobs_BT=None), objective(policy=policy), norms)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter -= 0.01 * parameter.grad
    assert float(model.statistics(batch).entropy_N.mean().detach()) > before
    off = make_batch(groups(LENGTHS), algorithm(), 1.0)
    assert off.entropy_weight_BT is None and normalisers(off, algorithm()).entropy == 1
    assert algorithm().entropy_bonus == 0


def test_entropy_weights_need_an_algorithm():
    stats = TokenStatistics(torch.zeros(1, requires_grad=True), torch.zeros(1))
    with pytest.raises(ValueError, match="algorithm"):
        Objective.supervised()(stats, FlatStreams(entropy_weight_N=torch.ones(1)), Normalisers(1, 1, 1))


# ---- the divergence in the reward ---------------------------------------------------------------


def in_place(place: str, policy: Algorithm, with_old: bool = False) -> tuple[Tensor, dict[str, float], dict]:
    model, old, ref = models()
    batch = full_batch(ref, old if with_old else None, policy=policy)
    entry = REGULARIZERS["srkl"]
    target = Objective(policy, entry.build(entry.config(alpha=0.5)), 0.7, "score", place)
    out = run(model, batch, target, normalisers(batch, policy))
    return model.gradient(), out.shares, out.sums


def test_on_the_first_pass_the_reward_has_the_gradient_of_the_loss_where_tokens_are_averaged_alike():
    """DAPO's token mean: both are sum(c · grad lp)/N. Under GRPO's 1/|y| they are two things."""
    (loss, _, _), (reward, shares, sums) = (in_place(place, algorithm("dapo")) for place in ("loss", "reward"))
    torch.testing.assert_close(reward, loss, rtol=1e-6, atol=1e-9)
    assert "regularizer/loss" not in shares and "regularizer/value" in sums, "reported, and no component"
    (loss, _, _), (reward, _, _) = (in_place(place, algorithm("grpo")) for place in ("loss", "reward"))
    assert (loss - reward).norm() > 0.05 * loss.norm()


def test_the_reward_is_shaped_by_the_policy_that_sampled():
    """Off policy the coefficient is the old policy's, the ratio the surrogate's: −min(w B, clip(w) B) with
    B = A − beta · c(old)."""
    policy = algorithm("dapo")
    found, _, _ = in_place("reward", policy, with_old=True)
    model, old, ref = models()
    batch = full_batch(ref, old, policy=policy)
    mask_BT = batch.mask_BT
    d = (batch.old_logprobs_BT - batch.ref_logprobs_BT)[mask_BT]
    rho = 1 / (0.5 + 0.5 * (-d).exp())
    shaped = batch.advantages_BT[mask_BT] - 0.7 * (rho.log() - 0.5 * (rho - 1))
    ratio = (model.statistics(batch).logprobs_N - batch.old_logprobs_BT[mask_BT]).exp()
    (-torch.minimum(ratio * shaped, ratio.clamp(0.8, 1.28) * shaped).mean()).backward()
    torch.testing.assert_close(found, model.gradient(), rtol=1e-6, atol=1e-9)


def test_what_the_reward_cannot_hold_is_refused():
    entry = REGULARIZERS["srkl"]
    for estimator, place in (("full", "reward"), ("k2", "reward"), ("score", "advantage")):
        with pytest.raises(ValueError, match="place"):
            Objective(algorithm(), entry.build(entry.config()), 1.0, estimator, place)
    stats = TokenStatistics(torch.zeros(1, requires_grad=True), torch.zeros(1))
    target = Objective(algorithm(), entry.build(entry.config()), 1.0, "score", "reward")
    with pytest.raises(ValueError, match="reference"):
        target(stats, FlatStreams(advantages_N=torch.ones(1), policy_weight_N=torch.ones(1)), Normalisers(1, 1, 1))


def test_flatten_tells_the_rows_apart():
    batch = TokenBatch(torch.zeros(2, 5, dtype=torch.long), torch.tensor([2, 3]), torch.tensor([2, 1]))
    assert flatten(batch).lengths_B.tolist() == [2, 1]
