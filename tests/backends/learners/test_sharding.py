"""Every way of sharding against one plain process: the same gradients, the same weights, no rank that hangs.

Covered: FSDP2, HSDP 2×1 and 1×2, DeepSpeed's ZeRO 1, 2 and 3, with offloading, on two gloo ranks; several micro-batches
and a rank without rows; decisions, of which a rank has none; the gradient norm of each part of the loss; gradients that
are not finite; checkpoints on another number of ranks, in another stage, of the other backend. Not covered: GPUs and
NCCL (``tests/gpu``); float64 and every loss (``test_fsdp2``).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from carerl.algorithms import ALGORITHMS
from carerl.algorithms.grpo import GRPOConfig
from carerl.backends.learners import LEARNERS, fsdp2
from carerl.backends.learners.starting import in_memory
from carerl.backends.learners.totals import gather_json
from carerl.config.schema import LearnerConfig, OptimizerConfig
from carerl.decisions import DecisionConfig
from carerl.loss.decided import with_decisions
from carerl.loss.objective import Objective, Strengths
from carerl.regularizers import REGULARIZERS
from carerl.regularizers.srkl import SRKLConfig
from carerl.types import Decision, Sample, TokenBatch
from tests.backends.learners.ranks import alone, on_ranks
from tests.backends.learners.test_fsdp2 import (
    ALPHA,
    BETA,
    MINIBATCHES,
    batch,
    log_softmax_of_response,
    model,
    old_logprobs,
    parts,
    plain_loss,
    plain_parts,
)  # fmt: skip

pytestmark = pytest.mark.slow  # ranks with three stages of DeepSpeed start, which takes a minute

WAYS: dict[str, dict[str, Any]] = {
    "fsdp2": {},
    "hsdp 2x1": {"shard_ranks": 1},
    "hsdp 1x2": {"shard_ranks": 2},
    "fsdp2 offloaded": {"cpu_offload": True, "activation_offload": True, "gradient_checkpointing": True},
    "zero 1": {"backend": "deepspeed", "zero_stage": 1},
    "zero 2": {"backend": "deepspeed", "zero_stage": 2},
    "zero 3": {"backend": "deepspeed", "zero_stage": 3},
    "zero 2 offloaded": {"backend": "deepspeed", "zero_stage": 2, "cpu_offload": True},
    "zero 3 offloaded": {
        "backend": "deepspeed", "zero_stage": 3, "cpu_offload": True, "activation_offload": True,
        "gradient_checkpointing": True,
    },
}  # fmt: skip
COMPILED: dict[str, dict[str, Any]] = {
    "fsdp2 compiled": {"compile": True, "gradient_checkpointing": True},
    "zero 2 compiled": {"compile": True, **WAYS["zero 2"]},
}
ON_FOUR: dict[str, dict[str, Any]] = {"hsdp 2x2": {"shard_ranks": 2, "micro_batch_rows": 1}}
IN_BFLOAT16 = ("fsdp2", "zero 1", "zero 2", "zero 3")
SKIPPED = [*((way, "float32") for way in WAYS if "offloaded" not in way), *((way, "bfloat16") for way in IN_BFLOAT16)]
SAVED = ("fsdp2", "hsdp 2x1", "zero 1", "zero 2", "zero 3")
MEASURED = [
    *((way, "float32") for way in ("fsdp2", "hsdp 2x1", "zero 1", "zero 2", "zero 3", "zero 2 offloaded")),
    ("zero 1", "bfloat16"),
]
OPTIMIZER = OptimizerConfig(lr=1e-2, eps=1e-4, weight_decay=0.1)
# An update each. Three rows to a rank are two micro-batches; the rank that has not the single row has none.
STEPS = (MINIBATCHES[0], (3,), MINIBATCHES[1])


def learner(way: str, compute: str = "float32") -> Any:
    algorithm = ALGORITHMS["grpo"].build(GRPOConfig())
    regularizer = REGULARIZERS["srkl"].build(SRKLConfig(alpha=ALPHA))
    settings = {"micro_batch_rows": 2, **{**WAYS, **COMPILED, **ON_FOUR}[way]}
    config = LearnerConfig(head_chunk_tokens=7, compute_dtype=compute, optimizer=OPTIMIZER, **settings)
    objective = Objective(algorithm, regularizer, BETA, "full")
    made = LEARNERS[config.backend](in_memory(model(1, torch.float32)), config, objective, torch.device("cpu"))
    made.set_reference_head(model(2, torch.float32).get_output_embeddings().weight.detach())
    return made


def weights(made: Any) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in made.source(torch.float32)}


def gradient(shards: Any) -> dict[str, Tensor]:
    """Whole, summed over ranks, as it is before a step."""
    if isinstance(shards, fsdp2.FSDP2Shards):
        return {n.removeprefix("model."): p.grad.full_tensor().clone() for n, p in shards.policy.named_parameters()}
    from deepspeed.utils import safe_get_full_grad

    return {name: safe_get_full_grad(parameter).clone() for name, parameter in shards._named.items()}


@contextmanager
def before_each_step(shards: Any, do: Callable[[], None]) -> Iterator[None]:
    step = shards.step

    def stepping(lr: float) -> float:
        do()
        return float(step(lr))

    shards.step = stepping
    yield
    shards.step = step


def update(made: Any, rows: TokenBatch, part: tuple[int, ...]) -> dict[str, float]:
    found: dict[str, float] = made.update(rows, parts(rows, (part,)), OPTIMIZER.lr)
    return found


def same_on_all_ranks(tensors: dict[str, Tensor]) -> bool:
    own = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in tensors.values())).hexdigest()
    return len(set(gather_json(own, torch.device("cpu")))) == 1


# Row -> place of its decision and whether that is right. In the first minibatch a rank has none.
DECISIONS = {0: (1, True), 3: (5, True), 2: (0, False), 8: (1, True), 9: (2, False), 11: (3, False)}
OPTIONS = range(20)  # tokens; the bound is then near the probabilities that there are
ENTROPY_BONUS = 0.3


def with_all_parts(rows: TokenBatch) -> TokenBatch:
    """The batch with an entropy bonus and with decisions, toward the paper's target."""
    samples = [Sample("e", (), (), False, (0, 0)) for _ in range(rows.rows)]
    for row, (place, is_right) in DECISIONS.items():
        token = int(rows.input_ids_BS[row, int(rows.prompt_lengths_B[row]) + place])
        options = {str(option): option for option in {*OPTIONS[:-1], token}}
        right = str(token) if is_right else next(label for label in options if label != str(token))
        samples[row].decision = Decision(place, str(token), options, (right,))
    rows = rows.with_streams(entropy_weight_BT=rows.mask_BT.to(rows.advantages_BT.dtype))  # type: ignore[union-attr]
    return with_decisions(rows, samples, DecisionConfig(name="ce", weight=0.5))


