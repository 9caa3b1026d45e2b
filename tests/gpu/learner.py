"""Every learner of carerl on one rank: steps of 7B's width and four layers, their tokens a second and their memory."""

from __future__ import annotations

import gc
import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.distributed as dist

from carerl.algorithms import ALGORITHMS
from carerl.backends.learners import LEARNERS, Learner
from carerl.backends.learners.base import AddReference
from carerl.backends.learners.fsdp2 import mesh_of
from carerl.backends.learners.reference import ShardedReference
from carerl.backends.learners.starting import in_memory
from carerl.config.schema import LearnerConfig
from carerl.loss.batching import Minibatch, Normalisers
from carerl.loss.objective import Objective
from carerl.regularizers import REGULARIZERS
from carerl.types import TokenBatch
from tests.gpu.hardware import DEVICE, GIB, QWEN_7B, TOY, TOY_MODEL, drawn_model, lengths, qwen_config, seconds
from tests.gpu.report import Report

SHAPE, LAYERS = (TOY_MODEL, 2) if TOY else (QWEN_7B, 4)
ROWS, PROMPT, MEAN, MOST = (16, 4, 8, 20) if TOY else (64, 150, 800, 2048)
CHUNK = 16 if TOY else 1024
VARIANTS: dict[str, dict[str, dict[str, Any]]] = {  # of a backend: what a row calls it, and its settings
    "deepspeed": {f"stage {stage}": {"zero_stage": stage} for stage in (1, 2, 3)}
}
MOST_GIB = 75.0  # of a card of 80 GB, less what CUDA and its libraries take


def run(report: Report) -> None:
    """Steps with each learner, and with the reference on the learner's rank. One that fails is a row and costs no
    other."""
    if not TOY:
        torch.cuda.set_device(0)
    dist.init_process_group("gloo" if TOY else "nccl", store=dist.HashStore(), rank=0, world_size=1)
    parts: dict[str, Callable[[str, Report], None]] = {
        f"{name} {words}".strip(): partial(one, settings={"backend": name, **settings})
        for name in LEARNERS
        for words, settings in VARIANTS.get(name, {"": {}}).items()
    }
    parts |= {
        f"reference on the rank, {estimator}": partial(with_reference, estimator=estimator)
        for estimator in ("score", "full")
    }
    for name, part in parts.items():
        try:
            part(name, report)
        except Exception as error:
            traceback.print_exc()
            report.failed(f"{name}: failed with", f"{type(error).__name__}: {error}"[:300])
        gc.collect()
        if not TOY:
            torch.cuda.empty_cache()
    dist.destroy_process_group()


def made(estimator: str, **settings: Any) -> Learner:
    """Returns a learner of a drawn model in float32, which computes in bfloat16."""
    if not TOY:
        torch.cuda.reset_peak_memory_stats()
    grpo, srkl = ALGORITHMS["grpo"], REGULARIZERS["srkl"]
    objective = Objective(grpo.build(grpo.config()), srkl.build(srkl.config()), 0.04, estimator)
    config = LearnerConfig(
        micro_batch_rows=8,
        head_chunk_tokens=CHUNK,
        compute_dtype="bfloat16",
        gradient_checkpointing=True,
        **settings,
    )
    start = in_memory(drawn_model(qwen_config(SHAPE, LAYERS), torch.float32))
    return LEARNERS[config.backend](start, config, objective, DEVICE)


def one(name: str, report: Report, settings: dict[str, Any]) -> None:
    """Takes steps with a learner; tells tokens a second, memory, and whether all weights are given out."""
    learner = made("score", **settings)
    step(name, report, learner, batch(), None)
    shapes = {parameter: tuple(tensor.shape) for parameter, tensor in learner.source(torch.bfloat16)}
    missed = sorted(set(shapes.items()) ^ set(model_shapes().items()))
    report.equal(f"{name}: tensors that are not given out, or not the model's", missed[:3], [])


def with_reference(name: str, report: Report, estimator: str) -> None:
    """Takes steps with FSDP2 and a frozen copy of its first weights on the same rank, from which it must not be away
    before the first step."""
    learner = made(estimator, backend="fsdp2")
    frozen = drawn_model(qwen_config(SHAPE, LAYERS), torch.float32).to(torch.bfloat16)
    reference = ShardedReference(in_memory(frozen), CHUNK, mesh_of(LearnerConfig(), DEVICE), DEVICE)
    del frozen
    rows = batch().with_streams(ref_logprobs_BT=None)
    hidden = estimator == "full"
    with reference.gathered(learner, with_hidden=True) as add:
        _, streams = learner.log_probs(rows, (), add)
    report.at_most(f"{name}: mean reverse KL at equal weights, nats", float(streams["rkl"].mean()), 1e-4)
    with reference.gathered(learner, with_hidden=hidden) as add:
        step(name, report, learner, rows, add)


def step(name: str, report: Report, learner: Learner, rows: TokenBatch, add: AddReference | None) -> None:
    """Takes optimizer steps; tells their seconds and memory."""
    counted = float(rows.response_tokens)
    minibatch = Minibatch(tuple(range(ROWS)), Normalisers(counted, counted, 1.0))
    metrics: dict[str, float] = {}
    taken = seconds(lambda: metrics.update(learner.update(rows, [minibatch], 1e-6, None, add)))
    tokens = int((rows.prompt_lengths_B + rows.response_lengths_B).sum())
    report.tell(f"{name}: seconds a step, tokens a second", (taken, tokens / taken))
    report.equal(f"{name}: updates that were skipped", metrics["train/skipped_updates"], 0.0)
    if not TOY:
        # forward, backward (twice its FLOP), and forward once more for checkpointing; two FLOP a parameter and token
        layers = 8 * LAYERS * layer_parameters() * tokens
        report.tell(f"{name}: seconds that the layers would take at 45 % of 989 TFLOP/s", layers / 4.45e14)
        report.at_most(f"{name}: peak GiB", torch.cuda.max_memory_allocated() / GIB, MOST_GIB)


def layer_parameters() -> int:
    """Counts the parameters of a layer's products."""
    heads = 2 * (SHAPE["num_attention_heads"] + SHAPE["num_key_value_heads"]) * 128
    return int(SHAPE["hidden_size"] * (3 * SHAPE["intermediate_size"] + heads))


def model_shapes() -> dict[str, tuple[int, ...]]:
    """Returns names and shapes of the model's parameters."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(qwen_config(SHAPE, LAYERS))
    return {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}


def batch() -> TokenBatch:
    """Makes rows of lognormal lengths, with the streams of a sampled divergence. Log-probs are those of a model that
    knows nothing."""
    responses_B, prompts_B = torch.tensor(lengths(ROWS, MEAN, MOST)), torch.full((ROWS,), PROMPT)
    mask_BT = (torch.arange(int(responses_B.max()))[None] < responses_B[:, None]).float()
    generator = torch.Generator().manual_seed(0)
    unknowing_BT = -torch.tensor(float(SHAPE["vocab_size"])).log() * mask_BT
    return TokenBatch(
        torch.randint(1, 500, (ROWS, PROMPT + mask_BT.shape[1]), generator=generator),
        prompts_B,
        responses_B,
        advantages_BT=torch.randn(ROWS, 1, generator=generator) * mask_BT,
        policy_weight_BT=mask_BT,
        rollout_logprobs_BT=unknowing_BT,
        regularizer_weight_BT=mask_BT,
        ref_logprobs_BT=unknowing_BT,
    )
