"""The records that travel between rooms: questions, responses, and the batches that the learner trains on.

A tensor's name ends in its shape. Legend of these suffixes, used in every file of the project:

====== =========================================================================
suffix meaning
====== =========================================================================
B      rows: one prompt with one response each
S      tokens of a row, prompt and response together, right-padded
T      response tokens of a row, right-padded; index t is the t-th response token
V      vocabulary
D      hidden size
K      options of a decision (padded)
M      strata that metrics are split by
N      tokens of a flattened selection, without padding
====== =========================================================================

Masks are derived from lengths and never from token ids: a padding id may equal an
end-of-sequence id, and a response may contain either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor

from carerl.records.spread import TokenSpread
from carerl.records.vectors import TokenVectors


class RunError(RuntimeError):
    """Ends a run. The message says all that a person needs, so no traceback is shown."""

    exit_code = 1


class Outcome(StrEnum):
    """Names what a grader found in one response. Rewards and metrics turn these into numbers."""

    CORRECT = "correct"
    WRONG = "wrong"
    ABSTAINED = "abstained"  # the response says that the answer is not known
    UNPARSED = "unparsed"  # ended by itself, but no answer could be read from it
    TRUNCATED = "truncated"  # ran into the length limit before an answer
    INVALID = "invalid"  # grading failed (time, memory, exception)


@dataclass(frozen=True, slots=True)
class Example:
    """One question of a task.

    >>> Example(id="q3/0/17", prompt_ids=(3, 11, 40, 5), gold="7").gold
    '7'
    """

    id: str
    prompt_ids: tuple[int, ...]
    gold: str
    meta: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Decision:
    """The token of a response that names one of a question's closed options. ``position``: its place in the response,
    from 0. ``token_ids``: by label, the token of each option in the spelling of this place; that of ``chosen`` is the
    response's own. ``right``: the labels of the right options."""

    position: int
    chosen: str
    token_ids: Mapping[str, int]
    right: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Completion:
    """One response as an engine returns it: token ids, never text."""

    token_ids: tuple[int, ...]

    logprobs: tuple[float, ...]
    """The log-probability (nats) of each token under the distribution that was sampled from, temperature included."""

    truncated: bool
    """True when the length limit ended the response."""

    versions: tuple[int, int] = (0, 0)
    """The oldest and the newest version of the weights that its tokens come from. The actor that holds the engine sets
    them, because an engine does not know of versions."""

    spreads: tuple[TokenSpread, ...] = ()
    """How spread each token's distribution was; empty if the request did not ask."""

    floored: bool = False
    """True when the request's floor ended the response."""


