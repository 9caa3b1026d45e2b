"""Weights from another process on the same card, by carerl's sender of kind ``ipc``, past the host's memory.

A toy run has the same two processes and calls, and sends through shared memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

import torch
import torch.multiprocessing as mp

from carerl.backends.transfer import TRANSFERS
from carerl.backends.transfer.base import Place
from tests.backends.transfer.sending import Direct, Given
from tests.gpu.engines import drawn_prompts, gaps, start, tell_gaps
from tests.gpu.hardware import QWEN_1_5B, TOY, TOY_MODEL, drawn_model, qwen_config
from tests.gpu.report import Report

KIND, SHAPE = ("shm", TOY_MODEL) if TOY else ("ipc", QWEN_1_5B)
SPREAD = 0.05
UPDATES = 2  # the first one sets up what later ones use
MOST_SECONDS = 1.0


class Caller:
    """Makes the calls of a sync through a pipe to the process that has the engine, see
    :class:`carerl.backends.transfer.base.Client`."""

    workers = 1

    def __init__(self, pipe: Connection):
        self._pipe = pipe

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self._call("init_weight_transfer_engine", init_info)

    def start_weight_update(self) -> None:
        self._call("start_weight_update")

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self._call("update_weights", update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self._call("finish_weight_update")

    def _call(self, name: str, *arguments: Any) -> None:
        self._pipe.send((name, arguments))
        self._pipe.recv()


def send(pipe: Connection, updates: int = UPDATES) -> None:
    """Sends a drawn model's weights so many times, in a process of its own. Lives until it is told to end, as the
    memory is its."""
    model = drawn_model(qwen_config(SHAPE, spread=SPREAD), torch.bfloat16).requires_grad_(False)
    pipe.recv()  # the engine is there
    place = Place(0, "127.0.0.1", lambda stored: stored)
    sender = TRANSFERS[KIND](KIND, Given(dict(model.named_parameters())), Caller(pipe), place, 512)
    for _ in range(updates):
        pipe.send(("sent", sender.send().digest))
    pipe.recv()


def run(report: Report) -> None:
    """Updates an engine from another process, and compares digests and log-probs after it."""
    context = mp.get_context("spawn")
    ours, theirs = context.Pipe()
    sender = context.Process(target=send, args=(theirs,), daemon=True)
    sender.start()
    config = qwen_config(SHAPE, spread=SPREAD)
    engine = start(report, config, 0.3, transfer=KIND)
    client = Direct(engine)
    ours.send("the engine is there")
    for number in range(UPDATES):
        taken, digest = serve(ours, client)
        report.equal(
            f"update {number + 1}: what came is what was sent", client.received and client.received.digest, digest
        )
    report.at_most("last update, s, of 1.5B on a GPU", taken, 60.0 if TOY else MOST_SECONDS)
    ours.send("end")
    report.equal("prefix cache is reset", engine._llm.reset_prefix_cache(), True)
    model = drawn_model(config, torch.bfloat16).eval().requires_grad_(False)
    tell_gaps(report, "after it", gaps(engine, model, drawn_prompts(8, 8 if TOY else 64, SHAPE["vocab_size"])))


def serve(pipe: Connection, client: Direct) -> tuple[float, int]:
    """Makes the calls that come through the pipe, until an update is done. Returns its seconds and the sender's
    digest."""
    begun = time.monotonic()
    while True:
        name, given = pipe.recv()
        if name == "sent":
            return time.monotonic() - begun, given
        if name == "start_weight_update":
            begun = time.monotonic()
        call: Callable[..., None] = getattr(client, name)
        call(*given)
        pipe.send("done")
