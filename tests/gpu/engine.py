"""Decoding: 7B, 256 seeded sequences with log-probs, against the rate that the memory's bandwidth allows."""

from __future__ import annotations

import os
import time
from unittest.mock import patch

import carerl.backends.engines.vllm as engine_module
from carerl.config.schema import RunConfig
from tests.gpu.engines import ask, drawn_prompts, start
from tests.gpu.hardware import QWEN_7B, TOY, TOY_MODEL, qwen_config
from tests.gpu.report import Report

SHAPE = TOY_MODEL if TOY else QWEN_7B
PROMPTS, PROMPT, SAMPLES, TOKENS = (4, 8, 4, 16) if TOY else (32, 150, 8, 384)
WEIGHTS = 15.2e9  # bytes, bfloat16
KEYS_AND_VALUES = 2 * 28 * 4 * 128 * 2  # bytes of a token
BANDWIDTH = 3.35e12  # bytes a second, H100
LEAST_SHARE = 0.35


def run(report: Report) -> None:
    """Tells the decode rate and the processor's part in it."""
    engine = start(report, qwen_config(SHAPE), 0.85)
    prompts = drawn_prompts(PROMPTS, PROMPT, SHAPE["vocab_size"])
    ask(engine, prompts, SAMPLES, TOKENS // 8)  # what is set up once
    begun, used = time.monotonic(), time.process_time()
    completions = ask(engine, prompts, SAMPLES, TOKENS, seed=2)
    taken = time.monotonic() - begun
    rate = sum(len(one.token_ids) for group in completions for one in group) / taken
    report.tell("decoded tokens a second", rate)
    report.tell("processor seconds of this process a second", (time.process_time() - used) / taken)
    rows, context = PROMPTS * SAMPLES, PROMPT + TOKENS / 2
    limit = rows / ((WEIGHTS + rows * context * KEYS_AND_VALUES) / BANDWIDTH)
    report.at_least("share of what the memory's bandwidth allows", rate / limit, 0.0 if TOY else LEAST_SHARE)


def run_apart(report: Report) -> None:
    """Does the same with the engine's core in a process of its own, as carerl does not start it."""
    prepare = engine_module.prepare

    def prepare_apart(config: RunConfig) -> None:
        prepare(config)
        os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "1"

    with patch.object(engine_module, "prepare", prepare_apart):
        run(report)