@dataclass(slots=True)
class Sample:
    """One response with everything that grading found out about it.

    ``correct`` (a property of ``outcome``), ``reward`` and ``confidence`` are three different things. A field that is
    None has not been set yet, unless its own line says something else.
    """

    example_id: str
    response_ids: tuple[int, ...]

    rollout_logprobs: tuple[float, ...]
    """The engine's log-probs of the response's tokens, see :class:`Completion`."""

    truncated: bool

    versions: tuple[int, int]
    """The oldest and the newest version of the policy weights that produced the response, see :class:`Completion`."""

    outcome: Outcome | None = None

    answer: str | None = None
    """The answer in a normal form, which counts in majority votes: equivalent answers have the same text here."""

    reward: float | None = None

    confidence: float | None = None
    """The share of the group that gave the same answer."""

    stated_confidence: float | None = None
    """The confidence that the response itself states; None if it states none."""

    answerable: bool = True
    """False where nobody can answer the question: abstaining is then correct."""

    reason: str = ""
    """What the grader could not decide, and why. Set for an INVALID outcome, and for a WRONG answer that could not be
    compared with other wrong ones and therefore counts as different. Empty otherwise."""

    decision: Decision | None = None
    """Where the response names an option; None where it does not, or nobody looked."""

    option_probs: tuple[float, ...] | None = None
    """The options' probabilities there, renormalised over them, as ``token_ids`` are ordered; None if nobody asked."""

    certainty: float | None = None
    """The mean over the response's tokens of KL(uniform ‖ policy) over the vocabulary, nats; None if nobody scored
    it."""

    entropy: float | None = None
    """The mean entropy of the policy at the response's tokens, nats; None if nobody scored it."""

    gain: float | None = None
    """The progressive gain of its steps (:mod:`carerl.distillation.gain`); None if it has no answer, or nobody scored
    it."""

    weight: float | None = None
    """What its policy term is multiplied by (:mod:`carerl.distillation.weights`); None where nothing is weighed."""

    argmax_outcome: Outcome | None = None
    """The outcome of the response with the likeliest option in the decision's place, where the reward is for that."""

    @property
    def by_option(self) -> dict[str, float]:
        """The options' probabilities at the decision, by label; empty where there is none or nobody asked."""
        labels = () if self.decision is None or self.option_probs is None else self.decision.token_ids
        return dict(zip(labels, self.option_probs or (), strict=False))

    @property
    def answer_prob(self) -> float | None:
        """The probability of the option that the response names; None where there is no such token or nobody asked."""
        return None if self.decision is None else self.by_option.get(self.decision.chosen)

    @property
    def likeliest(self) -> str | None:
        """The label of the likeliest option at the decision, the first of equal ones; None as for ``answer_prob``."""
        return max(found, key=found.__getitem__) if (found := self.by_option) else None

    @property
    def weight_version(self) -> int:
        """The oldest version of the weights that any token of the response came from."""
        return self.versions[0]

    @property
    def correct(self) -> bool:
        """True if the response gives the right answer, or abstains where there is none."""
        return self._is_correct(self.outcome)

    @property
    def rewarded(self) -> bool:
        """True if what the reward is for is correct: the response, or the same with its likeliest option."""
        return self._is_correct(self.outcome if self.argmax_outcome is None else self.argmax_outcome)

    def _is_correct(self, outcome: Outcome | None) -> bool:
        return outcome is Outcome.CORRECT or (outcome is Outcome.ABSTAINED and not self.answerable)


@dataclass(slots=True)
class Group:
    """All responses to one prompt in one step."""

    example: Example
    samples: list[Sample]


@dataclass(frozen=True, slots=True)
class Sampling:
    """Says how an engine samples.

    Each request is seeded from (``seed``, its number). So a response depends neither on what shares its batch nor on
    which engine made it.
    """

    n: int
    temperature: float
    max_new_tokens: int
    seed: int
    top_p: float = 1.0
    top_k: int = -1
    stop_ids: tuple[int, ...] = ()


