"""The loss of a batch: against plain formulas, and the same however the batch is cut.

Micro-batches are cut here on one process; ranks of a process group are in ``tests/backends``. That the
per-token estimators are right is in ``tests/regularizers``.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from carerl.loss.batching import Normalisers, make_batch, normalisers
from carerl.loss.head import TokenStatistics
from carerl.loss.objective import Objective, needs_hidden
from carerl.loss.streams import FlatStreams
from carerl.regularizers import REGULARIZERS
from carerl.types import TokenBatch
from tests.loss.batches import Toy, algorithm, full_batch, groups, objective, positions, run

KINDS = [
    ("none", 0.0, "score", {}),
    ("rkl", 0.5, "score", {}),
    ("srkl", 3.0, "score", {"alpha": 0.8}),
    ("srkl", 3.0, "full", {"alpha": 0.8}),
    ("fkl", 0.5, "full", {}),
    ("srkl", 3.0, "k2", {"alpha": 0.5}),
    ("rkl", 0.5, "k3", {}),
]
SPLITS = [
    [list(range(12))],
    [[k] for k in range(12)],
    [[0, 1, 2, 3, 4, 5, 6], [7], [8, 9, 10, 11]],
    [[11, 0, 5], [], [1, 2, 3, 4, 6, 7, 8, 9, 10], []],
]


def models(dtype: torch.dtype = torch.float64) -> tuple[Toy, Toy, Toy]:
    """Policy, old policy (a little away), reference (further away)."""
    policy, old, ref = Toy(dtype, seed=0), Toy(dtype, seed=0), Toy(dtype, seed=0)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for model, size in ((old, 0.15), (ref, 0.5)):
            for parameter in model.parameters():
                parameter += size * torch.randn(parameter.shape, generator=generator, dtype=torch.float64).to(dtype)
    return policy, old, ref


def accumulate(kind, split: list[list[int]], dtype: torch.dtype) -> tuple[float, Tensor, dict[str, float], dict]:
    """Loss, gradient, summed shares and reduced means over the micro-batches of a split."""
    name, beta, estimator, settings = kind
    policy, old, ref = models(dtype)
    batch = full_batch(ref, old)
    batch = batch.with_streams(ce_weight_BT=0.1 * batch.mask_BT.float())
    target = objective(name, beta, estimator, **settings)
    norms = normalisers(batch, algorithm())
    loss, shares, sums = 0.0, {}, {}
    for rows in split:
        out = run(policy, batch.select(rows), target, norms, ref)
        loss += float(out.loss.detach())
        for key, value in out.shares.items():
            shares[key] = shares.get(key, 0.0) + value
        for key, (total, count) in out.sums.items():
            before = sums.get(key, (0.0, 0.0))
            sums[key] = (before[0] + total, before[1] + count)
    return loss, policy.gradient(), shares, {key: total / count for key, (total, count) in sums.items()}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]}-{kind[2]}")
@pytest.mark.parametrize(("dtype", "relative"), [(torch.float64, 1e-10), (torch.float32, 1e-5)])
def test_pitfall_01_any_split_into_micro_batches_gives_the_same_gradient(kind, dtype, relative):
    loss, gradient, shares, means = accumulate(kind, SPLITS[0], dtype)
    assert gradient.norm() > 1e-3
    for split in SPLITS[1:]:
        other_loss, other, other_shares, other_means = accumulate(kind, split, dtype)
        assert float((other - gradient).norm()) <= relative * float(gradient.norm())
        assert other_loss == pytest.approx(loss, rel=relative, abs=relative)
        assert other_shares == pytest.approx(shares, rel=relative, abs=relative)
        assert other_means == pytest.approx(means, rel=relative, abs=relative)


@pytest.mark.parametrize("kind", KINDS[:4], ids=lambda kind: f"{kind[0]}-{kind[2]}")
def test_pitfall_01_local_normalisers_would_differ(kind):
    """The test above can fail: normalising each micro-batch by itself, and averaging, is another gradient."""
    name, beta, estimator, settings = kind
    _, right, _, _ = accumulate(kind, SPLITS[0], torch.float64)
    policy, old, ref = models()
    batch = full_batch(ref, old)
    batch = batch.with_streams(ce_weight_BT=0.1 * batch.mask_BT.float())
    for rows in SPLITS[2]:
        part = batch.select(rows)
        local = normalisers(part, algorithm())
        scaled = Normalisers(*(3 * count for count in (local.policy, local.regularizer, local.ce)))
        run(policy, part, objective(name, beta, estimator, **settings), scaled, ref)
    assert (policy.gradient() - right).norm() > 0.05 * right.norm()


def padded(batch: TokenBatch, extra: int, fill: int) -> TokenBatch:
    """The same rows in twice the width, with rubbish in the padding of everything but the weights' zeros."""

    def wider(name: str, value: Tensor) -> Tensor:
        rubbish = fill if name.endswith("_BS") else float("nan") if "weight" not in name else 0.0
        block = torch.full((value.shape[0], extra), rubbish, dtype=value.dtype)
        return torch.cat([value, block], dim=1)

    names = [n for n in batch.__dataclass_fields__ if n.endswith(("_BS", "_BT"))]
    changes = {n: wider(n, getattr(batch, n)) for n in names if getattr(batch, n) is not None}
    return replace(batch, **changes)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0]}-{kind[2]}")
