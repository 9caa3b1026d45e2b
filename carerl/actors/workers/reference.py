"""The actor that holds the frozen reference."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from carerl.actors.workers.base import Worker, device_of, local_files
from carerl.backends.learners.split import longest_first, micro_batches
from carerl.config.schema import RunConfig
from carerl.loss.streams import ReferenceShare
from carerl.types import TokenBatch


class ReferenceWorker(Worker):
    """Holds the frozen reference policy, and scores batches with it."""

    def prepare(self, config: RunConfig) -> None:
        """Imports what ``load`` needs, in advance."""
        from transformers import AutoModelForCausalLM  # noqa: F401

        import carerl.backends.learners.reference  # noqa: F401

    def load(self, config: RunConfig, model_dir: str) -> None:
        """Loads the weights and freezes them."""
        from carerl.backends.allocator import grow_segments
        from carerl.backends.learners.reference import load_frozen

        self.begin(config, config.reference.threads)
        if config.reference.gpus_per_actor:
            grow_segments(True)
        vars(self).pop("_policy", None)  # an earlier run's: there may be no room for both
        self._rows, self._tokens = config.reference.micro_batch_rows, config.reference.micro_batch_tokens
        self._policy = load_frozen(config, local_files(config, model_dir), device_of(config.reference.gpus_per_actor))

    def head(self) -> Tensor:
        """Returns the frozen head (V, D), on the CPU, for exact divergences in the learner."""
        return self._policy.head_VD.detach().cpu()

    def streams(
        self, batch: TokenBatch, parts: Sequence[Sequence[int]], with_hidden: bool
    ) -> ReferenceShare | tuple[ReferenceShare, ...]:
        """Scores the rows of all ``parts``, of which each is for one rank of the learner. Returns a share for each
        part, or, as Ray wants it, the share itself if there is one part: hidden states if ``with_hidden`` (the learner
        computes log-probs from them), else log-probs."""
        lengths = (batch.prompt_lengths_B + batch.response_lengths_B).tolist()
        tokens = batch.response_lengths_B.tolist()
        rows = longest_first((row for part in parts for row in part), lengths)
        starts = [_starts(part, tokens) for part in parts]
        place = {row: (number, start) for number, begin in enumerate(starts) for row, start in begin.items()}
        found: list[Tensor] = []
        for chosen in micro_batches(rows, lengths, self._rows, self._tokens):
            chosen.sort()  # a batch that fits into one pass is computed in its own order, the same for any actor
            values = self._policy.scores(batch.select(chosen), with_hidden).cpu()
            # Allocated whole: values of all micro-batches would be in memory twice when they are joined.
            found = found or [values.new_empty(sum(tokens[row] for row in part), *values.shape[1:]) for part in parts]
            for row, own in zip(chosen, values.split([tokens[row] for row in chosen]), strict=True):
                number, start = place[row]
                found[number][start : start + tokens[row]] = own
        name = "hidden_ND" if with_hidden else "logprobs_N"
        shares = tuple(ReferenceShare(tuple(part), **{name: own}) for part, own in zip(parts, found, strict=True))
        return shares if len(shares) > 1 else shares[0]


def _starts(part: Sequence[int], tokens: Sequence[int]) -> dict[int, int]:
    """Returns where each row's tokens begin among those of a part."""
    found, start = {}, 0
    for row in part:
        found[row] = start
        start += tokens[row]
    return found
