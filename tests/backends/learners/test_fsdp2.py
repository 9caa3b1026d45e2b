"""The sharded learner against a plain single-process implementation written here from the formulas.

Covered: loss, gradient and parameters of GRPO with SRKL (score and full), any split into micro-batches, 1 or 2
ranks, uneven ones and an empty one, an empty response, checkpoints on another number of ranks. Not covered: GPUs
and NCCL; the regularizers' own mathematics (``tests/regularizers``).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from carerl.algorithms import ALGORITHMS
from carerl.algorithms.grpo import GRPOConfig
from carerl.backends.hashed import Written
from carerl.backends.learners import fsdp2
from carerl.backends.learners.fsdp2 import FSDP2Shards
from carerl.backends.learners.loop import LearnerLoop
from carerl.backends.learners.policy import Policy
from carerl.backends.learners.starting import in_memory
from carerl.backends.models import make_model
from carerl.config.schema import LearnerConfig, OptimizerConfig, ShapeConfig
from carerl.loss.batching import Minibatch, make_batch, normalisers
from carerl.loss.objective import Objective
from carerl.loss.preferred import plan_preferred, with_preferences
from carerl.loss.strata import STRATA
from carerl.preferences.records import Pair
from carerl.records.vectors import TokenVectors
from carerl.regularizers import REGULARIZERS
from carerl.regularizers.srkl import SRKLConfig
from carerl.types import Example, Group, Sample, TokenBatch
from tests.backends.learners.ranks import on_ranks

BETA, ALPHA, CLIP, TEMPERATURE = 3.0, 0.8, 0.2, 0.7
LENGTHS = ((3, 6), (1, 8), (5, 2), (4, 7), (2, 3), (0, 5))  # responses of six groups of two; one is empty
MINIBATCHES = ((0, 1, 4, 5, 6, 7), (2, 3, 8, 9, 10, 11))
REAL = 20  # tokens of the head's 23 rows; the others pad it


def model(seed: int, dtype: torch.dtype) -> Any:
    torch.manual_seed(seed)
    shape = ShapeConfig(vocab_size=23, hidden_size=16, intermediate_size=24, num_layers=2, head_dim=8)
    made = make_model(shape, (1,))
    for name, module in list(made.named_modules()):
        if type(module).__name__.endswith("RMSNorm"):  # transformers' own computes in float32 whatever it is given
            exact = torch.nn.RMSNorm(module.weight.shape[0], eps=module.variance_epsilon)
            made.get_submodule(name.rpartition(".")[0]).register_module(name.rpartition(".")[2], exact)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return made.to(dtype)


def batch(dtype: torch.dtype) -> TokenBatch:
    generator = torch.Generator().manual_seed(5)

    def ids(n: int) -> tuple[int, ...]:
        return tuple(torch.randint(0, 23, (n,), generator=generator).tolist())

    groups = [
        Group(
            Example(f"e{g}", ids(2 + g), ""),
            [
                Sample(f"e{g}", ids(n), (-1.0,) * n, False, (0, 0), reward=float((g + k) % 3))
                for k, n in enumerate(pair)
            ],
        )
        for g, pair in enumerate(LENGTHS)
    ]
    made = make_batch(groups, ALGORITHMS["grpo"].build(GRPOConfig()), TEMPERATURE)
    policy = Policy(model(2, dtype).requires_grad_(False), 1000)
    hidden = TokenVectors.whole(policy.hidden(made), made.response_lengths_B)
    doubles = {
        name: getattr(made, name).to(dtype)
        for name in ("advantages_BT", "policy_weight_BT", "regularizer_weight_BT", "rollout_logprobs_BT")
    }
    if dtype == torch.float64:  # thirds and sevenths were rounded to float32 on the way
        doubles["policy_weight_BT"] = made.mask_BT / made.response_lengths_B[:, None].clamp(min=1).double()
    return made.with_streams(ref_hidden=hidden, **doubles)


class ReadGradient(FSDP2Shards):
    """Keeps each minibatch's gradient and leaves the weights alone."""

    def step(self, lr: float) -> float:
        self.gradients = getattr(self, "gradients", [])
        self.gradients.append({n: p.grad.full_tensor().clone() for n, p in self.policy.named_parameters()})
        self.optimizer.zero_grad()
        return 0.0


