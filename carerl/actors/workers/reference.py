"""The actor that holds the frozen reference."""

from __future__ import annotations

from itertools import accumulate

import torch
from torch import Tensor

from carerl import progress
from carerl.actors.workers.base import Worker, device_of, local_files
from carerl.config.schema import RunConfig
from carerl.types import TokenBatch


class ReferenceWorker(Worker):
    """Holds the frozen reference policy, and scores batches with it."""

    def prepare(self, config: RunConfig) -> None:
        """Imports what ``load`` needs, in advance."""
        from transformers import AutoModelForCausalLM  # noqa: F401

        import carerl.backends.learners.policy  # noqa: F401

    def load(self, config: RunConfig, model_dir: str) -> None:
        """Loads the weights and freezes them."""
        from carerl.backends.learners.policy import Policy
        from carerl.backends.models import DTYPES, load_model

        self.begin(config, config.reference.threads)
        self._rows = config.reference.micro_batch_rows
        model = load_model(local_files(config, model_dir), config.model.dtype, config.model.trust_remote_code)
        model = model.to(device_of(config.reference.gpus_per_actor), DTYPES[config.reference.compute_dtype])
        self._policy = Policy(model.eval().requires_grad_(False), config.learner.head_chunk_tokens)

    def head(self) -> Tensor:
        """Returns the frozen head (V, D), on the CPU, for exact divergences in the learner."""
        return self._policy.head_VD.detach().cpu()

    @torch.no_grad()
    def streams(self, batch: TokenBatch, start: int, stop: int, with_hidden: bool) -> dict[str, Tensor]:
        """Scores the rows from ``start`` to ``stop``. Returns ``ref_hidden_ND``, the packed hidden states of response
        tokens, if ``with_hidden`` (the learner computes log-probs from them); else ``ref_logprobs_BT``, float32, of the
        whole batch's width."""
        parts = [batch.select(range(k, min(k + self._rows, stop))) for k in range(start, stop, self._rows)]
        if with_hidden:
            tokens = [0, *(part.response_tokens for part in parts)]
            hidden_ND = torch.empty(0)
            for part, begin in zip(parts, accumulate(tokens), strict=False):
                own_ND = self._policy.hidden(part).cpu()
                progress.step()
                if begin == 0:  # allocated whole: a list of parts would be in memory twice when it is joined
                    hidden_ND = own_ND.new_empty(sum(tokens), own_ND.shape[1])
                hidden_ND[begin : begin + len(own_ND)] = own_ND
            return {"ref_hidden_ND": hidden_ND}
        mask_BT = batch.mask_BT[start:stop]
        logprobs_N = torch.cat([self._logprobs(part) for part in parts])
        logprobs_BT = torch.zeros(mask_BT.shape)
        logprobs_BT[mask_BT] = logprobs_N.float()
        return {"ref_logprobs_BT": logprobs_BT}

    def _logprobs(self, part: TokenBatch) -> Tensor:
        logprobs_N: Tensor = self._policy(part, None, False)["logprobs_N"].cpu()
        progress.step()
        return logprobs_N
