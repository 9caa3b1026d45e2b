"""The frozen reference: the model that its actors hold, and the copy of it that a learner's ranks share out.

A rank's copy is sharded with ``fully_shard`` under every learner, over the learner's own ranks. It runs on each
micro-batch just before the policy does, so its results stay on the device, and go nowhere.

What is gathered when. A large layer, and an embedding that is not the head too, is gathered for its own part of a pass.
The head (V, D) is gathered once for a whole update or scoring pass, because the policy's forward and backward passes
use it as well for exact divergences; it is given up at the end. At 152k × 3,584 in bfloat16 it has 1.1 GB.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method

from carerl import progress
from carerl.backends.learners.base import AddReference, Learner
from carerl.backends.learners.fsdp2 import SMALLEST_UNIT, fill, mesh_of, sharding
from carerl.backends.learners.policy import Policy
from carerl.backends.learners.starting import StartingModel, from_files
from carerl.backends.models import DTYPES, load_model
from carerl.config.schema import RunConfig
from carerl.loss.streams import put_rows
from carerl.records.vectors import TokenVectors
from carerl.types import TokenBatch


class FrozenPolicy(Policy):
    """A model that is not trained. ``model`` is a Hugging Face causal language model."""

    def __init__(self, model: Any, chunk_tokens: int, device: torch.device | None = None):
        super().__init__(model.eval().requires_grad_(False), chunk_tokens, device)

    @torch.no_grad()
    def scores(self, batch: TokenBatch, with_hidden: bool) -> Tensor:
        """Returns, at the N response tokens, the last hidden states (N, D) if ``with_hidden``, else the log-probs (N,)
        of the sampled tokens."""
        found = self.hidden(batch) if with_hidden else self.forward(batch, None, False)["logprobs_N"]
        assert found is not None
        progress.step()
        return found


def load_frozen(config: RunConfig, files: str, device: torch.device) -> FrozenPolicy:
    """Loads the reference from a model directory, in ``reference.compute_dtype``.

    Parameters are cast and buffers are not, as in a learner. With rotary frequencies in bfloat16 a query at position
    1,000 would be turned by an angle that is wrong by almost half a radian.
    """
    model = load_model(files, config.model.dtype, config.model.trust_remote_code)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(DTYPES[config.reference.compute_dtype])
    return FrozenPolicy(model.to(device), config.learner.head_chunk_tokens)


class ShardedReference:
    """One rank's part of the reference. Every call is made on all ranks together. It is in no checkpoint."""

    def __init__(self, start: StartingModel, chunk_tokens: int, mesh: DeviceMesh, device: torch.device):
        """Shards a model over the ranks of a mesh (:func:`carerl.backends.learners.fsdp2.mesh_of`), in the dtype that
        its parameters have."""
        policy: Any = FrozenPolicy(start.model, chunk_tokens, device)
        units = list(policy.decoder.layers)
        embedding = policy.model.get_input_embeddings()
        if embedding.weight is not policy.head_VD:
            units.append(embedding)
        for unit in units:
            if sum(parameter.numel() for parameter in unit.parameters()) >= SMALLEST_UNIT:
                fully_shard(unit, mesh=sharding(mesh))
        fully_shard(policy, mesh=sharding(mesh))
        register_fsdp_forward_method(policy, "scores")
        fill(policy, start, mesh, device)
        self._policy = policy

    @classmethod
    def of(cls, config: RunConfig, files: str, device: torch.device) -> ShardedReference:
        """Loads the reference from a model directory, rounded as :func:`load_frozen` rounds it."""
        start = from_files(files, config.model.trust_remote_code)
        for parameter in start.model.parameters():
            parameter.data = parameter.data.to(DTYPES[config.reference.compute_dtype])
        mesh = mesh_of(config.learner, device)
        return cls(start.rounded(DTYPES[config.model.dtype]), config.learner.head_chunk_tokens, mesh, device)

    @contextmanager
    def gathered(self, learner: Learner, with_hidden: bool) -> Iterator[AddReference]:
        """Yields what adds the reference's streams to a micro-batch: hidden states, and the head that belongs to them
        to the learner, or log-probs. At the end the weights are sharded again, and the head is gone."""

        def add(part: TokenBatch) -> TokenBatch:
            values = self._policy.scores(part, with_hidden)
            if with_hidden:
                learner.set_reference_head(self._policy.head_VD.detach())  # whole, since the pass has gathered it
            return _with_scores(part, values, with_hidden)

        try:
            yield add
        finally:
            if with_hidden:
                learner.set_reference_head(None)
            self._policy.reshard()


class AdaptersOff:
    """The reference of a learner that trains adapters: the learner's own policy without them. So there is no second
    model, and the head of its hidden states is the policy's, which is not trained."""

    @contextmanager
    def gathered(self, learner: Learner, with_hidden: bool) -> Iterator[AddReference]:
        """Yields what adds the reference's streams to a micro-batch: hidden states or log-probs."""
        yield lambda part: _with_scores(part, learner.scores_of_base(part, with_hidden), with_hidden)


def _with_scores(part: TokenBatch, values: Tensor, with_hidden: bool) -> TokenBatch:
    """Adds what :meth:`FrozenPolicy.scores` returned to a micro-batch."""
    if with_hidden:
        return part.with_streams(ref_hidden=TokenVectors.whole(values, part.response_lengths_B))
    logprobs_BT = torch.zeros(part.rows, part.width, dtype=values.dtype)
    put_rows(logprobs_BT, range(part.rows), part.response_lengths_B, values)
    return part.with_streams(ref_logprobs_BT=logprobs_BT)