@pytest.mark.parametrize("fill", [0, 7])
def test_pitfall_03_doubling_the_padding_changes_nothing(kind, fill):
    name, beta, estimator, settings = kind
    outcomes = []
    for extra in (0, 12):
        policy, old, ref = models()
        batch = full_batch(ref, old)
        batch = padded(batch, extra, fill)
        out = run(policy, batch, objective(name, beta, estimator, **settings), normalisers(batch, algorithm()), ref)
        outcomes.append((out.loss.detach(), policy.gradient(), out.sums, out.shares))
    (loss, gradient, sums, shares), (other_loss, other, other_sums, other_shares) = outcomes
    assert torch.equal(loss, other_loss) and torch.equal(gradient, other)
    assert sums == other_sums and shares == other_shares


def grpo_by_hand(model: Toy, ref: Toy, batch: TokenBatch, beta: float, alpha: float, cap: float) -> Tensor:
    """GRPO with skew reverse KL, written from the formulas with loops over rows and tokens.

    Policy term: mean over sequences of the mean over tokens of −min(w A, clip(w, .8, 1.2) A), each times
    min(exp(old − rollout), cap). Penalty: mean over *all* tokens of weight · (log rho − alpha (rho − 1)) lp.
    """
    policy_terms, penalties = [], []
    for row in range(batch.rows):
        prompt, length = int(batch.prompt_lengths_B[row]), int(batch.response_lengths_B[row])
        ids = batch.input_ids_BS[row]

        def logprobs(model: Toy, ids: Tensor = ids) -> Tensor:
            embedded = model.embedding[ids]
            before = torch.cat([torch.zeros_like(embedded[:1]), embedded[:-1]])
            return ((embedded + before).tanh() @ model.head_VD.T / batch.temperature).log_softmax(-1)

        ours, theirs = logprobs(model), logprobs(ref).detach()
        terms = []
        for t in range(length):
            token = ids[prompt + t]
            lp, lr = ours[prompt + t - 1, token], theirs[prompt + t - 1, token]
            old, rollout = batch.old_logprobs_BT[row, t], batch.rollout_logprobs_BT[row, t]
            advantage = batch.advantages_BT[row, t]
            ratio, trust = (lp - old).exp(), min(float((old - rollout).exp()), cap)
            terms.append(-trust * torch.min(ratio * advantage, ratio.clamp(0.8, 1.2) * advantage))
            p, r = lp.exp().detach(), lr.exp()
            rho = p / (alpha * p + (1 - alpha) * r)
            coefficient = rho.log() - alpha * (rho - 1)
            penalties.append(trust * ratio.detach() * coefficient * lp)
        policy_terms.append(torch.stack(terms).mean())
    return torch.stack(policy_terms).mean() + beta * torch.stack(penalties).mean()


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_pitfall_07_a_step_equals_the_plain_formula(temperature):
    policy, old, ref = models()
    batch = full_batch(ref, old, temperature)
    out = run(policy, batch, objective("srkl", 3.0, alpha=0.8), normalisers(batch, algorithm()))
    plain = models()[0]
    expected = grpo_by_hand(plain, ref, batch, beta=3.0, alpha=0.8, cap=2.0)
    expected.backward()
    torch.testing.assert_close(out.loss.detach(), expected.detach(), rtol=1e-6, atol=0)  # weights are float32
    torch.testing.assert_close(policy.gradient(), plain.gradient(), rtol=1e-5, atol=1e-8)
    clipped, tokens = out.sums["train/clip_fraction"]
    assert 0 < clipped < tokens == batch.response_tokens, "the clip must have had something to do"