@dataclass(slots=True)
class TokenBatch:
    """Rows of prompt and response with the per-token streams that the learner sums over.

    The batch names no algorithm: it carries each token's numbers, and a method is how they are filled in. A stream is
    a number for each response token: every ``*_BT`` is aligned with response tokens and is 0 beyond
    ``response_lengths_B``. A stream that no component of the loss asked for is None.

    Example, two rows with prompts of 2 and 3 tokens (p) and responses of 2 and 1 (r)::

        input_ids_BS       [[p p r r], [p p p r]]
        prompt_lengths_B   [2, 3]
        response_lengths_B [2, 1]
        advantages_BT      [[a a], [b 0]]
    """

    input_ids_BS: Tensor
    """int64. Prompt and response of each row, one after the other, then padding with 0."""

    prompt_lengths_B: Tensor
    """int64. Tokens of each prompt, at least 1: the first response token is predicted from the last prompt token."""

    response_lengths_B: Tensor
    """int64. Tokens of each response, its end token included; 0 for an empty one."""

    temperature: float = 1.0
    """The sampling temperature. The learner divides logits by it, so its log-probs are of the same distribution."""

    # ---- policy term

    policy_rows_B: Tensor | None = None
    """bool. The rows that count when the policy term is averaged; None counts all."""

    advantages_BT: Tensor | None = None
    """float32. How much better the response is than the algorithm's baseline, the same number on all of its tokens."""

    policy_weight_BT: Tensor | None = None
    """float32. What multiplies a token's policy term, before the global normaliser divides it. 0 drops the token."""

    rollout_logprobs_BT: Tensor | None = None
    """float32. Log-probs of the sampled tokens as the engine gave them, nats."""

    old_logprobs_BT: Tensor | None = None
    """float32. The learner's own log-probs of these tokens at the weights that sampled them, nats. None means that no
    weight has changed since."""

    entropy_weight_BT: Tensor | None = None
    """float32. What multiplies a token's entropy in the entropy bonus."""

    # ---- regularizer

    regularizer_weight_BT: Tensor | None = None
    """float32. What multiplies a token's divergence from the reference."""

    ref_logprobs_BT: Tensor | None = None
    """float32, or float64 of a float64 reference. Its log-probs of the sampled tokens, nats. Not needed beside
    ``ref_hidden``."""

    ref_hidden: TokenVectors | None = None
    """The reference's last hidden states. The learner computes the reference's whole distribution from them, for exact
    divergences."""

    # ---- cross-entropy

    ce_weight_BT: Tensor | None = None
    """float32. What multiplies a token's cross-entropy."""

    # ---- decisions: a row has at most one, so they are kept by row

    decision_positions_B: Tensor | None = None
    """int64. The place of the decision among the row's response tokens; -1 for a row without one. There the target of
    the cross-entropy is not the response token but a distribution over the options."""

    decision_ids_BK: Tensor | None = None
    """int64. The token of each option; 0 for padding."""

    decision_targets_BK: Tensor | None = None
    """float32. The probability that the cross-entropy wants of each option; 0 for padding."""

    decision_bounds_B: Tensor | None = None
    """float32. Where the current probability of the decision's token is not above this, its cross-entropy is off; -1:
    it never is."""

    # ---- anchors: rows of prompts that no reward sees, which take part in nothing else

    anchor_weight_BT: Tensor | None = None
    """float32. What multiplies a token's divergence from the reference in an anchor's row."""

    # ---- rows that stand in no group: anchors and traces

    added_B: Tensor | None = None
    """bool. Rows that no reward sees (:mod:`carerl.loss.added`); they come last. None for a batch without."""

    # ---- reports only

    strata_BM: Tensor | None = None
    """bool. The strata that a row belongs to, in the order of :data:`carerl.loss.strata.STRATA`. No loss reads it."""

    @property
    def rows(self) -> int:
        return int(self.input_ids_BS.shape[0])

    @property
    def width(self) -> int:
        """Padded response width T: that of the streams, or the longest response if there are no streams."""
        for f in fields(self):
            stream = getattr(self, f.name)
            if "_BT" in f.name and stream is not None:
                return int(stream.shape[1])
        return int(self.response_lengths_B.max()) if self.rows else 0

    @property
    def response_tokens(self) -> int:
        return int(self.response_lengths_B.sum())

    @property
    def mask_BT(self) -> Tensor:
        """bool, True on response tokens. Made from lengths."""
        return torch.arange(self.width)[None, :] < self.response_lengths_B[:, None]

    @property
    def anchored_BT(self) -> Tensor | None:
        """bool, True on the tokens of anchors; None for a batch without."""
        return None if self.anchor_weight_BT is None else self.anchor_weight_BT != 0

    def with_streams(self, **streams: Any) -> TokenBatch:
        """Returns a shallow copy with some streams replaced."""
        return replace(self, **streams)

    def select(self, rows: Sequence[int] | Tensor) -> TokenBatch:
        """Returns the given rows, cut to their own longest lengths. ``select([])`` is a valid empty batch."""
        index = torch.as_tensor(rows, dtype=torch.long)
        prompt = self.prompt_lengths_B[index]
        response = self.response_lengths_B[index]
        row_width = int((prompt + response).max()) if len(index) else 0
        response_width = int(response.max()) if len(index) else 0
        changes: dict[str, Any] = {}
        for f in fields(self):
            value = getattr(self, f.name)
            if isinstance(value, TokenVectors):
                changes[f.name] = value.select(index)
            if not isinstance(value, Tensor):
                continue
            value = value[index]
            if f.name.endswith("_BS"):
                value = value[:, :row_width]
            elif "_BT" in f.name:
                value = value[:, :response_width]
            changes[f.name] = value
        return replace(self, **changes)
