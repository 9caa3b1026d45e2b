"""The protocols of a weight transfer: who sends, who receives, and what goes between them.

The engine's side is four calls of vLLM's: ``init_weight_transfer_engine`` once, then for each version
``start_weight_update``, ``update_weights`` as often as needed, and ``finish_weight_update``. Every kind of transfer
uses them, on every engine.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol


class Client(Protocol):
    """Makes the four calls to all engines of a run, and waits for them. It has the form of vLLM's own
    ``VLLMWeightSyncClient``, so that vLLM's senders take it."""

    workers: int
    """The number of processes that hold a part of a model: engines times tensor parallelism."""

    def init_weight_transfer_engine(self, init_info: dict[str, Any]) -> None:
        """Prepares the engines to receive."""
        ...

    def start_weight_update(self) -> None:
        """Begins an update. From here to the end of the update the engines have no weights."""
        ...

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """Brings a part of the weights."""
        ...

    def finish_weight_update(self, weight_version: str | None = None) -> None:
        """Ends an update."""
        ...


@dataclass(frozen=True)
class Sent:
    """Says what a sync brought to the engines. ``digest``: see :mod:`carerl.backends.transfer.digest`."""

    kind: str
    bytes: int
    digest: int


class Sender(Protocol):
    """Sends weights from one rank of the learner. All ranks call it together; rank 0 alone talks to the engines."""

    def send(self) -> Sent:
        """Brings all weights to the engines. The engines still have to be asked whether they are whole."""
        ...


@dataclass(frozen=True)
class Place:
    """Says where a sender is. ``put``: puts bytes into the object store and returns a reference to them."""

    rank: int
    host: str
    put: Callable[[Any], Any]
