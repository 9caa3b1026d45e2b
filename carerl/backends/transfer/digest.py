"""Proves that all weights arrived as they were sent.

Sender and receiver each compute a digest of what passes through their hands, on the device where it lies. Only a number
of 64 bits goes to the host, so 15 GB take milliseconds on a GPU. It depends on every bit, on the place of every bit in
its tensor, and on each tensor's name, dtype and shape. It does not depend on the order of the tensors, nor on how they
were cut into buckets.

A digest cannot show a tensor that the sender left out: that one is missing on both sides.
:meth:`Received.check_complete` compares names and shapes with those of the model, which the receiver knows.
Log-probs do not show it either: in bfloat16 they do not show a layer that missed a step of 1e-6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b

import torch
from torch import Tensor

_COLUMNS = 4096  # words in a row of the table that a tensor is summed as


class IncompleteWeights(RuntimeError):
    """Refuses a sync that does not bring every tensor of the model exactly once."""


class DamagedWeights(RuntimeError):
    """Refuses weights that are not those that were sent."""


@dataclass(frozen=True)
class Received:
    """Says what came in one sync: how often each name, with which shape, how many bytes, and the digest of all."""

    times: dict[str, int]
    shapes: dict[str, tuple[int, ...]]
    bytes: int
    digest: int

    def check_complete(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Refuses tensors that are not exactly those of ``shapes``, each once. Raises IncompleteWeights.

        ``shapes``: see :func:`carerl.backends.models.parameter_shapes`.
        """
        problems = {
            "missing": [name for name in shapes if name not in self.times],
            "sent more than once": [name for name, count in self.times.items() if count > 1],
            "not of the model": [name for name in self.times if name not in shapes],
            "of another shape than the model's": [
                name for name, shape in self.shapes.items() if name in shapes and shape != shapes[name]
            ],
        }
        found = [f"{len(names)} {problem} ({names[0]})" for problem, names in problems.items() if names]
        if found:
            raise IncompleteWeights(f"of the model's {len(shapes)} tensors {', '.join(found)}")


class Tally:
    """Counts the tensors of one sync, and sums up their digests."""

    def __init__(self) -> None:
        self._times: Counter[str] = Counter()
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._bytes = 0
        # () int64 each. They are added up at the end: vLLM loads on several streams of a GPU, which do not wait for
        # each other, so a running total would be read before it is written.
        self._sums: list[Tensor] = []

    def add(self, name: str, tensor: Tensor) -> None:
        """Adds a tensor. Nothing is moved to the host."""
        self._times[name] += 1
        self._shapes[name] = tuple(tensor.shape)
        self._bytes += tensor.numel() * tensor.element_size()
        key = _key(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}")
        # Multiplied by an odd key of its own, so that two tensors of one shape cannot be exchanged.
        self._sums.append(words_sum(tensor) * key + key)

    def passing(self, pairs: Iterable[tuple[str, Tensor]]) -> Iterator[tuple[str, Tensor]]:
        """Yields the pairs, and adds each before it is given on."""
        for name, tensor in pairs:
            self.add(name, tensor)
            yield name, tensor

    @property
    def received(self) -> Received:
        """What was added until now. Its digest, from 0 to 2^64 − 1, is brought to the host."""
        for device in {one.device for one in self._sums if one.is_cuda}:
            torch.cuda.synchronize(device)
        digest = int(torch.stack(self._sums).sum()) % 2**64 if self._sums else 0
        return Received(dict(self._times), dict(self._shapes), self._bytes, digest)


def _key(text: str) -> int:
    """Returns an odd number of 64 bits, as a signed one, that stands for a text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little", signed=True) | 1


@torch.no_grad()
def words_sum(tensor: Tensor) -> Tensor:
    """Returns Σ_i (2i + 1) · w_i modulo 2^64 over the tensor's words of 64 bits, as an int64 scalar on its device.

    The words are laid out as a table of C columns, i = r·C + c. Then the sum is Σ_r 2rC · (row r's sum)
    + Σ_c (2c + 1) · (column c's sum): two plain sums over the data and nothing as large as the data beside it. The last
    bytes, where they make no whole word, are filled up with zeros.
    """
    flat_N = tensor.detach().contiguous().flatten().view(torch.uint8)
    whole = flat_N.numel() // 8 * 8
    body_N, rest_N = flat_N[:whole], flat_N[whole:]
    if body_N.storage_offset() % 8:
        body_N = body_N.clone()  # words must begin at a multiple of their size
    total = _weighted(body_N.view(torch.int64), 0)
    if rest_N.numel():
        last_8 = torch.zeros(8, dtype=torch.uint8, device=tensor.device)
        last_8[: rest_N.numel()] = rest_N
        total = total + _weighted(last_8.view(torch.int64), whole // 8)
    return total


def _weighted(words_N: Tensor, first: int) -> Tensor:
    """Returns Σ (2i + 1) · w_i with i from ``first`` on."""
    rows = words_N.numel() // _COLUMNS
    table_RC, rest_N = words_N[: rows * _COLUMNS].view(rows, _COLUMNS), words_N[rows * _COLUMNS :]
    by_row_R, by_column_C = table_RC.sum(1), table_RC.sum(0)
    starts_R = torch.arange(rows, device=words_N.device) * _COLUMNS + first
    total = (2 * starts_R * by_row_R).sum() + (_odd(_COLUMNS, 0, words_N.device) * by_column_C).sum()
    return total + (_odd(rest_N.numel(), first + rows * _COLUMNS, words_N.device) * rest_N).sum()


def _odd(count: int, first: int, device: torch.device) -> Tensor:
    return 2 * torch.arange(first, first + count, device=device) + 1
