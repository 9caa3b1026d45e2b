"""Real gloo ranks for tests: a function run in N processes, rank 0's result handed back."""

from __future__ import annotations

import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def on_ranks(world: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)`` on ``world`` gloo ranks, each a process with one thread; rank 0's result.

    One rank runs in this process: a new one costs ten seconds of imports."""
    if world == 1:
        with alone():
            return function(*arguments)
    port = _free_port()
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "result.pt")
        mp.spawn(_rank, args=(world, port, path, function, arguments), nprocs=world)
        return torch.load(path, weights_only=False)  # written by our own child a moment ago


@contextmanager
def alone() -> Iterator[None]:
    """This process is the only rank. A group that is there already, such as an engine's in this process, will do."""
    if dist.is_initialized():
        yield
        return
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("DS_ACCELERATOR", "cpu")  # as the learner sets them, and gone afterwards
        environment.setenv("LOCAL_RANK", "0")
        dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{_free_port()}", rank=0, world_size=1)
        try:
            yield
        finally:
            end_group()


def end_group() -> None:
    """Ends the group of this process, with what others have made beside it: DeepSpeed would give its own to the next
    learner, and vLLM would end its own at the exit, where the first is no longer there."""
    vllm = sys.modules.get("vllm.distributed.parallel_state")
    if vllm is not None and vllm.model_parallel_is_initialized():
        vllm.cleanup_dist_env_and_memory()
    if "deepspeed" in sys.modules:
        import deepspeed

        if deepspeed.comm.is_initialized():
            deepspeed.comm.destroy_process_group()
    if dist.is_initialized():
        dist.destroy_process_group()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _rank(rank: int, world: int, port: int, path: str, function: Callable[..., Any], arguments: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=60),
    )
    try:
        result = function(*arguments)
        if rank == 0:
            torch.save(result, path)
        dist.barrier()
    finally:
        dist.destroy_process_group()
