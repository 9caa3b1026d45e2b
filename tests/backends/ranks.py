"""Real gloo ranks for tests: a function run in N processes, rank 0's result handed back."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def on_ranks(world: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """``function(*arguments)`` on ``world`` gloo ranks, each a process with one thread; rank 0's result.

    One rank runs in this process: a new one costs ten seconds of imports."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    if world == 1:
        return _alone(port, function, *arguments)
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "result.pt")
        mp.spawn(_rank, args=(world, port, path, function, arguments), nprocs=world)
        return torch.load(path, weights_only=False)  # written by our own child a moment ago


def _alone(port: int, function: Callable[..., Any], *arguments: Any) -> Any:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
    try:
        return function(*arguments)
    finally:
        dist.destroy_process_group()


def _rank(rank: int, world: int, port: int, path: str, function: Callable[..., Any], arguments: Any) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"tcp://127.0.0.1:{port}",
        rank=rank,
        world_size=world,
        timeout=timedelta(seconds=90),
    )
    try:
        result = function(*arguments)
        if rank == 0:
            torch.save(result, path)
        dist.barrier()
    finally:
        dist.destroy_process_group()