def learner(kind: type[FSDP2Shards], dtype: torch.dtype, estimator: str, micro: int, chunk: int) -> LearnerLoop:
    algorithm = ALGORITHMS["grpo"].build(GRPOConfig())
    regularizer = REGULARIZERS["srkl"].build(SRKLConfig(alpha=ALPHA))
    name = str(dtype).removeprefix("torch.")
    config = LearnerConfig(
        micro_batch_rows=micro,
        head_chunk_tokens=chunk,
        compute_dtype=name,
        optimizer=OptimizerConfig(lr=1e-2, grad_clip=1.0),
    )
    objective = Objective(algorithm, regularizer, BETA, estimator)
    made = LearnerLoop(kind(in_memory(model(1, dtype)), config, torch.device("cpu")), config, objective)
    made.set_reference_head(model(2, dtype).get_output_embeddings().weight.detach())
    return made


def parts(rows: TokenBatch, cut: Any = MINIBATCHES) -> list[Minibatch]:
    algorithm = ALGORITHMS["grpo"].build(GRPOConfig())
    return [Minibatch(tuple(part), normalisers(rows.select(part), algorithm)) for part in cut]


def gradients(
    dtype: torch.dtype, estimator: str, micro: int, chunk: int, cut: Any = MINIBATCHES
) -> list[dict[str, Tensor]]:
    made = learner(ReadGradient, dtype, estimator, micro, chunk)
    rows = batch(dtype)
    made.update(rows, parts(rows, cut), 1e-2)
    return made.shards.gradients  # type: ignore[attr-defined,no-any-return]


def layer_by_layer(function: Callable[..., Any], *arguments: Any) -> Any:
    """With every layer gathered by itself, as those of large models are; these here are small enough to go together."""
    usual, fsdp2.SMALLEST_UNIT = fsdp2.SMALLEST_UNIT, 0
    try:
        return function(*arguments)
    finally:
        fsdp2.SMALLEST_UNIT = usual


def with_everything_on(checkpointing: bool) -> tuple[list[dict[str, Tensor]], dict[str, float]]:
    """GSPO with masked sequences, an entropy bonus and strata, two minibatches; gradients and metrics."""
    gspo = ALGORITHMS["gspo"]
    settings = {"clip_low": 0.03, "mismatch_cap": 4.0, "mismatch_correction": "sequence_mask", "entropy_bonus": 0.1}
    algorithm = gspo.build(gspo.config(**settings))
    config = LearnerConfig(
        micro_batch_rows=2, head_chunk_tokens=7, compute_dtype="float64", gradient_checkpointing=checkpointing
    )
    regularizer = REGULARIZERS["srkl"].build(SRKLConfig(alpha=ALPHA))
    shards = ReadGradient(in_memory(model(1, torch.float64)), config, torch.device("cpu"))
    made = LearnerLoop(shards, config, Objective(algorithm, regularizer, BETA, "full"))
    made.set_vocabulary(REAL)
    made.set_reference_head(model(2, torch.float64).get_output_embeddings().weight.detach())
    rows = batch(torch.float64)
    strata_BM = torch.arange(rows.rows)[:, None] % torch.arange(1, len(STRATA) + 1)[None, :] == 0
    third_B1 = torch.arange(rows.rows)[:, None] % 3 == 0  # the engine found these far likelier than the learner
    rollout_BT = rows.mask_BT.double() * (-math.log(23) + 4 * third_B1)
    rows = rows.with_streams(
        entropy_weight_BT=rows.mask_BT.double(), strata_BM=strata_BM, rollout_logprobs_BT=rollout_BT
    )
    cut = [Minibatch(tuple(part), normalisers(rows.select(part), algorithm)) for part in MINIBATCHES]
    metrics = made.update(rows, cut, 1e-2)
    return made.shards.gradients, metrics


def weights(made: LearnerLoop) -> dict[str, Tensor]:
    own = next(made.shards.policy.parameters()).dtype
    return {name: tensor.clone() for name, tensor in made.source(own)}


