"""The records of a round of preferences: responses cut into judged steps, and pairs that share a prefix."""

from __future__ import annotations

from dataclasses import dataclass

from carerl.types import Example, Sample


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a response: its tokens ``start`` to ``end`` (exclusive), counted in the response.

    ``right``: the judge's verdict in [0, 1]: 1 or 0, or a share of completions; None where it gave none.
    ``confidence``: 1 − mean token entropy / log V. ``peak``: mean probability of the likeliest token. ``logprob``: sum
    over its tokens, nats. All of the policy that drew the response, temperature included.
    """

    start: int
    end: int
    confidence: float
    peak: float
    logprob: float
    right: float | None = None


@dataclass(frozen=True, slots=True)
class Solution:
    """One graded response and its steps, in order. ``prefix``: how many of its first tokens were given to the engine
    and not drawn (a continuation of another response). ``second``: the last given one is the second most probable
    token, with which a step begins that was asked for as a rejected one (:func:`carerl.preferences.pairs.runner_up`).

    ``review``: what a second model wrote of it; None without one. ``judge_tokens``: drawn to judge it. ``gap_mean``,
    ``gap_max``: of |engine − learner| of its tokens' log-probs, nats; None for a continuation.
    """

    example: Example
    sample: Sample
    steps: tuple[Step, ...]
    prefix: int = 0
    second: bool = False
    review: str | None = None
    judge_tokens: int = 0
    gap_mean: float | None = None
    gap_max: float | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two continuations of one prefix.

    ``prompt_ids``: the question's prompt and the shared prefix. ``shared``: how many of its last tokens are that
    prefix, drawn by the policy. ``rule``: why the second one is rejected, ``wrong`` (it is judged wrong) or ``second``
    (it was asked for, from the second most probable token; or is rejected for that token alone).
    """

    example_id: str
    prompt_ids: tuple[int, ...]
    shared: int
    chosen_ids: tuple[int, ...]
    rejected_ids: tuple[int, ...]
    rule: str
    chosen_confidence: float
    rejected_confidence: float
