"""The records that travel between rooms.

Legend of shape suffixes, used in every file of the project:

====== =========================================================================
suffix meaning
====== =========================================================================
B      rows: one prompt with one response each
S      tokens of a row, prompt and response together, right-padded
T      response tokens of a row, right-padded; index t is the t-th response token
V      vocabulary
D      hidden size
K      cross-entropy targets of one token (padded)
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


class RunError(RuntimeError):
    """A run cannot go on, and the message says all that a person needs: no traceback is shown."""

    exit_code = 1


class Outcome(StrEnum):
    """What a grader says of one response. Six different things, never merged into a number here."""

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
class Completion:
    """One response as an engine returns it: token ids out, never text.

    ``logprobs[t]`` is the log-probability (nats) of ``token_ids[t]`` under the distribution that was
    sampled from, temperature included. ``truncated`` is True when the length limit ended the response.
    ``versions`` are the oldest and the newest version of the weights that its tokens come from; the actor that holds
    the engine sets them, as an engine knows of no versions.
    """

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    truncated: bool
    versions: tuple[int, int] = (0, 0)


@dataclass(slots=True)
class Sample:
    """One response with what became of it.

    ``correct`` (a property of ``outcome``), ``reward`` and ``confidence`` are three different things.
    ``reward`` and ``confidence`` are None until something sets them; ``confidence`` is the share of the group that
    gave the same answer, ``stated_confidence`` what the response says of itself, None if it says nothing, and
    ``answer_prob`` the probability of the option that it names, None where there is no such token or nobody asked.
    ``answer`` is what the response votes for: in a graded group, samples with equivalent answers have the same one.
    ``answerable`` is False where nobody can answer the question: there abstaining is correct.
    ``reason`` says what the grader could not decide, and why: all of an INVALID outcome, or that a WRONG answer was not
    compared with other wrong ones, and counts as different. Empty otherwise.
    ``versions`` are the oldest and the newest version of the policy weights that produced the response, see
    :class:`Completion`; ``weight_version`` is the oldest.
    """

    example_id: str
    response_ids: tuple[int, ...]
    rollout_logprobs: tuple[float, ...]
    truncated: bool
    versions: tuple[int, int]
    outcome: Outcome | None = None
    answer: str | None = None
    reward: float | None = None
    confidence: float | None = None
    stated_confidence: float | None = None
    answerable: bool = True
    reason: str = ""
    answer_prob: float | None = None

    @property
    def weight_version(self) -> int:
        """The oldest version: how far off-policy the response is at most."""
        return self.versions[0]

    @property
    def correct(self) -> bool:
        """Whether the response is what the question wants: the right answer, or where there is none, to say so."""
        return self.outcome is Outcome.CORRECT or (self.outcome is Outcome.ABSTAINED and not self.answerable)


@dataclass(slots=True)
class Group:
    """All responses to one prompt in one step."""

    example: Example
    samples: list[Sample]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How an engine samples. Each request is seeded from (``seed``, its number), so that a response depends neither
    on what shares its batch nor on which engine made it."""

    n: int
    temperature: float
    max_new_tokens: int
    seed: int
    top_p: float = 1.0
    top_k: int = -1
    stop_ids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenVectors:
    """A vector for each response token of a batch's rows, packed: what is too large to be padded.

    ``parts_ND``: the tokens of contiguous shares of rows, in order, as they were made; nothing is copied until rows are
    selected. ``lengths_B``: tokens of each row, over all parts; a row does not cross from one part into the next.

    >>> vectors = TokenVectors((torch.arange(6.0).reshape(3, 2), torch.ones(1, 2)), torch.tensor([2, 1, 0, 1]))
    >>> vectors.select(torch.tensor([3, 1])).values_ND
    tensor([[1., 1.],
            [4., 5.]])
    """

    parts_ND: tuple[Tensor, ...]
    lengths_B: Tensor

    @property
    def values_ND(self) -> Tensor:
        """All tokens, row by row."""
        return self.parts_ND[0] if len(self.parts_ND) == 1 else torch.cat(self.parts_ND)

    def select(self, rows: Tensor) -> TokenVectors:
        """The given rows, in the order given; only their tokens are copied."""
        ends_B = self.lengths_B.cumsum(0)
        part_ends = torch.tensor([len(part) for part in self.parts_ND]).cumsum(0)
        found = []
        for start, stop in zip((ends_B - self.lengths_B)[rows].tolist(), ends_B[rows].tolist(), strict=True):
            if stop > start:
                k = int(torch.searchsorted(part_ends, start, right=True))
                before = int(part_ends[k]) - len(self.parts_ND[k])
                found.append(self.parts_ND[k][start - before : stop - before])
        return TokenVectors((torch.cat(found) if found else self.parts_ND[0][:0],), self.lengths_B[rows])