# ---- in the ranks ---------------------------------------------------------------------------------------------


def trained(way: str) -> dict[str, Any]:
    """Gradient of the first step, weights before and after three, and what the replicas of HSDP tell each other."""
    made, rows, gradients, reduced = learner(way), batch(torch.float32), [], []
    before, all_reduce = weights(made), dist.all_reduce

    def counted(tensor: Tensor, *arguments: Any, **names: Any) -> Any:
        reduced.append(tensor.numel())
        return all_reduce(tensor, *arguments, **names)

    with before_each_step(made.shards, lambda: gradients.append(gradient(made.shards))):
        dist.all_reduce = counted
        try:
            norm = update(made, rows, STEPS[0])["train/grad_norm"]
        finally:
            dist.all_reduce = all_reduce
        for part in STEPS[1:]:
            update(made, rows, part)
    after = weights(made)
    return {
        "before": before, "gradient": gradients[0], "after": after, "norm": norm, "same": same_on_all_ranks(after),
        "reduced": sum(reduced),
    }  # fmt: skip


def measured(way: str, compute: str = "float32") -> dict[str, Any]:
    """Three steps on a loss of four parts, with their gradient norms and without, and whether both end alike."""
    found: dict[str, Any] = {"norms": [], "bounded": []}
    ends = []
    for part_norms in (True, False):
        made, rows = learner(way, compute), with_all_parts(batch(torch.float32))
        found["before"] = weights(made)
        for part in STEPS:
            strengths = Strengths(BETA, ENTROPY_BONUS)
            metrics = made.update(rows, parts(rows, (part,)), OPTIMIZER.lr, strengths, part_norms=part_norms)
            norms = {name: value for name, value in metrics.items() if name.startswith("train/grad_norm_")}
            assert bool(norms) is part_norms
            if part_norms:
                found["norms"].append({name.removeprefix("train/grad_norm_"): value for name, value in norms.items()})
                found["bounded"].append(metrics.get("decision/bounded"))
        ends.append(weights(made))
    found["alike"] = all(torch.equal(ends[0][name], ends[1][name]) for name in ends[0])
    return {**found, "after": ends[0], "same": same_on_all_ranks(ends[0])}


