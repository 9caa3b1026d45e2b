"""The module that learner and reference run: a decoder, and token statistics from its last hidden states.

Hidden states and head meet inside one ``forward``. So a sharding wrapper gathers the head's weight exactly once for
both, and logits exist only for a chunk of response tokens at a time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from carerl.backends.cpu_ops import speed_up
from carerl.loss.head import Exact, FactoredLogits, SoftTargets, TokenStatistics, TwoKinds, token_statistics
from carerl.loss.streams import decision_tokens
from carerl.types import TokenBatch


class Policy(nn.Module):
    """Computes token statistics with a causal language model of Hugging Face's.

    ``forward`` returns a plain dict of tensors: the sharding wrapper looks for outputs whose backward pass it must
    prepare, and walks only containers that it knows. Raises ValueError for a head with a bias, because
    :mod:`carerl.loss.head` has none.
    """

    def __init__(self, model: Any, chunk_tokens: int, device: torch.device | None = None, compiled: bool = False):
        """Wraps a model. ``device``: the one that computes. None: where the model's weights are. ``compiled``: whether
        the layers are compiled, so that no kernels of our own stand in the way."""
        super().__init__()
        if getattr(model.get_output_embeddings(), "bias", None) is not None:
            raise ValueError(f"{type(model).__name__} has a bias on its output head, which is not computed here")
        self.device = device or next(model.parameters()).device
        if not compiled:
            speed_up(model, self.device)
        self.model = model
        self.chunk_tokens = chunk_tokens
        self.vocabulary = 0  # tokens, the head's first rows, over which self-certainty is computed; 0: it is not
        self.frozen_ref_head_VD: Tensor | None = None  # not a parameter: it is neither trained nor sharded

    @property
    def decoder(self) -> nn.Module:
        return self.model.get_decoder()

    @property
    def head_VD(self) -> Tensor:
        return self.model.get_output_embeddings().weight

    def hidden(self, batch: TokenBatch) -> Tensor:
        """Returns the last hidden states (N, D) that predict the response tokens, in row-major order of the mask."""
        ids_BS = batch.input_ids_BS.to(self.device)
        lengths_B = batch.prompt_lengths_B + batch.response_lengths_B
        # Right padding under a causal mask: no real token sees padding, so no attention mask is needed.
        hidden_BSD = self.decoder(input_ids=ids_BS, use_cache=False).last_hidden_state
        positions_S = torch.arange(ids_BS.shape[1])[None, :]
        predicts_BS = (positions_S >= batch.prompt_lengths_B[:, None] - 1) & (positions_S < lengths_B[:, None] - 1)
        return hidden_BSD[predicts_BS.to(self.device)]

    def forward(
        self,
        batch: TokenBatch,
        exact: Exact | None,
        with_ref: bool,
        hidden_alone: bool = False,
        peaks: bool = False,
        anchor: Exact | None = None,
    ) -> dict[str, Tensor | None]:
        """Returns the fields of :class:`TokenStatistics`; with ``hidden_alone`` nothing but the last hidden states.

        ``with_ref``: uses the reference's hidden states if the batch has them. ``exact`` and ``anchor``: the exact
        divergence of rewarded rows and that of anchors. ``peaks``: the likeliest token's log-prob is computed too.
        Raises ValueError if they are there and their head is not: :attr:`frozen_ref_head_VD`, or the policy's own if
        that is not trained.
        """
        if hidden_alone:
            return {"hidden_ND": self.hidden(batch)}
        policy = FactoredLogits(self.hidden(batch), self.head_VD, self.vocabulary)
        reference = None
        if with_ref and batch.ref_hidden is not None:
            head_VD = self.frozen_ref_head_VD
            if head_VD is None and not policy.head_VD.requires_grad:
                head_VD = policy.head_VD
            if head_VD is None:
                raise ValueError("the batch has the reference's hidden states, but its head has not been set")
            reference = FactoredLogits(batch.ref_hidden.values_ND.to(self.device), head_VD)
        statistics = token_statistics(
            policy,
            response_ids(batch).to(self.device),
            temperature=batch.temperature,
            chunk_tokens=self.chunk_tokens,
            reference=reference,
            exact=_by_row(batch, exact, anchor) if with_ref else None,
            soft_targets=self._soft_targets(batch),
            peaks=peaks,
        )
        return {name: getattr(statistics, name) for name in TokenStatistics.__dataclass_fields__}

    def _soft_targets(self, batch: TokenBatch) -> SoftTargets | None:
        """Returns the options of each token's decision; tokens that are none have weights of 0."""
        ids_BK, targets_BK = batch.decision_ids_BK, batch.decision_targets_BK
        if ids_BK is None or targets_BK is None:
            return None
        rows, places = decision_tokens(batch)
        ids_NK = torch.zeros(batch.response_tokens, ids_BK.shape[1], dtype=torch.long)
        weights_NK = torch.zeros(batch.response_tokens, ids_BK.shape[1])
        ids_NK[places], weights_NK[places] = ids_BK[rows], targets_BK[rows]
        return SoftTargets(ids_NK.to(self.device), weights_NK.to(self.device))


def _by_row(batch: TokenBatch, exact: Exact | None, anchor: Exact | None) -> Exact | TwoKinds | None:
    """Returns the exact divergence of rewarded rows, and that of anchors at their tokens."""
    return exact if batch.anchored_BT is None else TwoKinds(exact, anchor, batch.anchored_BT[batch.mask_BT])


def response_ids(batch: TokenBatch) -> Tensor:
    """Returns the response tokens (N,) in row-major order of the mask."""
    positions_S = torch.arange(batch.input_ids_BS.shape[1])[None, :]
    ends_B = batch.prompt_lengths_B + batch.response_lengths_B
    return batch.input_ids_BS[(positions_S >= batch.prompt_lengths_B[:, None]) & (positions_S < ends_B[:, None])]