def trained(
    dtype: torch.dtype, estimator: str, micro: int, cut: Any = MINIBATCHES
) -> tuple[dict[str, Tensor], dict[str, float]]:
    made = learner(FSDP2Shards, dtype, estimator, micro, 7)
    rows = batch(dtype)
    metrics = made.update(rows, parts(rows, cut), 1e-2)
    return weights(made), metrics


# ---- the plain implementation ---------------------------------------------------------------------------------


def log_softmax_of_response(network: Any, row: int, rows: TokenBatch) -> Tensor:
    """(T, V) log-probs at the response positions of one row, alone and unpadded."""
    prompt, response = int(rows.prompt_lengths_B[row]), int(rows.response_lengths_B[row])
    ids = rows.input_ids_BS[row, : prompt + response][None]
    logits = network(input_ids=ids).logits[0, prompt - 1 : prompt + response - 1]
    return torch.log_softmax(logits / TEMPERATURE, dim=-1)


def plain_loss(network: Any, reference: Any, rows: TokenBatch, part: Any, old: list[Tensor], estimator: str) -> Tensor:
    """GRPO's clipped loss plus beta times the mean over tokens of KL(pi || alpha pi + (1 - alpha) ref)."""
    parts = plain_parts(network, reference, rows, part, old, estimator)
    return parts["policy"] + parts["regularizer"]


def plain_parts(
    network: Any, reference: Any, rows: TokenBatch, part: Any, old: list[Tensor], estimator: str
) -> dict[str, Tensor]:
    """The policy term, the penalty, and the mean over tokens of the entropy."""
    policy_sum = penalty_sum = entropy_sum = torch.zeros((), dtype=rows.advantages_BT.dtype)  # type: ignore[union-attr]
    tokens = 0
    for row in part:
        length = int(rows.response_lengths_B[row])
        if length == 0:
            continue
        logp = log_softmax_of_response(network, row, rows)
        logr = log_softmax_of_response(reference, row, rows).detach()
        start = int(rows.prompt_lengths_B[row])
        ids = rows.input_ids_BS[row, start : start + length]
        lp, lr = logp.gather(1, ids[:, None])[:, 0], logr.gather(1, ids[:, None])[:, 0]
        advantage = rows.advantages_BT[row, :length]  # type: ignore[index]
        ratio = torch.exp(lp - old[row])
        policy_sum = policy_sum - torch.min(ratio * advantage, ratio.clamp(1 - CLIP, 1 + CLIP) * advantage).mean()
        if estimator == "full":
            mixture = torch.log(ALPHA * logp.exp() + (1 - ALPHA) * logr.exp())
            penalty_sum = penalty_sum + (logp.exp() * (logp - mixture)).sum()
        else:
            rho = lp.exp() / (ALPHA * lp.exp() + (1 - ALPHA) * lr.exp())
            coefficient = (torch.log(rho) - ALPHA * (rho - 1)) * ratio
            penalty_sum = penalty_sum + (coefficient.detach() * lp).sum()
        entropy_sum = entropy_sum - (logp.exp() * logp).sum()
        tokens += length
    return {
        "policy": policy_sum / len(part), "regularizer": BETA * penalty_sum / tokens, "entropy": entropy_sum / tokens
    }  # fmt: skip


def old_logprobs(network: Any, rows: TokenBatch) -> list[Tensor]:
    found = []
    for row in range(rows.rows):
        start, length = int(rows.prompt_lengths_B[row]), int(rows.response_lengths_B[row])
        ids = rows.input_ids_BS[row, start : start + length]
        found.append(log_softmax_of_response(network, row, rows).gather(1, ids[:, None])[:, 0].detach())
    return found


def plain_gradients(dtype: torch.dtype, estimator: str, cut: Any = MINIBATCHES) -> list[dict[str, Tensor]]:
    network, reference, rows = model(1, dtype), model(2, dtype), batch(dtype)
    old = old_logprobs(network, rows)
    found = []
    for part in cut:
        network.zero_grad()
        plain_loss(network, reference, rows, part, old, estimator).backward()
        found.append({f"model.{n}": p.grad.clone() for n, p in network.named_parameters()})
    return found


