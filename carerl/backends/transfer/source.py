"""The weights of a learner, as whoever sends or writes them reads them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


@dataclass(frozen=True)
class TensorMeta:
    """Describes a tensor that will come: its Hugging Face name, its dtype and its whole shape."""

    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


class WeightSource(Protocol):
    """Gives all weights, each whole, in one dtype and on the learner's device.

    It has the form of vLLM's ``WeightSource``, so that vLLM's own senders take it.
    """

    def metadata(self) -> list[TensorMeta]:
        """Returns what will come, in order. Moves nothing."""
        ...

    def __iter__(self) -> Iterator[tuple[str, Tensor]]:
        """Yields (name, tensor) in the order of :meth:`metadata`.

        Collective: the ranks gather each tensor together, so all of them iterate to the end. A tensor keeps its values
        for as long as somebody holds it: vLLM's senders collect a buffer of tensors before they copy any.
        """
        ...