def test_group_relative_policy_gradient_on_the_first_pass():
    """On the first pass the ratio is 1 and the gradient is −mean_seq mean_tok A grad lp; no clip is active."""
    policy, _, ref = models()
    batch = full_batch(ref, None).with_streams(rollout_logprobs_BT=None)
    out = run(policy, batch, objective(), normalisers(batch, algorithm()))
    plain = models()[0]
    rows, _ = positions(batch)
    weight_N = (1 / batch.response_lengths_B.double())[rows] / batch.rows
    advantage_N = batch.advantages_BT.double()[batch.mask_BT]
    (-(weight_N * advantage_N * plain.statistics(batch).logprobs_N).sum()).backward()
    torch.testing.assert_close(policy.gradient(), plain.gradient(), rtol=1e-6, atol=1e-9)
    assert out.sums["train/clip_fraction"][0] == 0
    assert out.sums["train/ratio"] == (batch.response_tokens, batch.response_tokens)


def test_the_regularizer_is_averaged_over_tokens_and_the_policy_over_sequences():
    """Two responses of 1 and 3 tokens. Policy: (−1·1/1 + −1·3·(1/3))/2 of advantage 1 = −1. Regularizer with
    per-token divergences 1, 2, 3, 4: (1 + 2 + 3 + 4)/4 = 2.5, not ((1) + (2 + 3 + 4)/3)/2 = 2."""
    logprobs = torch.full((4,), -1.0, dtype=torch.float64, requires_grad=True)
    divergence = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    stats = TokenStatistics(
        logprobs, torch.zeros(4), ref_logprobs_N=torch.zeros(4), divergence_N=divergence, rkl_N=divergence
    )
    streams = FlatStreams(
        advantages_N=torch.ones(4),
        policy_weight_N=torch.tensor([1.0, 1 / 3, 1 / 3, 1 / 3]),
        regularizer_weight_N=torch.ones(4),
    )
    out = objective("rkl", 2.0, "full")(stats, streams, Normalisers(policy=2, regularizer=4, ce=1))
    assert out.shares["train/policy_loss"] == pytest.approx(-1.0)
    assert out.shares["regularizer/loss"] == pytest.approx(2 * 2.5)
    assert out.shares["train/loss"] == pytest.approx(4.0) == float(out.loss.detach())


def test_pitfall_05_full_takes_no_ratio_and_score_does():
    """Old log-probs and mismatch change the gradient of ``score`` and leave that of ``full`` alone."""

    def regularizer_gradient(estimator: str, with_old: bool) -> Tensor:
        policy, old, ref = models()
        batch = full_batch(ref, old).with_streams(advantages_BT=None)
        if not with_old:
            batch = batch.with_streams(old_logprobs_BT=None, rollout_logprobs_BT=None)
        run(policy, batch, objective("srkl", 1.0, estimator, alpha=0.5), normalisers(batch, algorithm()), ref)
        return policy.gradient()

    assert torch.equal(regularizer_gradient("full", True), regularizer_gradient("full", False))
    for estimator in ("score", "k2", "k3"):
        with_old, without = regularizer_gradient(estimator, True), regularizer_gradient(estimator, False)
        assert (with_old - without).norm() > 0.05 * without.norm(), estimator


