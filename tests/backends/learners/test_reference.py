"""The reference in its two places, on two ranks of which one may be without rows: the gradients are those of a plain
implementation, and so are the scores.

``test_fsdp2.py`` has that implementation. From actors a rank gets the streams of its own rows and no others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from carerl.actors.workers.reference import ReferenceWorker
from carerl.backends.initial import init_tiny
from carerl.backends.learners import reference
from carerl.backends.learners.fsdp2 import mesh_of
from carerl.backends.learners.loop import LearnerLoop
from carerl.backends.learners.reference import FrozenPolicy, ShardedReference, load_frozen
from carerl.backends.learners.split import deal
from carerl.backends.learners.starting import in_memory
from carerl.backends.models import make_model, save_model
from carerl.config.load import load
from carerl.config.schema import LearnerConfig, ShapeConfig
from carerl.loss.batching import Minibatch
from carerl.loss.packing import pack_rows
from carerl.loss.streams import with_shares
from carerl.types import TokenBatch
from tests.backends.learners.ranks import on_ranks
from tests.backends.learners.test_fsdp2 import (
    EMPTY_RANK,
    MINIBATCHES,
    TWO_EPOCHS,
    ReadGradient,
    batch,
    largest_relative_error,
    learner,
    log_softmax_of_response,
    model,
    parts,
    plain_gradients,
)

F64 = torch.float64
CUTS = {"uneven": MINIBATCHES, "empty rank": EMPTY_RANK, "two epochs": TWO_EPOCHS}


def bare() -> TokenBatch:
    return batch(F64).with_streams(ref_hidden=None)


def from_two_actors(rows: TokenBatch, minibatches: list[Minibatch], hidden: bool) -> TokenBatch:
    """The batch as this rank gets it: two actors score even and odd rows, at most three and 40 tokens a pass."""
    lengths_B = rows.prompt_lengths_B + rows.response_lengths_B
    owners = deal(lengths_B, [part.rows for part in minibatches], dist.get_world_size())
    shares = []
    for odd in (0, 1):
        worker = ReferenceWorker()
        worker._rows, worker._tokens, worker._policy = 3, 40, FrozenPolicy(model(2, F64), 7)
        for_ranks = [[row for row in range(odd, rows.rows, 2) if owners[row] == rank] for rank in range(2)]
        shares.append(worker.streams(rows, for_ranks, hidden)[dist.get_rank()])  # type: ignore[index]
    found = with_shares(rows, shares)
    if found.ref_logprobs_BT is not None:
        others = [row for row, owner in enumerate(owners) if owner != dist.get_rank()]
        assert bool((found.ref_logprobs_BT[others] == 0).all()), "of other ranks' rows nothing has come"
        found.ref_logprobs_BT[others] = float("nan")
    return found


def on_the_ranks(made: Any) -> ShardedReference:
    cpu = torch.device("cpu")
    return ShardedReference(in_memory(made), 7, mesh_of(LearnerConfig(), cpu), cpu)


def updated(place: str, estimator: str, cut: Any) -> list[dict[str, Tensor]]:
    made = learner(ReadGradient, F64, estimator, 2, 7)
    rows, minibatches, hidden = bare(), parts(bare(), cut), estimator == "full"
    if place == "actors":
        made.update(from_two_actors(rows, minibatches, hidden), minibatches, 1e-2)
    else:
        with on_the_ranks(model(2, F64)).gathered(made, hidden) as add:
            made.update(rows, minibatches, 1e-2, add_reference=add)
        assert not hidden or made.shards.policy.frozen_ref_head_VD is None, "nobody keeps the whole head"
    return made.shards.gradients  # type: ignore[attr-defined,no-any-return]


def scored(place: str) -> tuple[list[int], dict[str, Tensor]]:
    made: LearnerLoop = learner(ReadGradient, F64, "full", 5, 7)
    rows, minibatches = bare(), parts(bare(), EMPTY_RANK)
    if place == "actors":
        return made.log_probs(from_two_actors(rows, minibatches, True), minibatches)
    with on_the_ranks(model(2, F64)).gathered(made, True) as add:
        return made.log_probs(rows, minibatches, add)


def kept_gathered() -> list[int]:
    """Numbers that this rank's reference holds: before, within and after a pass, of layers, embedding and head."""
    usual, reference.SMALLEST_UNIT = reference.SMALLEST_UNIT, 0
    try:
        untied = model(2, F64)
        untied.lm_head.weight = torch.nn.Parameter(untied.lm_head.weight.detach().clone())
        sharded = on_the_ranks(untied)
        policy = sharded._policy
    finally:
        reference.SMALLEST_UNIT = usual
    made, counts = learner(ReadGradient, F64, "full", 5, 7), []

    def count() -> None:
        counts.append(sum(p.to_local().numel() if hasattr(p, "to_local") else p.numel() for p in policy.parameters()))

    count()
    with sharded.gathered(made, True) as add:
        add(bare())
        count()
    count()
    return counts


