"""Brings weights from the learner to the engines.

=================== ===============================================================================================
``source``          what a learner gives: all weights, one whole tensor after another
``base``            the protocols: a sender, and the client by which it calls the engines
``digest``          proves that what arrived is what was sent, and all of it
``host``            kinds ``shm`` and ``store``: through the memory of the host, in ``buckets``, one of which may lie in
                    ``shared_memory``
``device``          kinds ``nccl`` and ``ipc``: from GPU to GPU, by vLLM's own senders; knows vLLM's versions
``vllm_worker``     the receiving side in vLLM's workers
=================== ===============================================================================================

A new kind is a class of the form of :class:`~carerl.backends.transfer.base.Sender`, a line in the table, and its name
in ``carerl.config.schema.SyncConfig``, which may not import this room.
"""

from __future__ import annotations

from collections.abc import Callable

from .base import Client, Place, Sender
from .device import DeviceSender
from .host import HostSender
from .source import WeightSource

TRANSFERS: dict[str, Callable[[str, WeightSource, Client, Place, float], Sender]] = {
    "shm": HostSender,
    "store": HostSender,
    "nccl": DeviceSender,
    "ipc": DeviceSender,
}
