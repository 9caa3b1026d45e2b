"""An engine that shares its card with a process of the learner: what its sleep frees, and what it runs after it.

The other process draws a model and sends it by carerl's sender of kind ``ipc``, as a rank of the learner does. A toy
run makes the same calls on the CPU, where sleeping frees nothing.
"""

from __future__ import annotations

import time

import torch
import torch.multiprocessing as mp

from tests.backends.transfer.sending import Direct
from tests.gpu.engines import drawn_prompts, gaps, start, tell_gaps
from tests.gpu.hardware import GIB, TOY, drawn_model, qwen_config
from tests.gpu.ipc import KIND, SHAPE, SPREAD, send, serve
from tests.gpu.report import Report

TURNS = 3
SHARE = 0.5
MOST_SECONDS = 2.0  # [ours] of a turn, without what is sampled and trained in it
LEAST_FREED = 0.85  # [ours] of what the engine may take: CUDA graphs stay, and the budget is not used to its end


def run(report: Report) -> None:
    """Has an engine sleep and wake a few times, with other weights after each."""
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    sender = context.Process(target=send, args=(theirs, TURNS), daemon=True)
    sender.start()
    config = qwen_config(SHAPE, spread=SPREAD)
    engine = start(report, config, SHARE, transfer=KIND, colocated=True)
    client = Direct(engine)
    model = drawn_model(config, torch.bfloat16).eval().requires_grad_(False)
    prompts = drawn_prompts(8, 8 if TOY else 64, SHAPE["vocab_size"])
    ours.send("the engine is there")
    for number in range(TURNS):
        awake, begun = free_gib(), time.monotonic()
        engine.sleep()
        slept, freed = time.monotonic() - begun, free_gib() - awake
        begun = time.monotonic()
        engine.wake_weights()
        woken = time.monotonic() - begun
        taken, digest = serve(ours, client)
        report.equal(
            f"turn {number + 1}: what came is what was sent", client.received and client.received.digest, digest
        )
        begun = time.monotonic()
        engine.wake_cache()
        woken += time.monotonic() - begun
        report.tell(f"turn {number + 1}: sleep, wake and sync, s", (slept, woken, taken))
        tell_gaps(report, f"turn {number + 1}", gaps(engine, model, prompts))
    report.at_most("last turn, s", slept + woken + taken, 60.0 if TOY else MOST_SECONDS)
    report.tell("free awake and freed by sleep, GiB", (awake, freed))
    if not TOY:
        budget = SHARE * torch.cuda.mem_get_info()[1] / GIB
        report.at_least("freed by sleep, of the engine's budget", freed / budget, LEAST_FREED)
    ours.send("end")


def free_gib() -> float:
    """Returns the card's free memory, whoever has the rest; 0 without a card."""
    return 0.0 if TOY else torch.cuda.mem_get_info()[0] / GIB
