"""What a learner does."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from carerl.loss.batching import Minibatch
from carerl.loss.objective import Strengths
from carerl.types import TokenBatch


class Learner(Protocol):
    """One rank of a sharded policy with its optimizer. Every method is called on all ranks together."""

    hf_config: Any

    def update(
        self, batch: TokenBatch, minibatches: Sequence[Minibatch], lr: float, strengths: Strengths | None = None
    ) -> dict[str, float]:
        """Optimizer steps over the minibatches, in order; metrics reduced over all ranks. ``strengths``: of the
        loss's components; None: those that the objective was built with."""
        ...

    def score(self, batch: TokenBatch) -> tuple[list[int], dict[str, Tensor]]:
        """This rank's rows and their (rows, T) streams ``logprobs``, ``entropy`` and ``rkl``: float32, on the CPU,
        0 beyond each response. ``rkl`` is exact, and 0 without the reference's hidden states in the batch."""
        ...

    def set_reference_head(self, head_VD: Tensor) -> None:
        """The frozen head that turns the reference's hidden states into its distribution."""
        ...

    def tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Whole tensors on the CPU under their Hugging Face names, one at a time."""
        ...

    def save(self, directory: Path) -> None:
        """Model and optimizer."""
        ...

    def load(self, directory: Path) -> None:
        """What ``save`` wrote, also on another number of ranks."""
        ...