def one_token(old: float | None, rollout: float, cap: float) -> tuple[float, float]:
    """d loss / d lp of one token at lp = 0 with advantage 1 and a rkl coefficient of 1: policy and regularizer."""
    gradients = []
    for part in ("policy", "regularizer"):
        lp = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        streams = FlatStreams(
            advantages_N=torch.ones(1) if part == "policy" else None,
            policy_weight_N=torch.ones(1),
            regularizer_weight_N=torch.ones(1) if part == "regularizer" else None,
            ref_logprobs_N=-torch.ones(1),
            old_logprobs_N=None if old is None else torch.tensor([old]),
            rollout_logprobs_N=torch.tensor([rollout]),
        )
        entry = REGULARIZERS["rkl"]
        target = Objective(algorithm(mismatch_cap=cap), entry.build(entry.config()), 1.0, "score")
        out = target(TokenStatistics(lp, torch.zeros(1)), streams, Normalisers(1, 1, 1))
        (gradient,) = torch.autograd.grad(out.loss, lp)
        gradients.append(float(gradient))
    return gradients[0], gradients[1]


def test_pitfall_09_the_mismatch_weight_is_truncated_and_detached():
    """exp(old − rollout): .5 passes, 4 is cut at the cap of 2, and 0 turns the correction off. A weight with a
    gradient would add a term to the derivative."""
    log2 = 0.6931471805599453
    assert one_token(0.0, log2, cap=2.0) == pytest.approx((-0.5, 0.5), rel=1e-6)
    assert one_token(0.0, -2 * log2, cap=2.0) == pytest.approx((-2.0, 2.0), rel=1e-6)
    assert one_token(0.0, -2 * log2, cap=0.0) == pytest.approx((-1.0, 1.0), rel=1e-6)
    assert one_token(0.0, 0.0, cap=2.0) == pytest.approx((-1.0, 1.0), rel=1e-6)
    assert one_token(0.0, -500.0, cap=2.0) == pytest.approx((-2.0, 2.0), rel=1e-6)
    assert one_token(None, log2, cap=2.0) == pytest.approx((-0.5, 0.5), rel=1e-6), "first pass: old is lp"


def test_pitfall_12_groups_without_variance_keep_their_regularizer_and_denominators():
    """All rewards of group 0 equal: its policy term is exactly 0, the counts and the penalty stay."""
    made = groups()
    for sample in made[0].samples:
        sample.reward = 1.0
    policy, _, ref = models()
    batch = make_batch(made, algorithm(), 1.0)
    assert batch.advantages_BT is not None and torch.equal(batch.advantages_BT[:4], torch.zeros(4, batch.width))
    assert batch.advantages_BT[4:].abs().sum() > 0
    norms = normalisers(batch, algorithm())
    assert norms.policy == 12 and norms.regularizer == batch.response_tokens
    alone = batch.select(range(4))
    rows, _ = positions(alone)
    assert len(rows) == 10
    scored = torch.zeros(alone.mask_BT.shape, dtype=torch.float64)
    scored[alone.mask_BT] = ref.statistics(alone).logprobs_N.detach()
    run(policy, alone.with_streams(ref_logprobs_BT=scored), objective("rkl", 0.0), norms)
    assert policy.gradient().abs().sum() == 0
    run(policy, alone.with_streams(ref_logprobs_BT=scored), objective("rkl", 1.0), norms)
    assert policy.gradient().norm() > 1e-3


def test_an_empty_micro_batch_gives_every_parameter_a_zero_gradient():
    """A rank without rows must still take part in the backward pass."""
    policy, old, ref = models()
    batch = full_batch(ref, old)
    out = run(policy, batch.select([]), objective("srkl", 1.0, "full"), normalisers(batch, algorithm()), ref)
    assert float(out.loss.detach()) == 0.0
    for parameter in policy.parameters():
        assert parameter.grad is not None and torch.equal(parameter.grad, torch.zeros_like(parameter))
    assert out.sums["train/entropy"] == (0.0, 0.0)


def test_with_every_component_off_the_backward_pass_still_reaches_the_parameters():
    """A batch that is only measured: zero gradients, which a sharded backward pass needs, and the entropy."""
    policy, _, _ = models()
    batch = make_batch(groups(), algorithm(), 1.0)
    stats = policy.statistics(batch)
    out = objective()(stats, FlatStreams(), normalisers(batch, algorithm()))
    out.loss.backward()
    assert set(out.sums) == {"train/entropy"} and out.shares == {"train/loss": 0.0}
    assert torch.equal(policy.gradient(), torch.zeros(policy.gradient().shape, dtype=torch.float64))


