"""The protocol of a learner."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from carerl.loss.batching import Minibatch
from carerl.loss.objective import Strengths
from carerl.types import TokenBatch


class Learner(Protocol):
    """Trains one rank's part of a sharded policy. Every method is called on all ranks together."""

    hf_config: Any

    def update(
        self, batch: TokenBatch, minibatches: Sequence[Minibatch], lr: float, strengths: Strengths | None = None
    ) -> dict[str, float]:
        """Takes an optimizer step for each minibatch, in order; returns metrics reduced over all ranks.

        ``strengths``: those of the loss's components; None takes those that the objective was built with.
        """
        ...

    def log_probs(self, batch: TokenBatch) -> tuple[list[int], dict[str, Tensor]]:
        """Returns this rank's rows and their streams (rows, T) ``logprobs``, ``entropy`` and ``rkl``.

        They are float32, on the CPU, 0 beyond each response. ``rkl`` is the exact reverse KL; without the reference's
        hidden states in the batch it is 0.
        """
        ...

    def set_reference_head(self, head_VD: Tensor) -> None:
        """Sets the frozen head that turns the reference's hidden states into its distribution."""
        ...

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yields whole tensors on the CPU under their Hugging Face names, one at a time."""
        ...

    def save(self, directory: Path) -> None:
        """Writes model and optimizer."""
        ...

    def load(self, directory: Path) -> None:
        """Restores what ``save`` wrote, also on another number of ranks."""
        ...
