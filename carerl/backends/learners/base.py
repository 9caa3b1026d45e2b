"""The protocols of a learner, and of the sharded model under it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from carerl.backends.hashed import Write
from carerl.backends.learners.policy import Policy
from carerl.backends.transfer.source import WeightSource
from carerl.loss.batching import Minibatch
from carerl.loss.objective import Strengths
from carerl.types import TokenBatch

AddReference = Callable[[TokenBatch], TokenBatch]
"""Adds the reference's streams to a micro-batch that is about to be used. Is called on all ranks together."""


class Stateful(Protocol):
    """Holds one rank's part of a model and its optimizer, and gives them out. Every call is made on all ranks
    together."""

    def save(self, directory: Path) -> Write:
        """Copies this rank's part of model and optimizer to host memory, and returns the function that writes it into
        ``directory`` while training goes on."""
        ...

    def load(self, directory: Path) -> str:
        """Restores what ``save`` had written, also on another number of ranks. Of another backend's checkpoint it takes
        the weights alone. Returns what a person should know of that, or ''."""
        ...

    def rest(self) -> None:
        """Gives up device memory that only training needs, until :meth:`resume`: an engine that shares the GPU is about
        to wake. Passes without a gradient, :meth:`source` and :meth:`save` work meanwhile."""
        ...

    def resume(self) -> None:
        """Takes back what :meth:`rest` gave up."""
        ...

    def close(self) -> None:
        """Ends the learner's use, so that its memory is free once nobody refers to it. What :meth:`save` returned may
        still be written."""
        ...


class Learner(Stateful, Protocol):
    """Trains one rank's part of a sharded policy. Every method is called on all ranks together."""

    def source(self, dtype: torch.dtype) -> WeightSource:
        """Returns all weights, whole, in ``dtype``, under the names of a Hugging Face checkpoint. Adapters are merged
        into them."""
        ...

    def trained(self, dtype: torch.dtype) -> WeightSource:
        """Returns what training changes, whole, in ``dtype``: all weights, or adapters alone."""
        ...

    @property
    def hf_config(self) -> Any:
        """The model's Hugging Face config."""
        ...

    def update(
        self,
        batch: TokenBatch,
        minibatches: Sequence[Minibatch],
        lr: float,
        strengths: Strengths | None = None,
        add_reference: AddReference | None = None,
        part_norms: bool = False,
        anchors_alone: bool = False,
    ) -> dict[str, float]:
        """Takes an optimizer step for each minibatch, in order; returns metrics reduced over all ranks.

        ``strengths``: those of the loss's components; None takes those that the objective was built with.
        ``add_reference``: None if the batch has the reference's streams, or needs none. ``part_norms``: also measures
        the gradient norm of each part of the first minibatch's loss, before its step; no weight depends on it.
        ``anchors_alone``: ``add_reference`` is for anchors only, and other rows have nothing of the reference.
        """
        ...

    def log_probs(
        self, batch: TokenBatch, minibatches: Sequence[Minibatch] = (), add_reference: AddReference | None = None
    ) -> tuple[list[int], dict[str, Tensor]]:
        """Returns this rank's rows and their streams (rows, T) ``logprobs``, ``entropy``, ``rkl``, ``peak``, the
        log-prob of the likeliest token, and ``certainty``, KL(uniform ‖ policy).

        ``minibatches``: those that the batch is to be trained in, so that each row is on the same rank as there.

        They are float32, on the CPU, 0 beyond each response. ``rkl`` is the exact reverse KL; without the reference's
        hidden states in the batch it is 0. ``certainty`` is 0 before :meth:`set_vocabulary`. What a stream has of a
        token is of the distribution that the token was drawn from, which the forward pass gives one position earlier.
        """
        ...

    def scores_of_base(self, part: TokenBatch, with_hidden: bool) -> Tensor:
        """Returns what the model says of a micro-batch with its adapters off, see
        :meth:`carerl.backends.learners.reference.FrozenPolicy.scores`."""
        ...

    def set_reference_head(self, head_VD: Tensor | None) -> None:
        """Sets the frozen head that turns the reference's hidden states into its distribution. None gives it up."""
        ...

    def set_vocabulary(self, tokens: int) -> None:
        """Has self-certainty computed from now on, over the head's first ``tokens`` rows: the tokenizer's. Rows beyond
        them are padding, which a model's own config counts as vocabulary. 0: no longer."""
        ...


class Shards(Stateful, Protocol):
    """Shards a model and its optimizer over the ranks.

    A new way of sharding is a class of this form; :class:`carerl.backends.learners.loop.LearnerLoop` does the rest.
    """

    rank: int
    world: int
    device: torch.device
    stream_dtype: torch.dtype
    """Of log-probs: float32, or float64 for a float64 model."""

    hf_config: Any
    policy: Policy
    """The sharded module. Calling it is the forward pass."""

    def source(self, dtype: torch.dtype, trained_only: bool = False) -> WeightSource:
        """Returns all parameters, whole, in ``dtype``, under the module's names. ``trained_only``: leaves out those
        that are frozen."""
        ...

    def backward(self, loss: Tensor, last: bool) -> None:
        """Adds a micro-batch's gradients, the mean over ranks. ``last``: True in the last micro-batch of a minibatch,
        after which ``step`` or ``forget`` follows; until then gradients need not be reduced over ranks."""
        ...

    def step(self, lr: float) -> float:
        """Clips the gradient and takes an optimizer step, unless the gradient is not finite; clears the gradient.
        Returns its global norm before clipping."""
        ...

    def forget(self) -> float:
        """Clears the gradient, and leaves weights and moments as they are. Returns the gradient's global norm."""
        ...