def asked_of_two_ranks() -> dict[str, Any]:
    return {
        **{
            f"{place} {estimator} {case}": updated(place, estimator, cut)
            for place in ("actors", "learner")
            for estimator in ("score", "full")
            for case, cut in CUTS.items()
        },
        "scores of actors": scored("actors"),
        "scores of learner": scored("learner"),
        "kept": kept_gathered(),
    }


@pytest.fixture(scope="module")
def two_ranks() -> dict[str, Any]:
    return on_ranks(2, asked_of_two_ranks)  # type: ignore[no-any-return]


@pytest.mark.slow
@pytest.mark.parametrize("case", CUTS)
@pytest.mark.parametrize("estimator", ["score", "full"])
def test_gradients_are_the_plain_ones_wherever_the_reference_is(two_ranks: Any, estimator: str, case: str) -> None:
    expected = plain_gradients(F64, estimator, CUTS[case])
    for place in ("actors", "learner"):
        assert largest_relative_error(two_ranks[f"{place} {estimator} {case}"], expected) < 1e-10, place


@pytest.mark.slow
def test_exact_divergences_of_a_scoring_pass_are_equal_in_both_places(two_ranks: Any) -> None:
    (rows, found), (same_rows, same) = two_ranks["scores of actors"], two_ranks["scores of learner"]
    assert rows == same_rows and 0 < len(rows) < 12
    whole, network, frozen = bare(), model(1, F64), model(2, F64)
    for number, row in enumerate(rows):
        length = int(whole.response_lengths_B[row])
        logp, logr = (log_softmax_of_response(each, row, whole) for each in (network, frozen))
        expected = (logp.exp() * (logp - logr)).sum(-1).detach().float()
        torch.testing.assert_close(found["rkl"][number, :length], expected)
        torch.testing.assert_close(same["rkl"][number, :length], expected)


@pytest.mark.slow
def test_between_passes_a_rank_holds_its_share_alone_and_within_one_the_head_beside_it(two_ranks: Any) -> None:
    """V × D = 23 × 16 is the head; the embedding is as large and is given up within the pass, like the layers."""
    before, within, after = two_ranks["kept"]
    whole = sum(p.numel() for p in model(2, F64).parameters()) + 23 * 16  # untied
    assert before == after < 0.52 * whole
    assert before + 23 * 16 / 2 <= within < before + 23 * 16 / 2 + 16  # the final norm is gathered with the head


def test_a_reference_in_bfloat16_is_no_further_off_at_late_positions_than_at_early_ones(tmp_path: Path) -> None:
    """It would be if its rotary frequencies were rounded with its weights: twice as far after 800 tokens."""
    generator = torch.Generator().manual_seed(1)
    shape = ShapeConfig(vocab_size=512, hidden_size=128, num_layers=4, head_dim=64, context_length=1024)
    made = make_model(shape, (1,), lambda network: init_tiny(network, generator))
    save_model(tmp_path, made.config, {n: p.detach() for n, p in made.named_parameters()}, None)
    ids = torch.randint(2, 500, (4, 900), generator=generator).tolist()
    rows = pack_rows([row[:10] for row in ids], [row[10:] for row in ids])

    def logprobs(dtype: str) -> Tensor:
        config = load(["recipe=care_grpo_tiny", f"reference.compute_dtype={dtype}"])
        return load_frozen(config, str(tmp_path), torch.device("cpu")).scores(rows, False).reshape(4, -1)

    gap = (logprobs("bfloat16") - logprobs("float32")).abs()
    early, late = float(gap[:, :200].mean()), float(gap[:, -200:].mean())
    assert early > 0 and late < 1.3 * early