def test_an_empty_response_is_finite_and_counts_as_a_sequence():
    """Lengths 0 and 2: the mean over two sequences, of which one has no tokens."""
    policy, _, ref = models()
    batch = full_batch(ref, None, lengths=((0, 2),)).with_streams(rollout_logprobs_BT=None)
    norms = normalisers(batch, algorithm())
    assert norms == Normalisers(policy=2.0, regularizer=2.0, ce=1.0)
    out = run(policy, batch, objective("srkl", 1.0), norms)
    assert torch.isfinite(out.loss) and bool(torch.isfinite(policy.gradient()).all())
    # the second sample's advantage, on the mean over its own tokens, over two sequences; ratio 1
    assert batch.advantages_BT is not None
    assert out.shares["train/policy_loss"] == pytest.approx(-float(batch.advantages_BT[1, 0]) / 2, rel=1e-6)


def test_supervised_rows_train_on_their_weights_alone():
    """loss = sum(weight · −log p) / ce count; 0-weight tokens are neither trained nor counted."""
    policy, _, ref = models()
    batch = full_batch(ref, None)
    weight = batch.mask_BT.double() * 0.5
    weight[::2] = 0
    only = TokenBatch(batch.input_ids_BS, batch.prompt_lengths_B, batch.response_lengths_B, ce_weight_BT=weight)
    norms = normalisers(only, algorithm())
    assert norms.ce == int((weight > 0).sum())
    out = run(policy, only, Objective.supervised(), norms)
    lp = models()[0].statistics(batch).logprobs_N
    expected = float(-(weight[batch.mask_BT] * lp).sum().detach()) / norms.ce
    assert out.shares == {"train/ce_loss": pytest.approx(expected), "train/loss": pytest.approx(expected)}


def test_decisions_have_targets_other_than_the_sampled_token():
    """Three tokens at p = .25, of weight 1. The first is no decision: −log .25. The others are, with cross-entropies of
    3 and 5 toward their options; the last one's probability is not above its bound."""
    stats = TokenStatistics(
        torch.full((3,), 0.25).log().requires_grad_(), torch.zeros(3), cross_entropy_N=torch.tensor([9.0, 3.0, 5.0])
    )
    streams = FlatStreams(ce_weight_N=torch.ones(3), decision_bound_N=torch.tensor([float("nan"), -1.0, 0.3]))
    out = Objective.supervised()(stats, streams, Normalisers(1, 1, 2))
    assert out.shares["train/ce_loss"] == pytest.approx((math.log(4) + 3) / 2)
    assert out.sums["decision/cross_entropy"] == (8.0, 2.0), "of decisions, and of those that are off too"
    assert out.sums["decision/probability"] == pytest.approx((0.5, 2.0))
    assert out.sums["decision/bounded"] == (1.0, 2.0)


def test_metrics_by_hand():
    """lp = log .5, lr = log .25, so d = log 2: k3 = e^−d + d − 1 = .5 + .6931 − 1; alpha = .5: rho = .5/.375 = 4/3,
    coefficient log(4/3) − .5/3 = .28768 − .16667."""
    half, quarter = torch.tensor([0.5]).log(), torch.tensor([0.25]).log()
    stats = TokenStatistics(half.requires_grad_(), torch.tensor([0.7]))
    streams = FlatStreams(regularizer_weight_N=torch.ones(1), ref_logprobs_N=quarter)
    sums = objective("srkl", 1.0, alpha=0.5)(stats, streams, Normalisers(1, 1, 1)).sums
    assert sums["train/entropy"] == pytest.approx((0.7, 1))
    assert sums["regularizer/reverse_kl"] == pytest.approx((0.19315, 1), abs=1e-5)
    assert sums["regularizer/coefficient"] == pytest.approx((0.12102, 1), abs=1e-5)
    assert sums["regularizer/value"] == pytest.approx((0.75 + 0.28768 - 1, 1), abs=1e-5)
    exact = replace(stats, rkl_N=torch.tensor([0.11]))
    sums = objective("none")(exact, streams, Normalisers(1, 1, 1)).sums
    assert sums["regularizer/reverse_kl"] == pytest.approx((0.11, 1)), "the exact value, also without a penalty"