@dataclass(slots=True)
class TokenBatch:
    """Rows of prompt + response with the per-token streams that the learner sums over.

    The learner knows no algorithm: a method is how these streams are filled. Every ``*_BT`` stream is
    aligned with response tokens and is 0 beyond ``response_lengths_B``. A stream that is None is one
    that no component asked for.

    Example, two rows with prompts of 2 and 3 tokens, responses of 2 and 1::

        input_ids_BS       [[p p r r], [p p p r]]
        prompt_lengths_B   [2, 3]
        response_lengths_B [2, 1]
        advantages_BT      [[a a], [b 0]]
    """

    input_ids_BS: Tensor  # int64
    prompt_lengths_B: Tensor  # int64
    response_lengths_B: Tensor  # int64
    temperature: float = 1.0
    # policy term
    policy_rows_B: Tensor | None = None  # bool, rows that its denominator counts; None: all
    advantages_BT: Tensor | None = None  # float32
    policy_weight_BT: Tensor | None = None  # float32, before division by the global normaliser
    rollout_logprobs_BT: Tensor | None = None  # float32, from the engine
    old_logprobs_BT: Tensor | None = None  # float32, the learner's own at the rollout's weights
    entropy_weight_BT: Tensor | None = None  # float32, of the entropy bonus
    # regularizer
    regularizer_weight_BT: Tensor | None = None  # float32
    ref_logprobs_BT: Tensor | None = None  # float32
    ref_hidden: TokenVectors | None = None  # the reference's last hidden states, for exact divergences
    # cross-entropy
    ce_weight_BT: Tensor | None = None  # float32
    ce_target_ids_BTK: Tensor | None = None  # int64
    ce_target_weights_BTK: Tensor | None = None  # float32
    # reports only
    strata_BM: Tensor | None = None  # bool, the strata that a row belongs to, see algorithms.strata

    @property
    def rows(self) -> int:
        return int(self.input_ids_BS.shape[0])

    @property
    def width(self) -> int:
        """Padded response width T: that of the streams, or the longest response where there are none."""
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
        """bool, True on response tokens; from lengths."""
        return torch.arange(self.width)[None, :] < self.response_lengths_B[:, None]

    def with_streams(self, **streams: Any) -> TokenBatch:
        """A shallow copy with some streams replaced."""
        return replace(self, **streams)

    def select(self, rows: Sequence[int] | Tensor) -> TokenBatch:
        """The given rows, cut to their own longest lengths. ``select([])`` is a valid empty batch."""
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


# ---- what a profile records ---------------------------------------------------------------------------

PHASE, CALL, WAIT, COPY = "phase", "call", "wait", "copy"  # kinds of spans
Stack = tuple[int, ...]  # numbers of functions, outermost first


@dataclass(frozen=True)
class Span:
    """Something with a name, from ``begin`` to ``end``; for ``cpu`` of it this thread was on a core. Nanoseconds."""

    name: str
    kind: str
    begin: int
    end: int
    cpu: int

    @property
    def wall(self) -> int:
        return self.end - self.begin


@dataclass(frozen=True)
class Op:
    """What torch did under one name: how often, and microseconds on the CPU without (``own``) and with what it called
    (``total``), and of the GPU for it alone."""

    name: str
    calls: int
    own: float
    total: float
    gpu: float = 0.0


@dataclass
class Recording:
    """What a process recorded. ``worker`` is Ray's name of it. ``samples``: when, and the functions that were under way
    then, as numbers in ``functions``. ``op_events``: name, begin, end."""

    pid: int
    begin: int = 0
    end: int = 0
    process: str = ""
    host: str = ""
    worker: str = ""
    spans: list[Span] = field(default_factory=list)
    functions: list[str] = field(default_factory=list)
    samples: list[tuple[int, Stack]] = field(default_factory=list)
    ops: list[Op] = field(default_factory=list)
    op_events: list[tuple[str, int, int]] = field(default_factory=list)


def with_shares(batch: TokenBatch, shares: tuple[dict[str, Tensor], ...]) -> TokenBatch:
    """The batch with the reference's streams, whose rows come in contiguous shares, in order. Hidden states stay in
    their shares: of the whole batch each rank copies what it works on."""
    if not shares:
        return batch
    if "ref_hidden_ND" in shares[0]:
        parts_ND = tuple(share["ref_hidden_ND"] for share in shares)
        return batch.with_streams(ref_hidden=TokenVectors(parts_ND, batch.response_lengths_B))
    return batch.with_streams(ref_logprobs_BT=torch.cat([share["ref_logprobs_BT"] for share in shares]))
