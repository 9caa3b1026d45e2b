"""DPO as weighted likelihood against autograd through DPO itself, however the rows are cut and ordered.

Two ranks are in ``tests/backends/learners/test_fsdp2.py``. The model is in float64; -log sigmoid is written here.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from carerl.loss.batching import StepBatch
from carerl.loss.objective import Objective
from carerl.loss.packing import pack_rows
from carerl.loss.preferred import plan_preferred, with_preferences
from carerl.loss.streams import flatten
from tests.loss.batches import Toy, V, streams_of

BETA, NLL = 0.7, 0.2
TEMPERATURE = 0.8


@dataclass(frozen=True)
class Two:
    prompt_ids: tuple[int, ...]
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]


def drawn(
    lengths: Sequence[tuple[int, int, int]] = ((2, 3, 1), (1, 1, 4), (4, 2, 2), (3, 5, 3), (2, 1, 1)),
) -> list[Two]:
    """Pairs of unequal lengths: prompt, chosen, rejected."""
    draw = random.Random(1)
    return [Two(*(tuple(draw.randrange(V) for _ in range(n)) for n in each)) for each in lengths]


def toys(gap: float = 0.5) -> tuple[Toy, Toy]:
    """Policy and reference, which is ``gap`` away."""
    policy, reference = Toy(seed=0), Toy(seed=0)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter += gap * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return policy, reference


def logprob(model: Toy, prompt: tuple[int, ...], step: tuple[int, ...]) -> Tensor:
    """Of a step, one row alone."""
    return model.statistics(pack_rows([prompt], [step], TEMPERATURE)).logprobs_N.sum()


def dpo(policy: Toy, reference: Toy, pairs: Sequence[Two], beta: float, nll: float) -> Tensor:
    """The mean over pairs of -log sigmoid(h), and the mean over the chosen steps' tokens of their NLL."""
    losses, chosen = [], []
    for pair in pairs:
        lp_w, lp_l = (logprob(policy, pair.prompt_ids, ids) for ids in (pair.chosen_ids, pair.rejected_ids))
        lr_w, lr_l = (logprob(reference, pair.prompt_ids, ids).detach() for ids in (pair.chosen_ids, pair.rejected_ids))
        losses.append(-torch.nn.functional.logsigmoid(beta * ((lp_w - lr_w) - (lp_l - lr_l))))
        chosen.append(lp_w)
    tokens = sum(len(pair.chosen_ids) for pair in pairs)
    return torch.stack(losses).mean() - nll * torch.stack(chosen).sum() / tokens


def autograd(pairs: Sequence[Two], beta: float = BETA, nll: float = NLL, gap: float = 0.5) -> tuple[float, Tensor]:
    policy, reference = toys(gap)
    loss = dpo(policy, reference, pairs, beta, nll)
    loss.backward()
    return float(loss.detach()), policy.gradient()


def scored(
    pairs: Sequence[Two], beta: float = BETA, nll: float = NLL, gap: float = 0.5
) -> tuple[Toy, StepBatch, dict[str, float]]:
    policy, reference = toys(gap)
    step = plan_preferred(pairs, TEMPERATURE)
    streams = (streams_of(step.batch, model.statistics(step.batch).logprobs_N) for model in (policy, reference))
    return policy, *with_preferences(step, *streams, beta, nll)


def weighted(policy: Toy, step: StepBatch, split: Sequence[Sequence[int]]) -> Tensor:
    """The gradient as a learner sums it, which is given rows and weights alone."""
    objective, (minibatch,) = Objective.supervised(), step.minibatches
    for rows in split:
        part = step.batch.select(rows)
        objective(policy.statistics(part), flatten(part), minibatch.normalisers).loss.backward()
    return policy.gradient()


def error(found: Tensor, expected: Tensor) -> float:
    assert torch.isfinite(found).all()
    return float((found - expected).norm() / expected.norm())


