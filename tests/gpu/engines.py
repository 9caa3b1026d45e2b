"""Engines of carerl with weights that are drawn, and how far their log-probs are from the learner's own code."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator, Sequence
from typing import Any
from unittest.mock import patch

import torch

import carerl.backends.engines.vllm as engine_module
from carerl.backends.engines.vllm import VLLMEngine
from carerl.backends.learners.policy import Policy
from carerl.config.schema import ClusterConfig, LearnerConfig, ModelConfig, RolloutConfig, RunConfig, SyncConfig
from carerl.loss.packing import pack_rows
from carerl.loss.parity import Gaps, GapStatistics
from carerl.types import Completion, Sampling
from tests.backends.engines.completions import complete
from tests.gpu.hardware import DEVICE, TOY, model_directory
from tests.gpu.report import Report

Prompts = list[tuple[int, ...]]
CONTEXT, RESPONSE, ROWS = (256, 192, 16) if TOY else (3072, 2048, 256)
MOST_MEAN = 0.05  # nats, of |engine - learner| in bfloat16


def start(
    report: Report, model: Any, share: float, transfer: str = "shm", colocated: bool = False, **extra: Any
) -> VLLMEngine:
    """Starts an engine for a model's config as a run does, without a file of weights.

    ``share``: of the GPU's memory. ``transfer``: how weights will come. ``colocated``: it shares its GPU with a rank of
    the learner. ``extra``: further settings of ``vllm.LLM``.
    """
    import vllm

    real = vllm.LLM

    def with_drawn_weights(**settings: Any) -> Any:
        return real(**{**settings, **extra, "load_format": "dummy"})

    config = RunConfig(
        model=ModelConfig(dtype="bfloat16"),
        rollout=RolloutConfig(
            gpus_per_actor=0.0 if TOY else 1.0,
            max_model_len=CONTEXT,
            max_new_tokens=RESPONSE,
            max_batch_rows=ROWS,
            gpu_memory_utilization=share,
            enforce_eager=TOY,
        ),
        sync=SyncConfig(transfer=transfer),
        learner=LearnerConfig(gpus_per_rank=0.0 if TOY else 0.5),
        cluster=ClusterConfig(placement="colocated" if colocated else "disaggregated"),
    )
    begun = time.monotonic()
    with (
        patch.object(vllm, "LLM", with_drawn_weights),
        patch.object(engine_module, "check_weights", lambda *_: None),  # there is no file to be looked at
        patch.object(engine_module, "check_finite", lambda *_, **__: None),
    ):
        engine = VLLMEngine(config, model_directory(model))
    report.tell("engine start, s", time.monotonic() - begun)
    settings = engine._llm.llm_engine.vllm_config
    report.tell("vLLM", vllm.__version__)
    report.tell("asynchronous scheduling", settings.scheduler_config.async_scheduling)
    report.tell("model runner V2", settings.use_v2_model_runner)
    return engine


def drawn_prompts(count: int, tokens: int, vocabulary: int) -> Prompts:
    """Returns prompts of random tokens, the same at every call."""
    chooser = random.Random(0)
    return [tuple(chooser.randrange(1, vocabulary) for _ in range(tokens)) for _ in range(count)]


def ask(engine: VLLMEngine, prompts: Prompts, samples: int, tokens: int, seed: int = 1) -> list[list[Completion]]:
    """Returns samples of so many tokens for each prompt."""
    return complete(engine, prompts, Sampling(n=samples, temperature=1.0, max_new_tokens=tokens, seed=seed))


@torch.no_grad()
def gaps(engine: VLLMEngine, model: Any, prompts: Prompts) -> GapStatistics:
    """Returns how far log-probs of sampled tokens are from those that the learner's code finds in ``model``."""
    asked = ask(engine, prompts, 4, RESPONSE // 8)
    pairs = [(prompt, one) for prompt, completions in zip(prompts, asked, strict=True) for one in completions]
    policy, found = Policy(model, 1024), Gaps()
    for part in _parts(pairs, 8):
        batch = pack_rows([prompt for prompt, _ in part], [one.token_ids for _, one in part])
        engine_N = torch.tensor([logprob for _, one in part for logprob in one.logprobs])
        learner_N = policy(batch, None, False)["logprobs_N"]
        assert learner_N is not None and learner_N.device.type == DEVICE.type
        found.add((learner_N.float().cpu() - engine_N).double())
    return found.statistics()


def _parts(pairs: Sequence[Any], size: int) -> Iterator[Sequence[Any]]:
    return (pairs[k : k + size] for k in range(0, len(pairs), size))


def tell_gaps(report: Report, when: str, found: GapStatistics) -> None:
    """Writes gaps; the mean has a bar. The weights are drawn and not trained, so it is a floor."""
    report.at_most(f"{when}: mean |engine - learner|, nats", found.mean, MOST_MEAN)
    report.tell(f"{when}: 99.9 % and largest, nats", (found.q999, found.largest))
