"""The module that learner and reference run: a decoder, and token statistics from its last hidden states.

Hidden states and head meet inside one ``forward``, so that a sharding wrapper gathers the head's weight
exactly once for it, and so that logits exist only for a chunk of response tokens at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from carerl.backends.cpu_ops import speed_up
from carerl.loss.head import TokenStatistics, token_statistics
from carerl.types import TokenBatch


class Policy(nn.Module):
    """A causal language model of Hugging Face's, seen as token statistics.

    ``forward`` returns a plain dict of tensors, because the sharding wrapper finds the outputs whose
    backward pass it must prepare by walking containers that it knows. Raises ValueError for a head with a bias, which
    the logits here would leave out.
    """

    def __init__(self, model: Any, chunk_tokens: int):
        super().__init__()
        if getattr(model.get_output_embeddings(), "bias", None) is not None:
            raise ValueError(f"{type(model).__name__} has a bias on its output head, which is not computed here")
        speed_up(model)
        self.model = model
        self.chunk_tokens = chunk_tokens
        self.frozen_ref_head_VD: Tensor | None = None  # not a parameter: it is neither trained nor sharded

    @property
    def decoder(self) -> nn.Module:
        return self.model.get_decoder()

    @property
    def head_VD(self) -> Tensor:
        return self.model.get_output_embeddings().weight

    def hidden(self, batch: TokenBatch) -> Tensor:
        """Last hidden states (N, D) that predict the response tokens, in row-major order of the mask."""
        ids_BS = batch.input_ids_BS.to(self.device)
        lengths_B = batch.prompt_lengths_B + batch.response_lengths_B
        # Right padding under a causal mask: no real token sees padding, so no attention mask is needed.
        hidden_BSD = self.decoder(input_ids=ids_BS, use_cache=False).last_hidden_state
        positions_S = torch.arange(ids_BS.shape[1])[None, :]
        predicts_BS = (positions_S >= batch.prompt_lengths_B[:, None] - 1) & (positions_S < lengths_B[:, None] - 1)
        return hidden_BSD[predicts_BS.to(self.device)]

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def forward(
        self, batch: TokenBatch, exact: Callable[[Tensor, Tensor], Tensor] | None, with_ref: bool
    ) -> dict[str, Tensor | None]:
        mask_BT = batch.mask_BT
        target_ids_N = response_ids(batch).to(self.device)

        def flat(stream: Tensor | None) -> Tensor | None:
            return None if stream is None else stream[mask_BT].to(self.device)

        statistics = token_statistics(
            self.hidden(batch),
            self.head_VD,
            target_ids_N,
            temperature=batch.temperature,
            chunk_tokens=self.chunk_tokens,
            ref_hidden_ND=batch.ref_hidden.values_ND.to(self.device)
            if with_ref and batch.ref_hidden is not None
            else None,
            ref_head_VD=self.frozen_ref_head_VD if with_ref and batch.ref_hidden is not None else None,
            exact=exact if with_ref else None,
            ce_ids_NK=flat(batch.ce_target_ids_BTK),
            ce_weights_NK=flat(batch.ce_target_weights_BTK),
        )
        return {name: getattr(statistics, name) for name in TokenStatistics.__dataclass_fields__}


def response_ids(batch: TokenBatch) -> Tensor:
    """The response tokens (N,) in row-major order of the mask."""
    positions_S = torch.arange(batch.input_ids_BS.shape[1])[None, :]
    ends_B = batch.prompt_lengths_B + batch.response_lengths_B
    return batch.input_ids_BS[(positions_S >= batch.prompt_lengths_B[:, None]) & (positions_S < ends_B[:, None])]