def skipped(way: str, compute: str) -> dict[str, bool]:
    """A row with a NaN between two steps, and what would have come without it."""
    rows, nan = batch(torch.float32), batch(torch.float32)
    assert nan.advantages_BT is not None
    nan.advantages_BT[0, 0] = float("nan")
    made, peer = learner(way, compute), learner(way, compute)
    update(made, rows, STEPS[0])
    update(peer, rows, STEPS[0])
    before = weights(made)
    metrics = update(made, nan, STEPS[0])
    between = weights(made)
    update(made, rows, STEPS[2])
    update(peer, rows, STEPS[2])
    after, expected = weights(made), weights(peer)
    return {
        "told": metrics["train/skipped_updates"] == 1 and "train/grad_norm" not in metrics,
        "weights untouched": all(torch.equal(before[name], between[name]) for name in before),
        "moments untouched": all(torch.equal(expected[name], after[name]) for name in after),
        "it moves": any(not torch.equal(before[name], after[name]) for name in after),
        "ranks agree": same_on_all_ranks(after),
    }


def saved(place: Path, ways: tuple[str, ...], compute: str = "float32") -> dict[str, tuple[dict[str, Tensor], ...]]:
    """Two steps, a checkpoint, one more: the weights at the checkpoint and at the end."""
    found = {}
    for way in ways:
        made, rows = learner(way, compute), batch(torch.float32)
        for part in STEPS[:2]:
            update(made, rows, part)
        made.save(place / way)()
        assert not [path.name for path in (place / way).iterdir() if path.name.startswith(".tmp")], "seen half written"
        at = weights(made)
        update(made, rows, STEPS[2])
        found[way] = (at, weights(made))
    dist.barrier()
    return found


def resumed(place: Path, way: str, compute: str = "float32") -> tuple[str, dict[str, Tensor], dict[str, Tensor]]:
    made = learner(way, compute)
    told = made.load(place)
    at = weights(made)
    update(made, batch(torch.float32), STEPS[2])
    return told, at, weights(made)


def two_replicas_of_two(place: Path) -> tuple[dict[str, Any], Any, dict[str, Tensor]]:
    """Both axes of the mesh on four ranks: steps, a checkpoint, and the weights that a resumed learner ends with."""
    fsdp2.SMALLEST_UNIT = 0
    stepped = trained("hsdp 2x2")
    return stepped, saved(place, ("hsdp 2x2",))["hsdp 2x2"], resumed(place / "hsdp 2x2", "hsdp 2x2")[2]


def all_that_two_ranks_are_asked(place: Path) -> dict[str, Any]:
    """In one start of the processes, since that takes longer than all of it."""
    fsdp2.SMALLEST_UNIT = 0  # as large models are: layer by layer
    one, two, half = place / "one", place / "two", place / "half"
    found: dict[str, Any] = {"trained": {way: trained(way) for way in WAYS}}
    found["measured"] = {case: measured(*case) for case in MEASURED}
    found["skipped"] = {case: skipped(*case) for case in SKIPPED}
    found["saved"] = saved(two, SAVED)
    found["resumed"] = {(way, way): resumed(two / way, way) for way in SAVED}
    found["resumed"] |= {
        (old, new): resumed(two / old, new) for old, new in (("zero 1", "zero 3"), ("zero 3", "zero 2"))
    }
    found["one to two"] = {way: resumed(one / way, way) for way in ("fsdp2", "zero 1", "zero 3")}
    found["crossed"] = {
        (old, new): resumed(two / old, new)
        for old, new in (("fsdp2", "zero 3"), ("fsdp2", "zero 1"), ("zero 2", "hsdp 2x1"), ("zero 3", "fsdp2"))
    }
    found["half saved"] = saved(half, IN_BFLOAT16, "bfloat16")
    found["half resumed"] = {way: resumed(half / way, way, "bfloat16") for way in IN_BFLOAT16}
    return found


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("checkpoints")


@pytest.fixture(scope="module")
def one_group() -> Iterator[None]:
    """For all that is asked of one rank."""
    with alone():
        yield