SPLITS = {
    "whole": [list(range(10))],
    "rows": [[row] for row in range(10)],
    "pairs cut": [[0, 3, 7, 8], [], [9, 1], [2, 4, 5, 6]],
    "chosen apart": [[0, 2, 4, 6, 8], [9, 7, 5, 3, 1]],
}


@pytest.mark.parametrize("split", SPLITS)
@pytest.mark.parametrize("nll", [0.0, NLL])
def test_the_gradient_is_that_of_autograd_through_dpo_for_any_split(split: str, nll: float) -> None:
    loss, expected = autograd(drawn(), nll=nll)
    policy, step, metrics = scored(drawn(), nll=nll)
    assert error(weighted(policy, step, SPLITS[split]), expected) < 1e-10
    assert metrics["preference/loss"] == pytest.approx(loss, rel=1e-12)


def test_the_order_of_pairs_changes_nothing() -> None:
    _, expected = autograd(drawn())
    for seed in range(3):
        pairs = drawn()
        random.Random(seed).shuffle(pairs)
        policy, step, _ = scored(pairs)
        assert error(weighted(policy, step, SPLITS["pairs cut"]), expected) < 1e-10


def test_counting_pairs_by_micro_batch_would_differ() -> None:
    """The test of splits can fail: each part scored and divided by itself, and averaged, is another gradient."""
    _, expected = autograd(drawn())
    total = torch.zeros_like(expected)
    for part in (drawn()[:1], drawn()[1:]):
        policy, step, _ = scored(part)
        total += weighted(policy, step, [list(range(2 * len(part)))]) / 2
    assert error(total, expected) > 0.05


def test_where_policy_and_reference_agree_the_loss_is_log_2_and_the_pull_one_half() -> None:
    policy, step, metrics = scored(drawn(), nll=0.0, gap=0.0)
    assert metrics["preference/dpo_loss"] == pytest.approx(math.log(2), rel=1e-12)
    assert metrics["preference/margin"] == 0 and metrics["preference/accuracy"] == 0
    peer, _ = toys(0.0)
    pulls = [
        logprob(peer, pair.prompt_ids, pair.chosen_ids) - logprob(peer, pair.prompt_ids, pair.rejected_ids)
        for pair in drawn()
    ]
    (-BETA / 2 * torch.stack(pulls).mean()).backward()
    assert error(weighted(policy, step, SPLITS["rows"]), peer.gradient()) < 1e-10


def test_the_anchor_alone_is_the_mean_nll_of_the_chosen_tokens() -> None:
    """beta so small that DPO has no gradient; the mean is over tokens, so a long step counts for more."""
    _, expected = autograd(drawn(), beta=1e-14, nll=1.0)
    policy, step, metrics = scored(drawn(), beta=1e-14, nll=1.0)
    assert error(weighted(policy, step, SPLITS["whole"]), expected) < 1e-10
    plan = plan_preferred(drawn(), TEMPERATURE).batch.select(range(0, 10, 2))
    assert metrics["preference/nll"] == pytest.approx(
        -float(toys()[0].statistics(plan).logprobs_N.detach().mean()), rel=1e-12
    )


@pytest.mark.parametrize("sign", [1, -1])
def test_weights_are_finite_however_large_h_is(sign: int) -> None:
    """h = ±4,000: a lost pair has weight beta, a won one none; the loss of the lost one is -h."""
    pair = Two((1,), (2, 3), (4,))
    step = plan_preferred([pair])
    policy_BT = torch.tensor([[-1.0, -1.0], [-2.0, 0.0]])
    reference_BT = torch.tensor([[-1.0, -1.0 - sign * 2000.0], [-2.0 + sign * 2000.0, 0.0]])
    found, metrics = with_preferences(step, policy_BT, reference_BT, 1.0, 0.0)
    weight = 0.0 if sign > 0 else 1.0
    assert found.batch.ce_weight_BT.tolist() == [[weight, weight], [-weight, 0.0]]  # type: ignore[union-attr]
    assert metrics["preference/dpo_loss"] == (0.0 if sign > 0 else 4000.0)
    assert (len(found.minibatches), found.empty) == ((0, 1) if sign > 0 else (1, 0))
    anchored, _ = with_preferences(step, policy_BT, reference_BT, 1.0, 0.2)
    assert len(anchored.minibatches) == 1


