"""Sends weights through the memory of the host: kinds ``shm`` and ``store``.

``shm`` is for engines on the sender's node: two buckets of shared memory, of which one is filled while the engines read
the other. A weight is copied once, into the bucket, and viewed there. ``store`` puts each bucket into Ray's object
store as one array of bytes, for engines on other nodes; Ray sends those outside of its pickles and gives them out
without a copy. In both, only rank 0 touches the host's memory: the other ranks take part in gathering alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor

from carerl import progress
from carerl.backends.transfer.base import Client, Place, Sent
from carerl.backends.transfer.buckets import Slot, bucket_bytes, buckets, described, slots_of
from carerl.backends.transfer.digest import Tally
from carerl.backends.transfer.shared_memory import Segment
from carerl.backends.transfer.source import WeightSource


class HostSender:
    """Sends in buckets of up to ``bucket_mib`` MiB. See :class:`carerl.backends.transfer.base.Sender`."""

    def __init__(self, kind: str, source: WeightSource, client: Client, place: Place, bucket_mib: float):
        self._kind, self._source, self._client, self._place = kind, source, client, place
        self._buckets = buckets(source.metadata(), bucket_mib)
        self._segments: list[Segment] = []
        if place.rank != 0:
            return
        if kind == "shm":
            size = max(bucket_bytes(slots) for slots in self._buckets)
            self._segments = [Segment.make(size) for _ in self._buckets[:2]]
        try:
            client.init_weight_transfer_engine(
                {"segments": [(str(segment.path), segment.size) for segment in self._segments]}
            )
        finally:
            for segment in self._segments:
                segment.forget()

    def send(self) -> Sent:
        """Brings all weights to the engines."""
        if self._place.rank != 0:
            for _ in self._source:
                progress.step()
            return Sent(self._kind, 0, 0)
        tally, pairs = Tally(), iter(self._source)
        self._client.start_weight_update()
        with ThreadPoolExecutor(1) as asking:
            reading: Future[None] | None = None
            for number, slots in enumerate(self._buckets):
                info = self._filled(number, slots, pairs, tally)
                if reading is not None:
                    reading.result()  # then the bucket after this one may be overwritten
                reading = asking.submit(self._client.update_weights, {**info, "slots": described(slots)})
                progress.step()
            for name, _ in pairs:  # an unforeseen tensor, which the loop over buckets never asked for
                raise RuntimeError(f"the source of weights yields {name} beyond its metadata")
            if reading is not None:
                reading.result()
        self._client.finish_weight_update()
        found = tally.received
        return Sent(self._kind, found.bytes, found.digest)

    def _filled(
        self, number: int, slots: list[Slot], pairs: Iterator[tuple[str, Tensor]], tally: Tally
    ) -> dict[str, Any]:
        """Copies a bucket's tensors to the host; returns where they are."""
        if self._segments:
            segment = number % len(self._segments)
            self._fill(self._segments[segment].bytes_N, slots, pairs, tally)
            return {"segment": segment}
        array_N = np.empty(bucket_bytes(slots), np.uint8)
        self._fill(torch.from_numpy(array_N), slots, pairs, tally)
        return {"stored": [self._place.put(array_N)]}  # in a list, so that whoever gets it fetches it himself

    @staticmethod
    def _fill(buffer_N: Tensor, slots: list[Slot], pairs: Iterator[tuple[str, Tensor]], tally: Tally) -> None:
        for slot in slots:
            name, tensor = next(pairs, ("nothing", None))
            if name != slot.name or tensor is None:
                raise RuntimeError(f"the source of weights yields {name} where its metadata has {slot.name}")
            tally.add(name, tensor)
            slot.of(buffer_N).copy_(tensor)


class HostReceiver:
    """Finds the tensors of a bucket in the memory of the host."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []

    def init(self, segments: list[tuple[str, int]]) -> None:
        """Opens the sender's segments, in place of an earlier sender's."""
        self._segments = [Segment.open(path, size) for path, size in segments]

    def tensors(self, info: dict[str, Any]) -> Iterator[tuple[str, Tensor]]:
        """Yields (name, tensor) of a bucket. The tensors are views, valid until the call ends that brought ``info``."""
        stored = info.get("stored")
        buffer_N = _read_only(stored[0]) if stored else self._segments[info["segment"]].bytes_N
        for slot in slots_of(info["slots"]):
            yield slot.name, slot.of(buffer_N)


def _read_only(array_N: np.ndarray[Any, np.dtype[np.uint8]]) -> Tensor:
    """Returns an array of the object store, which must not be written to, as a tensor, without a copy."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given buffer is not writable")  # nobody writes to it
        return torch.frombuffer(array_N, dtype=torch.uint8)
