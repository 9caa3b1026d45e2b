"""Keeps an optimizer's state in host memory while an engine uses the GPU that it shares with a rank.

The host memory is pinned, so that a copy runs at the link's own rate, and it is kept: to pin 8 bytes a parameter anew
would take longer than the copy. A checkpoint of a rank at rest reads the state where it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor


class RestingOptimizer:
    """Moves the sharded state of an optimizer between ``device`` and the host. A state on the host already, as with
    ``learner.cpu_offload``, and counters of steps stay where they are."""

    def __init__(self, optimizer: torch.optim.Optimizer, device: torch.device):
        self._optimizer, self._device = optimizer, device
        self._host: dict[tuple[int, str], Tensor] = {}  # a place for each moment of each parameter

    def rest(self) -> None:
        """Copies the state to the host, and gives up its memory on the device."""
        for key, state, name in self._moments():
            local = state[name].to_local()
            place = self._host.get(key)
            if place is None:
                pinned = self._device.type != "cpu"
                place = self._host[key] = torch.empty_like(local, device="cpu", pin_memory=pinned)
            place.copy_(local, non_blocking=True)
            state[name] = _moved(state[name], place)
        self._wait()

    def resume(self) -> None:
        """Copies the state back to the device."""
        for _, state, name in self._moments():
            state[name] = _moved(state[name], state[name].to_local().to(self._device, non_blocking=True, copy=True))
        self._wait()

    def _moments(self) -> Iterator[tuple[tuple[int, str], dict[str, Any], str]]:
        """Yields each sharded tensor of the state: its key, the state of its parameter, and its name there."""
        for number, state in enumerate(self._optimizer.state.values()):
            for name, value in list(state.items()):
                if isinstance(value, DTensor):
                    yield (number, name), state, name

    def _wait(self) -> None:
        if self._device.type != "cpu":
            torch.cuda.synchronize(self._device)


def _moved(value: DTensor, local: Tensor) -> DTensor:
    """Returns the same part of a tensor, held in ``local``. torch's own ways to make one move it to the mesh's device;
    FSDP2's host offload makes them like this."""
    return DTensor(local, value._spec, requires_grad=False)


def free_cached(device: torch.device) -> None:
    """Gives device memory that nothing uses back, so that another process may take it."""
    if device.type != "cpu":
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