def test_certainty_is_a_mean_over_the_tokens_that_take_part():
    """Of four tokens the second is of a dropped group, and the fourth of a distilled row."""
    stats = TokenStatistics(
        torch.zeros(4, requires_grad=True), torch.zeros(4), certainty_N=torch.tensor([1.0, 20.0, 4.0, 300.0])
    )
    streams = FlatStreams(
        policy_weight_N=torch.tensor([1.0, 0, 0, 0]),
        regularizer_weight_N=torch.tensor([0, 0, 0.5, 0]),
        ce_weight_N=torch.tensor([0, 0, 0, 1.0]),
    )
    out = objective("none")(stats, streams, Normalisers(1, 1, 1))
    assert out.sums["train/certainty"] == (5.0, 2.0)
    assert float(out.loss.detach()) == 0.0, "it is in no loss"


def test_what_is_missing_is_said():
    stats = TokenStatistics(torch.zeros(1, requires_grad=True), torch.zeros(1))
    one = Normalisers(1, 1, 1)
    with pytest.raises(ValueError, match="reference"):
        objective("rkl", 1.0)(stats, FlatStreams(regularizer_weight_N=torch.ones(1)), one)
    with pytest.raises(ValueError, match=r"Objective\.exact"):
        streams = FlatStreams(regularizer_weight_N=torch.ones(1), ref_logprobs_N=torch.zeros(1))
        objective("rkl", 1.0, "full")(stats, streams, one)
    with pytest.raises(ValueError, match="options"):
        streams = FlatStreams(ce_weight_N=torch.ones(1), decision_bound_N=torch.zeros(1))
        Objective.supervised()(stats, streams, one)
    with pytest.raises(ValueError, match="algorithm"):
        Objective.supervised()(stats, FlatStreams(advantages_N=torch.ones(1)), one)
    with pytest.raises(ValueError, match="expected gradient"):
        objective("rkl", 1.0, "k1")
    with pytest.raises(ValueError, match="beta"):
        objective("rkl", -1.0)


def test_needs_hidden():
    """Hidden states for ``full``, and for the exact report of a run without a penalty."""
    for name, beta, estimator, hidden in (
        ("none", None, None, True),
        ("rkl", 1.0, "score", False),
        ("rkl", 1.0, "full", True),
        ("srkl", 0.0, "score", True),
    ):
        config = REGULARIZERS[name].config
        settings = config() if beta is None else config(beta=beta, estimator=estimator)
        assert needs_hidden(settings) is hidden


@pytest.mark.parametrize(
    ("where", "name", "wrong", "expected"),
    [
        ("streams", "advantages_N", torch.zeros(3), r"torch\.float32 \(3,\), but must be floating point \(2,\)"),
        ("streams", "regularizer_weight_N", torch.zeros(2, 1), r"torch\.float32 \(2, 1\)"),
        ("streams", "policy_weight_N", torch.ones(2, dtype=torch.int64), r"torch\.int64 \(2,\)"),
        ("streams", "lengths_B", torch.ones(2), r"must be torch\.int64 \(rows,\)"),
        ("streams", "strata_NM", torch.ones(2, 5, dtype=torch.bool), r"must be torch\.bool \(2, 6\)"),
        ("streams", "strata_NM", torch.ones(2, 6), r"torch\.float32 \(2, 6\), but must be torch\.bool"),
        ("stats", "entropy_N", torch.zeros(()), r"torch\.float32 \(\)"),
        ("stats", "logprobs_N", torch.zeros(1, 2), r"torch\.float32 \(1, 2\)"),
    ],
)
def test_a_stream_of_another_shape_or_dtype_is_refused_by_name(where, name, wrong, expected):
    """Several of these would broadcast, and give a loss that is a number and wrong."""
    given = {"stats": TokenStatistics(torch.zeros(2), torch.zeros(2)), "streams": FlatStreams()}
    objective()(**given, normalisers=Normalisers(1, 1, 1))
    given[where] = replace(given[where], **{name: wrong})
    with pytest.raises(ValueError, match=f"^{name} is .*{expected}"):
        objective()(**given, normalisers=Normalisers(1, 1, 1))