def largest_relative_error(found: list[dict[str, Tensor]], expected: list[dict[str, Tensor]]) -> float:
    """Of the whole gradient vector, in the Euclidean norm, worst minibatch. ``max`` would drop what is no number."""
    worst = 0.0
    for mine, theirs in zip(found, expected, strict=True):
        assert set(mine) == set(theirs)
        gap = sum(float((mine[n] - theirs[n]).double().square().sum()) for n in mine) ** 0.5
        assert math.isfinite(gap)
        worst = max(worst, gap / sum(float(t.double().square().sum()) for t in theirs.values()) ** 0.5)
    return worst


# ---- tests ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("estimator", ["score", "full"])
def test_two_optimizer_steps_equal_the_plain_implementation(estimator: str) -> None:
    """The second minibatch is off-policy by one step, so ratio, clipping and importance weight take part."""
    assert_trained_as_plainly(on_ranks(1, trained, torch.float64, estimator, 5), estimator, MINIBATCHES)


def test_a_second_epoch_on_two_ranks_equals_the_plain_implementation(two_ranks: Any) -> None:
    """Rows are met again, on another rank perhaps, with the log-probs of the weights that they were sampled with."""
    assert_trained_as_plainly(two_ranks[1]["two epochs"], "score", TWO_EPOCHS)


