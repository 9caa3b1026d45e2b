"""Sends given weights as a learner would, for tests of whoever receives them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from carerl.actors.workers.engine_client import EngineClient
from carerl.backends.engines import Engine
from carerl.backends.transfer import TRANSFERS
from carerl.backends.transfer.base import Client, Place, Sender, Sent
from carerl.backends.transfer.digest import Received
from carerl.backends.transfer.source import TensorMeta


class Given:
    """A source of the given tensors."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self.tensors = tensors

    def metadata(self) -> list[TensorMeta]:
        return [TensorMeta(name, tensor.dtype, tuple(tensor.shape)) for name, tensor in self.tensors.items()]

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        return ((name, tensor.detach()) for name, tensor in self.tensors.items())


class Direct:
    """A client of one engine in this process."""

    workers = 1

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.received: Received | None = None

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        self.engine.init_transfer(init_info)

    def start_weight_update(self) -> None:
        self.engine.start_update()

    def update_weights(self, update_info: dict[str, Any]) -> None:
        self.engine.update(update_info)

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        self.received = self.engine.finish_update()


BUCKET_MIB = 1 / 64  # even a tiny model takes many, so that each is overwritten


def sender(kind: str, tensors: Mapping[str, Tensor], client: Client, put: Any = None, rank: int = 0) -> Sender:
    """A sender of the given tensors. ``put``: in place of the object store's."""
    place = Place(rank, "127.0.0.1", put or as_stored)
    return TRANSFERS[kind](kind, Given(tensors), client, place, BUCKET_MIB)


def as_stored(array: Any) -> Any:
    """What comes out of the object store: an array that must not be written to."""
    array.flags.writeable = False
    return array


def bring(engine: Engine, tensors: Mapping[str, Tensor], kind: str = "shm") -> Received:
    """Gives an engine new weights; returns what it received. The digests of both sides agree."""
    client = Direct(engine)
    sent = sender(kind, tensors, client).send()
    assert client.received is not None and client.received.digest == sent.digest
    return client.received


def deliver(engines: Sequence[Any], tensors: Mapping[str, Tensor], put: Any = None, kind: str = "shm") -> Sent:
    """Gives new weights to actors that hold engines. They still have to accept them."""
    return sender(kind, tensors, EngineClient(engines, len(engines), 60.0), put).send()
