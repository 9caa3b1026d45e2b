"""New weights in an engine through shared memory: seconds, equal log-probs, no stale prefixes, asleep and awake."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from carerl.backends.engines.vllm import VLLMEngine
from carerl.backends.transfer import TRANSFERS
from carerl.backends.transfer.base import Place
from tests.backends.transfer.sending import Direct, Given
from tests.gpu.engines import MOST_MEAN, ask, drawn_prompts, gaps, start, tell_gaps
from tests.gpu.hardware import DEVICE, GIB, QWEN_1_5B, TOY, TOY_MODEL, drawn_model, qwen_config, seconds
from tests.gpu.report import Report

SHAPE = TOY_MODEL if TOY else QWEN_1_5B
BYTES_7B = 15.24e9  # bfloat16
LEAST_FREED_GIB = 20.0


def run(report: Report) -> None:
    """Sends weights to an engine several times and compares log-probs after each."""
    config = qwen_config(SHAPE, spread=0.05)
    model = drawn_model(config, torch.bfloat16).eval().requires_grad_(False)
    prompts = drawn_prompts(2 if TOY else 16, 8 if TOY else 64, SHAPE["vocab_size"])
    on_gpu: dict[str, Any] = {} if TOY else {"enable_sleep_mode": True}
    engine = start(report, config, 0.35, **on_gpu)
    ask(engine, prompts, 1, 8)
    copies(report)
    client = Direct(engine)
    sender = TRANSFERS["shm"](
        "shm", Given(dict(model.named_parameters())), client, Place(0, "127.0.0.1", lambda stored: stored), 512
    )
    taken = seconds(sender.send)
    sent = sender.send()
    report.tell("7B through shared memory, s, from this model's", taken / sent.bytes * BYTES_7B)
    report.equal("what came is what was sent", client.received and client.received.digest == sent.digest, True)
    report.equal("prefix cache is reset", engine._llm.reset_prefix_cache(), True)
    queue = getattr(engine._llm.llm_engine.engine_core.engine_core, "batch_queue", None)
    report.tell("batches in flight after the end", None if queue is None else len(queue))
    tell_gaps(report, "new weights", gaps(engine, model, prompts))
    for parameter in model.parameters():
        parameter.copy_(parameter.roll(1, 0))
    report.at_least("weights that were not sent: mean, nats", gaps(engine, model, prompts).mean, 2 * MOST_MEAN)
    sender.send()
    # the engine has just seen these prompts: kept keys and values would be those of the weights before
    tell_gaps(report, "other weights, the same prompts", gaps(engine, model, prompts))
    if not TOY:
        sleep(report, engine)
        engine._llm.wake_up(tags=["weights"])
        sender.send()
        engine._llm.wake_up(tags=["kv_cache"])
        tell_gaps(report, "after sleep", gaps(engine, model, prompts))


def copies(report: Report) -> None:
    """Tells GB/s between the device and the host's memory, pageable and pinned: a plan assumes them."""
    size = 2**20 if TOY else 2**30
    here = torch.ones(size, dtype=torch.uint8, device=DEVICE)
    for kind, pinned in (("pageable", False),) if TOY else (("pageable", False), ("pinned", True)):
        there = torch.ones(size, dtype=torch.uint8, pin_memory=pinned)
        down, up = seconds(partial(there.copy_, here)), seconds(partial(here.copy_, there))
        report.tell(f"GB/s to {kind} memory, and back", (size / down / 1e9, size / up / 1e9))


def sleep(report: Report, engine: VLLMEngine) -> None:
    """Puts the engine to sleep at level 2, which gives up weights and keys alike."""
    free = torch.cuda.mem_get_info()[0]
    engine._llm.sleep(level=2)
    report.at_least("GiB freed by sleep level 2", (torch.cuda.mem_get_info()[0] - free) / GIB, LEAST_FREED_GIB)