def test_prompts_have_no_weight_and_padding_is_not_read() -> None:
    """What both steps share belongs to the prompt: a pair with a longer one has the weights of its steps alone."""
    step = plan_preferred(drawn())
    assert step.batch.ce_weight_BT is not None
    for row, (pair, chosen) in enumerate((pair, chosen) for pair in drawn() for chosen in (True, False)):
        ids = pair.chosen_ids if chosen else pair.rejected_ids
        start, length = int(step.batch.prompt_lengths_B[row]), int(step.batch.response_lengths_B[row])
        assert (start, length) == (len(pair.prompt_ids), len(ids))
        assert step.batch.input_ids_BS[row, : start + length].tolist() == [*pair.prompt_ids, *ids]
    rubbish = torch.where(step.batch.mask_BT, -1.5, float("nan"))
    weighed, metrics = with_preferences(step, rubbish, rubbish, BETA, NLL)
    assert torch.equal(weighed.batch.ce_weight_BT != 0, step.batch.mask_BT)  # type: ignore[operator]
    assert all(map(math.isfinite, metrics.values()))


def test_metrics_are_those_of_the_rows() -> None:
    """By hand: beta 0.5; log-ratios 1 and -1 in the first pair, 0.5 (two tokens) and 2 in the second."""
    step = plan_preferred([Two((1,), (2,), (3,)), Two((1,), (2, 3), (4,))])
    reference_BT = torch.tensor([[-2.0, 0.0], [-1.0, 0.0], [-1.0, -1.0], [-3.0, 0.0]], dtype=torch.float64)
    policy_BT = torch.tensor([[-1.0, 0.0], [-2.0, 0.0], [-0.75, -0.75], [-1.0, 0.0]], dtype=torch.float64)
    _, metrics = with_preferences(step, policy_BT, reference_BT, 0.5, 0.2)
    h = [0.5 * 2.0, 0.5 * -1.5]
    assert metrics == pytest.approx(
        {
            "preference/loss": sum(math.log1p(math.exp(-x)) for x in h) / 2 + 0.2 * 2.5 / 3,
            "preference/dpo_loss": sum(math.log1p(math.exp(-x)) for x in h) / 2,
            "preference/nll": 2.5 / 3,
            "preference/margin": sum(h) / 2,
            "preference/accuracy": 0.5,
            "preference/pull": sum(1 / (1 + math.exp(x)) for x in h) / 2,
            "preference/chosen_logprob": (-1 - 1.5) / 2,
            "preference/rejected_logprob": (-2 - 1) / 2,
            "preference/chosen_log_ratio": (1 + 0.25) / 2,
            "preference/rejected_log_ratio": (-1 + 2) / 2,
            "preference/pairs": 2,
        }
    )


def test_what_cannot_be_learned_from_is_refused() -> None:
    with pytest.raises(ValueError, match="no pairs"):
        plan_preferred([])
    pair = drawn()[0]
    for wrong in (replace(pair, rejected_ids=pair.chosen_ids), replace(pair, rejected_ids=())):
        with pytest.raises(ValueError, match="empty or equal"):
            plan_preferred([wrong])
    step = plan_preferred([pair])
    good_BT = torch.full(step.batch.mask_BT.shape, -1.0)
    with pytest.raises(ValueError, match="log-probs are"):
        with_preferences(step, good_BT[:1], good_BT, BETA, NLL)
    for bad in (float("nan"), -math.inf):
        broken_BT = good_BT.clone()
        broken_BT[0, 0] = bad
        with pytest.raises(ValueError, match="not finite"):
            with_preferences(step, broken_BT, good_BT, BETA, NLL)