def assert_trained_as_plainly(found: tuple[dict[str, Tensor], dict[str, float]], estimator: str, cut: Any) -> None:
    weights, metrics = found
    network, reference, rows = model(1, torch.float64), model(2, torch.float64), batch(torch.float64)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-2, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0)
    old = old_logprobs(network, rows)
    losses = []
    for part in cut:
        loss = plain_loss(network, reference, rows, part, old, estimator)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    assert metrics["train/loss"] == pytest.approx(sum(losses) / len(losses), rel=1e-10)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(weights[name], parameter.detach(), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("estimator", ["score", "full"])
@pytest.mark.parametrize(("micro", "chunk"), [(1, 3), (4, 1000), (100, 5)])
def test_pitfall_01_gradient_is_the_same_for_any_split(estimator: str, micro: int, chunk: int) -> None:
    expected = plain_gradients(torch.float64, estimator)
    found = on_ranks(1, gradients, torch.float64, estimator, micro, chunk)
    assert largest_relative_error(found, expected) < 1e-10


# On two ranks six rows come out uneven in tokens, and a minibatch of one row leaves a rank without any.
EMPTY_RANK = ((3,), (0, 5, 7))
# The second epoch cuts the rows otherwise, as a fresh shuffle does.
TWO_EPOCHS = (*MINIBATCHES, (0, 1, 2, 3, 10, 11), (4, 5, 6, 7, 8, 9))


def all_that_two_ranks_are_asked(directory: str) -> dict[str, Any]:
    """In one start of the processes, since that takes longer than all of it."""
    save_after_one_update(directory)
    return {
        "uneven": gradients(torch.float64, "full", 2, 7),
        "empty rank": gradients(torch.float64, "full", 2, 7, EMPTY_RANK),
        "float32": gradients(torch.float32, "full", 1, 3),
        "score": gradients(torch.float64, "score", 2, 7),
        "layer by layer": layer_by_layer(gradients, torch.float64, "full", 2, 7),
        "empty rank, layer by layer": layer_by_layer(gradients, torch.float64, "full", 2, 7, EMPTY_RANK),
        "two epochs": trained(torch.float64, "score", 5, TWO_EPOCHS),
        "everything on": with_everything_on(checkpointing=False),
        "preferences": [preferred(micro) for micro in (1, 3)],
    }


# Five pairs of unequal steps: ten rows, so that ranks and micro-batches of three cut pairs apart.
PAIRS = [
    Pair(
        f"e{n}", (1 + n, 2, 3)[: 1 + n % 3], 0, (4, 5, 6, n)[: 1 + n % 4], (7 + n, 8, 9)[: 1 + n % 2], "wrong", 0.5, 0.5
    )
    for n in range(5)
]
DPO_BETA, NLL_WEIGHT = 0.7, 0.2


def pair_logprobs(network: Any, rows: TokenBatch) -> list[Tensor]:
    """Of every row's tokens, from the plain model, with a gradient."""
    starts, lengths = rows.prompt_lengths_B.tolist(), rows.response_lengths_B.tolist()
    found = []
    for row, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        ids = rows.input_ids_BS[row, start : start + length]
        found.append(log_softmax_of_response(network, row, rows).gather(1, ids[:, None])[:, 0])
    return found


def preferred(micro: int) -> list[dict[str, Tensor]]:
    """The gradient of a learner that is given rows and weights alone, scored by the plain model."""
    step = plan_preferred(PAIRS, TEMPERATURE)
    streams = []
    for seed in (1, 2):
        stream_BT = torch.zeros(step.batch.mask_BT.shape, dtype=torch.float64)
        stream_BT[step.batch.mask_BT] = torch.cat(pair_logprobs(model(seed, torch.float64), step.batch)).detach()
        streams.append(stream_BT)
    step, _ = with_preferences(step, *streams, DPO_BETA, NLL_WEIGHT)
    config = LearnerConfig(micro_batch_rows=micro, head_chunk_tokens=3, compute_dtype="float64")
    shards = ReadGradient(in_memory(model(1, torch.float64)), config, torch.device("cpu"))
    LearnerLoop(shards, config, Objective.supervised()).update(step.batch, step.minibatches, 1e-2)
    return shards.gradients


def plain_preferred() -> dict[str, Tensor]:
    """The gradient of DPO with the anchor, by autograd through -log sigmoid."""
    network, reference = model(1, torch.float64), model(2, torch.float64)
    rows = plan_preferred(PAIRS, TEMPERATURE).batch
    lp, lr = pair_logprobs(network, rows), [found.detach() for found in pair_logprobs(reference, rows)]
    ratio = [(mine - theirs).sum() for mine, theirs in zip(lp, lr, strict=True)]
    h = torch.stack([DPO_BETA * (w - r) for w, r in zip(ratio[::2], ratio[1::2], strict=True)])
    loss = -torch.nn.functional.logsigmoid(h).mean() - NLL_WEIGHT * torch.cat(lp[::2]).mean()
    loss.backward()
    return {f"model.{n}": p.grad.clone() for n, p in network.named_parameters()}


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    directory = tmp_path_factory.mktemp("checkpoint") / "c"
    return directory, on_ranks(2, all_that_two_ranks_are_asked, str(directory))


def test_pairs_cut_apart_by_ranks_and_micro_batches_have_the_gradient_of_dpo(two_ranks: Any) -> None:
    expected = [plain_preferred()]
    for found in (on_ranks(1, preferred, 3), *two_ranks[1]["preferences"]):
        assert largest_relative_error(found, expected) < 1e-10


@pytest.mark.parametrize(
    ("case", "estimator", "cut"),
    [("uneven", "full", MINIBATCHES), ("empty rank", "full", EMPTY_RANK), ("score", "score", MINIBATCHES),
     ("layer by layer", "full", MINIBATCHES), ("empty rank, layer by layer", "full", EMPTY_RANK)],
)  # fmt: skip
def test_pitfall_02_gradient_is_the_same_on_two_ranks(two_ranks: Any, case: str, estimator: str, cut: Any) -> None:
    assert largest_relative_error(two_ranks[1][case], plain_gradients(torch.float64, estimator, cut)) < 1e-10


@pytest.mark.parametrize("checkpointing", [False, True])
def test_sequence_ratios_masks_entropy_and_strata_are_the_same_on_two_ranks(
    two_ranks: Any, checkpointing: bool
) -> None:
    """And recomputing activations in the backward pass, as large models do, changes nothing."""
    expected, metrics = two_ranks[1]["everything on"]
    found, alone = on_ranks(1, with_everything_on, checkpointing)
    assert largest_relative_error(found, expected) < 1e-10
    assert 0 < metrics["train/mismatch_masked"] < 1 and "regularizer/value_wrong" in metrics
    assert alone == pytest.approx(metrics, rel=1e-9)


def test_every_token_counts_once_in_what_engine_and_learner_differ_by(two_ranks: Any) -> None:
    """On two ranks, where a row of the second minibatch may be scored by one and trained by the other."""
    rows = batch(torch.float64)
    rollouts = [-math.log(23) + 4 * (row % 3 == 0) for row in range(rows.rows)]
    old = old_logprobs(model(1, torch.float64), rows)
    gaps = sorted(abs(float(logp) - given) for own, given in zip(old, rollouts, strict=True) for logp in own)
    metrics = two_ranks[1]["everything on"][1]
    assert len(gaps) < 1000
    assert metrics["rollout/mismatch_mean"] == pytest.approx(sum(gaps) / len(gaps), rel=1e-5)
    assert metrics["rollout/mismatch_q999"] == pytest.approx(gaps[-2], rel=0.011)
    assert metrics["rollout/mismatch_max"] == pytest.approx(gaps[-1], rel=1e-5)


def test_certainty_is_a_mean_over_the_tokens_of_all_ranks(two_ranks: Any) -> None:
    """Also where one rank has more tokens than the other."""
    network, rows = model(1, torch.float64), batch(torch.float64)
    logp_NV = torch.cat([log_softmax_of_response(network, row, rows) for row in range(rows.rows)]).detach()
    wanted = float(certainty_of_real(logp_NV).mean())
    assert two_ranks[1]["everything on"][1]["train/certainty"] == pytest.approx(wanted, rel=1e-10)


def certainty_of_real(logp_NV: Tensor) -> Tensor:
    """KL(uniform ‖ p) over the real tokens, from its definition."""
    real_NV = logp_NV[:, :REAL].softmax(-1)
    return -(real_NV * REAL).log().mean(-1)


def test_gradient_in_single_precision_is_the_same_on_two_ranks(two_ranks: Any) -> None:
    one = on_ranks(1, gradients, torch.float32, "full", 100, 1000)
    assert largest_relative_error(two_ranks[1]["float32"], one) < 1e-5


def test_normalising_by_local_counts_would_be_noticed() -> None:
    """The tests above can fail: averaging each rank's own mean gives another gradient on this batch."""
    whole = plain_gradients(torch.float64, "full", ((0, 1, 4, 5, 6, 7),))
    halves = plain_gradients(torch.float64, "full", ((0, 1, 4), (5, 6, 7)))
    naive = [{name: (halves[0][name] + halves[1][name]) / 2 for name in halves[0]}]
    assert largest_relative_error(naive, whole) > 1e-3


def scores_of_rows(rows_per_pass: int) -> dict[str, Tensor]:
    made = learner(FSDP2Shards, torch.float64, "full", rows_per_pass, 7)
    made.set_vocabulary(REAL)
    rows, streams = made.log_probs(batch(torch.float64))
    whole = {name: torch.zeros(12, stream.shape[1]) for name, stream in streams.items()}
    for name, stream in streams.items():
        whole[name][rows] = stream
    return whole


def test_scores_equal_row_by_row_evaluation() -> None:
    found = on_ranks(1, scores_of_rows, 5)
    network, reference, rows = model(1, torch.float64), model(2, torch.float64), batch(torch.float64)
    old = old_logprobs(network, rows)
    for row in range(rows.rows):
        length = int(rows.response_lengths_B[row])
        logp, logr = log_softmax_of_response(network, row, rows), log_softmax_of_response(reference, row, rows)
        kl = (logp.exp() * (logp - logr)).sum(-1).detach()
        entropy = -(logp.exp() * logp).sum(-1).detach()
        torch.testing.assert_close(found["logprobs"][row, :length], old[row].float())
        torch.testing.assert_close(found["rkl"][row, :length], kl.float())
        torch.testing.assert_close(found["entropy"][row, :length], entropy.float())
        torch.testing.assert_close(found["certainty"][row, :length], certainty_of_real(logp.detach()).float())
        assert bool((found["logprobs"][row, length:] == 0).all())


def save_after_one_update(directory: str) -> None:
    made = learner(FSDP2Shards, torch.float64, "full", 5, 7)
    rows = batch(torch.float64)
    made.update(rows, parts(rows), 1e-2)
    write = made.save(Path(directory))
    with ThreadPoolExecutor() as beside:  # what training does meanwhile is not in the checkpoint
        written = beside.submit(write)
        for _ in range(2):
            made.update(rows, parts(rows), 1e-2)
        own = written.result()
    check_sums(own)
    assert Path(directory, f"__{dist.get_rank()}_0.distcp") in map(Path, own)
    assert (str(Path(directory, ".metadata")) in own) == (dist.get_rank() == 0), "written once, under its last name"


def check_sums(written: dict[str, Written]) -> None:
    """What was hashed on the way to the disk is what lies there."""
    for path, file in written.items():
        content = Path(path).read_bytes()
        assert file == (len(content), hashlib.sha256(content).hexdigest()), path


def load_and_update(directory: str) -> dict[str, Tensor]:
    made = learner(FSDP2Shards, torch.float64, "full", 5, 7)
    made.load(Path(directory))
    rows = batch(torch.float64)
    made.update(rows, parts(rows), 1e-2)
    return weights(made)


def update_twice() -> dict[str, Tensor]:
    made = learner(FSDP2Shards, torch.float64, "full", 5, 7)
    rows = batch(torch.float64)
    for _ in range(2):
        made.update(rows, parts(rows), 1e-2)
    return weights(made)


def test_checkpoint_of_two_ranks_goes_on_with_one(two_ranks: Any) -> None:
    """Model and optimizer state: an Adam step after loading equals one without the stop in between."""
    found = on_ranks(1, load_and_update, str(two_ranks[0]))
    for name, tensor in on_ranks(1, update_twice).items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-9, atol=1e-11)