@pytest.fixture(scope="module")
def by_one(place: Path, one_group: None) -> dict[str, Any]:
    found: dict[str, Any] = on_ranks(1, saved, place / "one", ("fsdp2", "zero 1", "zero 3"))
    return found


@pytest.fixture(scope="module")
def by_two(place: Path, by_one: Any) -> dict[str, Any]:
    found: dict[str, Any] = on_ranks(2, all_that_two_ranks_are_asked, place)
    return found


# ---- the plain process ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plainly() -> dict[str, dict[str, Tensor]]:
    """The same three steps by one PyTorch loop over whole rows, in float64."""
    network, reference, rows = model(1, torch.float64), model(2, torch.float64), batch(torch.float64)
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=OPTIMIZER.lr, betas=(0.9, 0.99), eps=OPTIMIZER.eps, weight_decay=OPTIMIZER.weight_decay
    )
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    gradients = []
    for part in STEPS:
        optimizer.zero_grad()
        plain_loss(network, reference, rows, part, old_logprobs(network, rows), "full").backward()
        gradients.append({name: parameter.grad.clone() for name, parameter in network.named_parameters()})
        torch.nn.utils.clip_grad_norm_(network.parameters(), OPTIMIZER.grad_clip)
        optimizer.step()
    after = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    return {"before": before, "gradient": gradients[0], "after": after}


@pytest.fixture(scope="module")
def plainly_in_parts() -> dict[str, Any]:
    """Three steps on a loss of four parts, by one PyTorch loop, and the norm of each part's own gradient."""
    network, reference = model(1, torch.float64), model(2, torch.float64)
    rows = with_all_parts(batch(torch.float64))
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=OPTIMIZER.lr, betas=(0.9, 0.99), eps=OPTIMIZER.eps, weight_decay=OPTIMIZER.weight_decay
    )
    before = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    norms, bounded = [], []
    for part in STEPS:
        found = plain_parts(network, reference, rows, part, old_logprobs(network, rows), "full")
        found["entropy"] = -ENTROPY_BONUS * found["entropy"]
        found["ce"], off = plain_cross_entropy(network, rows, part)
        bounded.append(off)
        wholes = {
            name: torch.autograd.grad(value, list(network.parameters()), retain_graph=True)
            for name, value in found.items()
        }
        norms.append({name: float(sum(g.square().sum() for g in whole).sqrt()) for name, whole in wholes.items()})
        optimizer.zero_grad()
        sum(found.values()).backward()  # type: ignore[union-attr]
        torch.nn.utils.clip_grad_norm_(network.parameters(), OPTIMIZER.grad_clip)
        optimizer.step()
    after = {name: parameter.detach().clone() for name, parameter in network.named_parameters()}
    return {"before": before, "after": after, "norms": norms, "bounded": bounded}


def plain_cross_entropy(network: Any, rows: TokenBatch, part: tuple[int, ...]) -> tuple[Tensor, float]:
    """Half the mean over decisions: −log p of a right one; of a wrong one, where p > 1/K, the mean of −log p over the
    K options. And the share of those where it is not."""
    terms, off = [], 0
    for row in part:
        if row not in DECISIONS:
            continue
        place, is_right = DECISIONS[row]
        token = int(rows.input_ids_BS[row, int(rows.prompt_lengths_B[row]) + place])
        options = sorted({*OPTIONS[:-1], token})
        logp_V = log_softmax_of_response(network, row, rows)[place]
        if is_right:
            terms.append(-logp_V[token])
        elif float(logp_V[token].detach().exp()) > 1 / len(options):
            terms.append(-logp_V[options].mean())
        else:
            terms.append(0.0 * logp_V[token])
            off += 1
    return 0.5 * torch.stack(terms).mean(), off / len(terms)


def apart(found: dict[str, Tensor], expected: dict[str, Tensor]) -> float:
    """Of the whole vectors, relative, in the Euclidean norm."""
    assert list(found) == list(expected)
    gap = sum(float((found[name] - expected[name]).double().square().sum()) for name in expected)
    return float((gap / sum(float(tensor.double().square().sum()) for tensor in expected.values())) ** 0.5)


def moved(run: dict[str, Any]) -> dict[str, Tensor]:
    return {name: run["after"][name].double() - run["before"][name].double() for name in run["before"]}


