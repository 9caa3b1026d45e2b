"""``rollout.batch_invariant``: one prompt sampled alone and among others gives the same tokens and log-probs, bit for
bit. Its rate is told too, for the same work as the section ``engine``'s; the difference is what it costs."""

from __future__ import annotations

import os
import time
from unittest.mock import patch

import carerl.backends.engines.vllm as engine_module
from tests.gpu.engine import PROMPT, PROMPTS, SAMPLES, SHAPE, TOKENS
from tests.gpu.engines import ask, drawn_prompts, start
from tests.gpu.hardware import qwen_config
from tests.gpu.report import Report


def run(report: Report) -> None:
    """Compares two ways to sample the first prompt, and tells the decode rate."""
    switched_on = patch.object(engine_module, "tell_batches", lambda _: os.environ.update(VLLM_BATCH_INVARIANT="1"))
    with switched_on:
        engine = start(report, qwen_config(SHAPE), 0.85)
    prompts = drawn_prompts(PROMPTS, PROMPT, SHAPE["vocab_size"])
    alone, among = ask(engine, prompts[:1], SAMPLES, TOKENS // 8), ask(engine, prompts, SAMPLES, TOKENS // 8)
    report.equal("tokens and log-probs, alone and among others", alone[0] == among[0], True)
    begun = time.monotonic()
    completions = ask(engine, prompts, SAMPLES, TOKENS, seed=2)
    tokens = sum(len(one.token_ids) for group in completions for one in group)
    report.tell("decoded tokens a second", tokens / (time.monotonic() - begun))