def moved_in_bfloat16(lr: float) -> tuple[float, float]:
    config = LearnerConfig(micro_batch_rows=100, compute_dtype="bfloat16", optimizer=OptimizerConfig(lr=lr))
    objective = Objective(ALGORITHMS["grpo"].build(GRPOConfig()), REGULARIZERS["none"].build(None), 0.0, "score")
    made = LearnerLoop(FSDP2Shards(in_memory(model(1, torch.float32)), config, torch.device("cpu")), config, objective)
    before = weights(made)
    rows = batch(torch.float32).with_streams(ref_hidden=None)
    made.update(rows, parts(rows, (MINIBATCHES[0],)), lr)
    after = weights(made)
    moved = [(after[name] - before[name]).abs() for name in before]
    kept = [after[name].bfloat16() == before[name].bfloat16() for name in before]
    return float(torch.cat([m.flatten() for m in moved]).median()), float(
        torch.cat([k.flatten().float() for k in kept]).mean()
    )


def test_weights_move_at_a_small_learning_rate_when_computed_in_bfloat16() -> None:
    """Adam's first step is lr for every weight. In bfloat16 weights nearly all of it would be lost."""
    median, kept = on_ranks(1, moved_in_bfloat16, 1e-6)
    assert median == pytest.approx(1e-6, rel=0.2)
    assert kept > 0.95