# ---- tests ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", WAYS)
def test_pitfall_02_gradient_and_three_steps_equal_one_plain_process(by_two: Any, plainly: Any, way: str) -> None:
    """The second step leaves a rank without rows; on a rank that waits for it the group would end after 60 seconds."""
    found = by_two["trained"][way]
    assert all(torch.equal(found["before"][name], plainly["before"][name].float()) for name in found["before"])
    assert apart(found["gradient"], plainly["gradient"]) < 1e-5
    assert apart(moved(found), moved(plainly)) < 1e-3
    norm = sum(float(tensor.square().sum()) for tensor in plainly["gradient"].values()) ** 0.5
    assert found["norm"] == pytest.approx(norm, rel=1e-5)
    assert norm > 2 * OPTIMIZER.grad_clip, "clipping takes part"
    assert found["same"]


@pytest.mark.parametrize(("way", "compute"), MEASURED)
def test_each_parts_gradient_norm_is_that_of_the_part_alone_and_changes_no_weight(
    by_two: Any, plainly_in_parts: Any, way: str, compute: str
) -> None:
    """One rank has no decision in the first step, and no row in the second."""
    found, relative = by_two["measured"][way, compute], 1e-4 if compute == "float32" else 0.1
    assert found["alike"] and found["same"], "to the last bit"
    assert found["bounded"] == pytest.approx(plainly_in_parts["bounded"]) or compute == "bfloat16"
    for norms, expected in zip(found["norms"], plainly_in_parts["norms"], strict=True):
        assert norms == pytest.approx(expected, rel=relative) and min(norms.values()) > 0.1
    if compute == "float32":
        assert apart(moved(found), moved(plainly_in_parts)) < 1e-3


@pytest.mark.parametrize("way", ["fsdp2", "zero 2", "zero 3"])
def test_one_rank_measures_the_same_norms(plainly_in_parts: Any, one_group: None, way: str) -> None:
    found = on_ranks(1, measured, way)
    assert found["alike"] and apart(moved(found), moved(plainly_in_parts)) < 1e-3
    for norms, expected in zip(found["norms"], plainly_in_parts["norms"], strict=True):
        assert norms == pytest.approx(expected, rel=1e-4)


@pytest.mark.long
@pytest.mark.parametrize("way", COMPILED)
def test_compiled_layers_make_the_same_steps(plainly: Any, one_group: None, way: str) -> None:
    found = trained(way)
    assert apart(found["gradient"], plainly["gradient"]) < 1e-5
    assert apart(moved(found), moved(plainly)) < 1e-3


@pytest.mark.long
def test_pitfall_02_two_replicas_of_two_ranks_equal_one_plain_process(plainly: Any, place: Path) -> None:
    """A replica's weights come from the first one's, and gradients are summed on both axes."""
    found, (_, expected), resumed_ = on_ranks(4, two_replicas_of_two, place / "four")
    assert all(torch.equal(found["before"][name], plainly["before"][name].float()) for name in found["before"])
    assert apart(found["gradient"], plainly["gradient"]) < 1e-5
    assert apart(moved(found), moved(plainly)) < 1e-3
    assert found["same"]
    size = sum(parameter.numel() for parameter in model(1, torch.float32).parameters())
    assert size / 2 <= found["reduced"] < 0.6 * size, "each rank's half, once in two micro-batches"
    assert all(torch.equal(resumed_[name], expected[name]) for name in expected)


def test_replicas_sum_gradients_once_in_several_micro_batches(by_two: Any) -> None:
    size = sum(parameter.numel() for parameter in model(1, torch.float32).parameters())
    assert size <= by_two["trained"]["hsdp 2x1"]["reduced"] < 1.1 * size
    assert by_two["trained"]["hsdp 1x2"]["reduced"] < 0.1 * size


@pytest.mark.parametrize(("way", "compute"), SKIPPED)
def test_a_gradient_that_is_not_finite_changes_nothing_on_any_rank(by_two: Any, way: str, compute: str) -> None:
    assert all(by_two["skipped"][way, compute].values()), by_two["skipped"][way, compute]


@pytest.mark.parametrize("way", SAVED)
def test_a_resumed_learner_goes_on_bit_for_bit(by_two: Any, way: str) -> None:
    told, at, after = by_two["resumed"][way, way]
    assert told == ""
    for name, tensor in by_two["saved"][way][0].items():
        assert torch.equal(at[name], tensor)
        assert torch.equal(after[name], by_two["saved"][way][1][name])


