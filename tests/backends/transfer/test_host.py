"""Weights through the memory of the host: bytes copied, memory taken, who takes part, and what an engine is left with.

The receiver is the transformers engine's own code, with vLLM's in ``tests/backends/engines``. Not covered: GPUs.
"""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
import ray
import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from carerl.actors.workers.engine import EngineWorker
from carerl.actors.workers.learner import LearnerWorker, fresh_model
from carerl.backends.engines.hf import HFEngine
from carerl.backends.models import save_model
from carerl.backends.transfer import TRANSFERS
from carerl.backends.transfer.base import Place
from carerl.backends.transfer.digest import Tally, words_sum
from carerl.backends.transfer.host import HostReceiver, HostSender
from carerl.config.load import load
from carerl.config.schema import RunConfig
from tests.actors.local import Local
from tests.backends.learners.ranks import on_ranks
from tests.backends.transfer.sending import Direct, Given, sender

MIB = 2**20
TENSORS, EACH, BUCKET = 16, 4 * MIB, 8  # bytes, MiB


class Copied(TorchDispatchMode):
    """Counts the bytes that operations write which only copy."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        if func.overloadpacket.__name__ in ("copy_", "clone", "_to_copy", "contiguous", "cat", "stack"):
            out_bytes = out.numel() * out.element_size()
            self.bytes += out_bytes if out_bytes > 1024 else 0
        return out


class Model(torch.nn.Module):
    """Parameters and nothing else."""

    def __init__(self) -> None:
        super().__init__()
        for k in range(TENSORS):
            self.register_parameter(f"w{k}", torch.nn.Parameter(torch.ones(EACH // 4)))


def bare_engine() -> HFEngine:
    """The transformers engine around such a model: it needs no more to take weights."""
    engine = HFEngine.__new__(HFEngine)
    engine._queue, engine._model = [], Model()  # type: ignore[assignment]
    engine._receiver, engine._tally = HostReceiver(), Tally()
    return engine


def own_mib() -> float:
    """Memory of this process, shared memory that it has touched included."""
    lines = Path("/proc/self/status").read_text().splitlines()
    sizes = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return (int(sizes["RssAnon"]) + int(sizes["RssShmem"])) / 1024


def receive(pipe: Connection) -> None:
    """An engine's process: does what it is told, and ends with the bytes that it copied and the memory that it took."""
    engine = bare_engine()
    with Copied() as copied:
        words_sum(torch.ones(EACH // 4))  # torch imports 70 MiB of code with the first operation that is watched
        before, most = own_mib(), 0.0
        while (message := pipe.recv()) is not None:
            method, arguments = message
            pipe.send(getattr(engine, method)(*arguments))
            most = max(most, own_mib() - before)
    pipe.send((copied.bytes, most))


class Remote(Direct):
    """A client of an engine in another process."""

    def __init__(self, pipe: Connection) -> None:
        def call(method: str) -> Any:
            def send(*arguments: Any) -> Any:
                pipe.send((method, arguments))
                return pipe.recv()

            return send

        calls = {name: call(name) for name in ("init_transfer", "start_update", "update", "finish_update")}
        super().__init__(type("Engine", (), {name: staticmethod(f) for name, f in calls.items()})())  # type: ignore[arg-type]


def test_64_mib_are_copied_twice_and_the_receiver_takes_two_buckets_of_memory() -> None:
    """Once into the bucket and once out of it."""
    mine, its = multiprocessing.get_context("spawn").Pipe()
    process = multiprocessing.get_context("spawn").Process(target=receive, args=(its,))
    process.start()
    its.close()
    try:
        tensors = {f"w{k}": torch.full((EACH // 4,), float(k)) for k in range(TENSORS)}
        client = Remote(mine)
        place = Place(0, "127.0.0.1", lambda array: array)
        with Copied() as copied:
            sent = TRANSFERS["shm"]("shm", Given(tensors), client, place, BUCKET).send()
        mine.send(None)
        received_bytes, memory_mib = mine.recv()
    finally:
        mine.close()
        process.join(30)
    assert client.received is not None and client.received.digest == sent.digest
    assert sent.bytes == TENSORS * EACH == 64 * MIB
    assert copied.bytes + received_bytes <= 2 * sent.bytes
    assert memory_mib <= 2 * BUCKET + 4, "not the model's 64"


# ---- who takes part -------------------------------------------------------------------------------


def settings() -> RunConfig:
    return load(["recipe=care_grpo_tiny", "rollout.engine=hf", "learner.threads=1", "rollout.threads=1"])


@contextmanager
def counted(counts: dict[str, int]) -> Iterator[None]:
    """Counts what touches the host or the object store in this process."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name in ((Tensor, "cpu"), (Tensor, "numpy"), (ray, "put"), (HostSender, "_fill")):
            real = getattr(owner, name)

            def counting(*arguments: Any, real: Any = real, name: str = name, **rest: Any) -> Any:
                counts[name] = counts.get(name, 0) + 1
                return real(*arguments, **rest)

            patch.setattr(owner, name, staticmethod(counting) if name == "_fill" else counting)
        yield


def sync_of_two_ranks(folder: Path) -> dict[str, Any]:
    """A sync from two ranks to an engine beside the first; what each rank did, and what the engine says."""
    config, counts = settings(), dict[str, int]()
    learner, engine, first = LearnerWorker(), EngineWorker(), dist.get_rank() == 0
    learner.load(config, str(folder))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ray, "get", lambda values, timeout=None: values)
        if first:
            engine.load(config, str(folder))
        learner.open_transfer("shm", [Local(engine)], 1)
        with counted(counts):
            sent = learner.send()
        if first:
            engine.accept(sent, 1)
    everyone: list[Any] = [None, None]
    dist.all_gather_object(everyone, counts)
    return {"counts": everyone, "sent": sent, "version": engine._version}


@pytest.mark.slow
def test_no_weight_goes_into_the_object_store_and_no_rank_but_the_sender_touches_the_host(tmp_path: Path) -> None:
    model = fresh_model(settings())
    save_model(tmp_path, model.config, {name: p.detach() for name, p in model.named_parameters()}, None)
    found = on_ranks(2, sync_of_two_ranks, tmp_path)
    first, second = found["counts"]
    assert found["version"] == 1 and found["sent"].bytes > 0
    assert second == {}, "it took part in gathering and did nothing else"
    assert first == {"_fill": 1}, "the tiny model fits into one bucket"


# ---- faults ---------------------------------------------------------------------------------------


class Other(Given):
    """Yields other tensors than its metadata says."""

    def __init__(self, tensors: dict[str, Tensor], yielded: dict[str, Tensor]) -> None:
        super().__init__(tensors)
        self.yielded = yielded

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return iter(self.yielded.items())


@pytest.mark.parametrize("kind", ["shm", "store"])
@pytest.mark.parametrize(
    ("yielded", "message"),
    [
        (["b", "a"], "yields b where its metadata has a"),
        (["a", "b", "c"], "yields c beyond its metadata"),
        (["a"], "yields nothing where its metadata has b"),
    ],
    ids=["another order", "one more", "one less"],
)
def test_a_source_that_does_not_keep_its_word_is_refused(kind: str, yielded: list[str], message: str) -> None:
    said = {"a": torch.zeros(MIB), "b": torch.ones(MIB)}
    source = Other(said, {name: torch.zeros(MIB) for name in yielded})
    client = Direct(bare_engine())
    with pytest.raises(RuntimeError, match=message):
        TRANSFERS[kind](kind, source, client, Place(0, "127.0.0.1", lambda array: array), 1).send()
    assert client.received is None, "the update is not ended"


class Late(Direct):
    """A client whose engine takes its time with each bucket."""

    def update_weights(self, update_info: dict[str, Any]) -> None:
        time.sleep(0.02)
        super().update_weights(update_info)


@pytest.mark.parametrize("kind", ["shm", "store"])
def test_a_bucket_is_not_overwritten_while_it_is_read(kind: str) -> None:
    tensors = {f"w{k}": torch.full((EACH // 4,), float(k)) for k in range(TENSORS)}
    engine = bare_engine()
    client = Late(engine)
    sender(kind, tensors, client).send()
    assert client.received is not None and client.received.bytes == sum(t.nbytes for t in tensors.values())
    for name, parameter in engine._model.named_parameters():
        assert torch.equal(parameter, tensors[name]), name