def with_a_nan() -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, float], str]:
    made = learner(FSDP2Shards, torch.float64, "full", 5, 7)
    before = weights(made)
    rows = batch(torch.float64)
    assert rows.advantages_BT is not None
    rows.advantages_BT[0, 0] = float("nan")
    metrics = made.update(rows, parts(rows, (MINIBATCHES[0],)), 1e-2)
    after = weights(made)
    try:
        made.update(rows, parts(rows, (MINIBATCHES[0], MINIBATCHES[0])), 1e-2)
    except RuntimeError as error:
        return before, after, metrics, str(error)
    return before, after, metrics, "nothing was raised"


def test_a_gradient_that_is_not_finite_changes_nothing_and_three_end_the_run() -> None:
    before, after, metrics, message = on_ranks(1, with_a_nan)
    for name, tensor in before.items():
        assert torch.equal(after[name], tensor)
    assert metrics["train/skipped_updates"] == 1 and "train/grad_norm" not in metrics
    assert "3 updates in a row" in message


def test_a_head_with_a_bias_is_refused() -> None:
    biased = model(2, torch.float32)
    biased.lm_head = torch.nn.Linear(biased.lm_head.in_features, biased.lm_head.out_features, bias=True)
    with pytest.raises(ValueError, match="bias on its output head"):
        Policy(biased, 1000)