@pytest.mark.parametrize("way", IN_BFLOAT16)
def test_weights_and_moments_are_saved_in_float32_where_computing_is_not(by_two: Any, way: str) -> None:
    _, at, after = by_two["half resumed"][way]
    for name, tensor in by_two["half saved"][way][0].items():
        assert torch.equal(at[name], tensor) and torch.equal(after[name], by_two["half saved"][way][1][name])
    assert any(not torch.equal(tensor, tensor.bfloat16().float()) for tensor in at.values())


@pytest.mark.parametrize(("old", "new"), [("zero 1", "zero 3"), ("zero 3", "zero 2")])
def test_a_checkpoint_of_one_stage_goes_on_in_another(by_two: Any, old: str, new: str) -> None:
    told, at, after = by_two["resumed"][old, new]
    assert told == ""
    before, expected = by_two["saved"][old]
    assert all(torch.equal(at[name], before[name]) for name in before)
    assert apart(moved({"before": at, "after": after}), moved({"before": before, "after": expected})) < 1e-4


@pytest.mark.parametrize("way", ["fsdp2", "zero 1", "zero 3"])
def test_a_checkpoint_of_one_rank_goes_on_with_two(by_one: Any, by_two: Any, way: str) -> None:
    told, at, after = by_two["one to two"][way]
    assert told == ""
    before, expected = by_one[way]
    assert all(torch.equal(at[name], before[name]) for name in before)
    assert apart(moved({"before": at, "after": after}), moved({"before": before, "after": expected})) < 1e-4


@pytest.mark.parametrize(("old", "new"), [("zero 2", "zero 2"), ("zero 3", "zero 1"), ("hsdp 2x1", "fsdp2")])
def test_a_checkpoint_of_two_ranks_goes_on_with_one(by_two: Any, place: Path, old: str, new: str) -> None:
    told, at, after = on_ranks(1, resumed, place / "two" / old, new)
    assert told == ""
    before, expected = by_two["saved"][old]
    assert all(torch.equal(at[name], before[name]) for name in before)
    assert apart(moved({"before": at, "after": after}), moved({"before": before, "after": expected})) < 1e-4


@pytest.mark.parametrize(
    ("old", "new"), [("fsdp2", "zero 3"), ("fsdp2", "zero 1"), ("zero 2", "hsdp 2x1"), ("zero 3", "fsdp2")]
)
def test_a_checkpoint_of_the_other_backend_gives_its_weights_and_says_so(by_two: Any, old: str, new: str) -> None:
    told, at, after = by_two["crossed"][old, new]
    before, expected = by_two["saved"][old]
    assert all(torch.equal(at[name], before[name]) for name in before)
    theirs, ours = ("fsdp2", "deepspeed") if old == "fsdp2" else ("deepspeed", "fsdp2")
    assert f"learner.backend={theirs}" in told and f"learner.backend={ours}" in told and "starts afresh" in told
    # Without moments AdamW's step is another one.
    assert apart(moved({"before": at, "after": after}), moved({"before": before, "after": expected})) > 0.1


def test_a_checkpoint_of_deepspeed_is_data(by_two: Any, place: Path) -> None:
    """Nothing in it is a pickle, and every value of weights and both moments is there once."""
    from safetensors import safe_open

    files = sorted((place / "two" / "zero 3").iterdir())
    assert [file.name for file in files] == ["rank_00000.safetensors", "rank_00001.safetensors"]
    counts: dict[str, int] = {}
    for file in files:
        with safe_open(file, "pt") as opened:
            assert opened.metadata()["step"] == "2"
            for key in opened.keys():  # noqa: SIM118
                kind = key.split("/")[0]
                counts[kind] = counts.get(kind, 0) + opened.get_tensor(key).numel()
    size = sum(parameter.numel() for parameter in model(1, torch.float32).parameters())
    assert counts == {"weight": size, "exp_avg": size, "exp_avg_sq": size}


def test_a_checkpoint_of_deepspeed_that_lacks_a_file_is_refused(by_two: Any, place: Path, tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    name = "rank_00001.safetensors"
    (kept / name).write_bytes((place / "two" / "zero 2" / name).read_bytes())
    with pytest.raises(ValueError, match=r"is refused: it has [\d,]+ of [\d,]+ values of"):
        on_ranks(1, resumed, kept, "zero 2")
    (kept / "rank_00000.safetensors").symlink_to(place / "two" / "zero 2" / "rank_00000.safetensors")
    with pytest.raises(ValueError, match="is a link"):
        on_ranks(1, resumed, kept, "zero 2")
