"""Sends weights from GPU to GPU: kinds ``nccl`` (GPUs apart) and ``ipc`` (one GPU), by vLLM's own senders.

With ``ipc`` every rank gathers every tensor into a buffer on its own GPU. Rank 0 sends the handles of all buffers to
all engines, and an engine opens the one that is on its GPU, which it knows by the GPU's UUID. So ranks and engines may
be as many as they like, on one node or several, as long as each engine is on the GPU of a rank.

Nothing here touches the memory of the host. This is the only place that knows how vLLM's versions differ: 0.32 has
senders that are made once and drive the four calls themselves, 0.25 has one function per engine class, which leaves
``start`` and ``finish`` to its caller.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor

from carerl import progress
from carerl.backends.transfer.base import Client, Place, Sent
from carerl.backends.transfer.buckets import dtype_name
from carerl.backends.transfer.digest import Tally
from carerl.backends.transfer.source import TensorMeta, WeightSource


class DeviceSender:
    """Sends in packed buffers of ``bucket_mib`` MiB. See :class:`carerl.backends.transfer.base.Sender`."""

    def __init__(self, kind: str, source: WeightSource, client: Client, place: Place, bucket_mib: float):
        from vllm.distributed.weight_transfer import factory

        self._kind, self._place = kind, place
        self._source = _Tallied(source)
        bucket_bytes = int(bucket_mib * 2**20)
        if kind == "ipc":  # its buffer must hold the largest tensor, an embedding of 1 GB for instance
            bucket_bytes = max(bucket_bytes, *(meta.bytes for meta in source.metadata()))
        new = hasattr(factory, "WeightTransferTrainerFactory")
        send = _since_0_32 if new else {"nccl": _nccl_0_25, "ipc": _ipc_0_25}[kind]
        self._send = send(kind, self._source, client, place, bucket_bytes)

    def send(self) -> Sent:
        """Brings all weights to the engines."""
        self._source.begin()
        self._send()
        found = self._source.tally.received
        return Sent(self._kind, found.bytes, found.digest) if self._place.rank == 0 else Sent(self._kind, 0, 0)


class _Tallied:
    """Gives a source's weights on, and sums up their digests.

    vLLM's senders ask for weights while streams of their own are current, which do not wait for the stream that the
    learner computes on. So weights are gathered on the learner's stream, and the sender's stream waits for it.
    """

    def __init__(self, source: WeightSource):
        self._source = source
        self.begin()

    def begin(self) -> None:
        """Begins a sync, on the stream that is current now."""
        self.tally = Tally()
        self._stream = torch.cuda.current_stream() if torch.cuda.is_available() else None

    def metadata(self) -> list[TensorMeta]:
        return self._source.metadata()

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        pairs = self.tally.passing(self._source)
        while True:
            with torch.cuda.stream(self._stream):
                found = next(pairs, None)
            if found is None:
                return
            if self._stream is not None and found[1].is_cuda:
                torch.cuda.current_stream().wait_stream(self._stream)
                found[1].record_stream(torch.cuda.current_stream())  # its memory is not given out again before
            progress.step()
            yield found


def _since_0_32(kind: str, source: _Tallied, client: Client, place: Place, buffer_bytes: int) -> Any:
    """Returns the ``send_weights`` of vLLM's sender. Every rank makes one."""
    from vllm.distributed.weight_transfer.factory import WeightTransferTrainerFactory

    packed: dict[str, Any] = {"rank": place.rank, "packed": True, "packed_buffer_size_bytes": buffer_bytes}
    info: Any
    if kind == "nccl":
        from vllm.distributed.weight_transfer.nccl_engine import NCCLTrainerInitInfo

        port = _free_port(place.host) if place.rank == 0 else 0
        info = NCCLTrainerInitInfo(master_address=place.host, master_port=port, world_size=1 + client.workers, **packed)
    else:
        from vllm.distributed.weight_transfer.ipc_engine import IPCTrainerInitInfo

        info = IPCTrainerInitInfo(**packed)
    return WeightTransferTrainerFactory.trainer_init(info, client=client, source=source).send_weights


def _nccl_0_25(kind: str, source: _Tallied, client: Client, place: Place, buffer_bytes: int) -> Any:
    """Returns a function that broadcasts, while the engines receive in a call on another thread."""
    from vllm.distributed.weight_transfer.nccl_engine import NCCLWeightTransferEngine

    if place.rank != 0:
        return lambda: _walk(source)
    meeting = {"master_address": place.host, "master_port": _free_port(place.host), "world_size": 1 + client.workers}
    buffer = {"packed": True, "packed_buffer_size_bytes": buffer_bytes}
    with ThreadPoolExecutor(1) as asking:  # both sides must be there before either returns
        joined = asking.submit(client.init_weight_transfer_engine, {**meeting, "rank_offset": 1})
        group = NCCLWeightTransferEngine.trainer_init(meeting)
        joined.result()

    def send() -> None:
        client.start_weight_update()
        asking = ThreadPoolExecutor(1)
        try:
            taken = asking.submit(client.update_weights, {**_described(source), **buffer})
            NCCLWeightTransferEngine.trainer_send_weights(iter(source), {"group": group, **buffer})
            taken.result()
        finally:
            asking.shutdown(wait=False)  # an engine that waits for a broadcast that failed would be waited for for ever
        client.finish_weight_update()

    return send


def _ipc_0_25(kind: str, source: _Tallied, client: Client, place: Place, buffer_bytes: int) -> Any:
    """Returns a function that sends handles to buffers. Every rank takes part: each may share a GPU with an engine."""
    from vllm.distributed.weight_transfer.ipc_engine import IPCWeightTransferEngine

    if place.rank == 0:
        client.init_weight_transfer_engine({})

    def send() -> None:
        if place.rank == 0:
            client.start_weight_update()
        IPCWeightTransferEngine.trainer_send_weights(
            iter(source),
            {
                "send_mode": lambda info: client.update_weights(asdict(info)),
                "packed": True,
                "packed_buffer_size_bytes": buffer_bytes,
            },
        )
        if place.rank == 0:
            client.finish_weight_update()

    return send


def _walk(source: _Tallied) -> None:
    for _ in source:
        pass


def _described(source: _Tallied) -> dict[str, Any]:
    metadata = source.metadata()
    return {
        "names": [meta.name for meta in metadata],
        "dtype_names": [dtype_name(meta.dtype) for meta in metadata],
        "shapes": [list(meta.shape) for meta in metadata],
    }


def _free_port(host: str) -> int:
    """Returns a port that nobody listens at now. vLLM binds it itself."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
