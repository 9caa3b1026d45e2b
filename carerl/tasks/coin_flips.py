"""Decides outcomes by the toss of a coin, for a rehearsal.

A model with random weights is never right: every group would be uniform, nothing would be learned, and dynamic sampling
would draw prompts without end. So that a rehearsal trains, outcomes are replaced after grading. No response names an
option either, and no decision would be trained: so a place of the response is taken for one. Nor does a
response have an answer, or steps that end: so its last token is taken for one, and a step ends after every few. A toss
depends only on the seed, the question and the sample's number: a repeated or resumed run has the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from carerl.grading.votes import ABSTENTION
from carerl.records.splitting import Walker
from carerl.tasks.answers import AnswerSpan
from carerl.types import Decision, Group, Outcome, Sample


def heads(seed: int, example_id: str, sample: int) -> bool:
    """Returns True if the ``sample``-th response to a question counts as right. The coin is fair, and tosses are
    independent.

    >>> sum(heads(100, f"train/0/q{k}", 0) for k in range(1000))
    520
    """
    return bool(_tossed(seed, example_id, sample)[0] & 1)


def _tossed(seed: int, example_id: str, sample: int) -> bytes:
    return hashlib.sha256(f"{seed} {sample} {example_id}".encode()).digest()


def tossed_decision(
    sample: Sample, options: Mapping[str, int], right: Sequence[str], seed: int, number: int
) -> Decision | None:
    """Takes a tossed place of the ``number``-th response to a question for its decision: right where the response was
    graded as right, wrong where it was not. ``options``, ``right``: see
    :meth:`carerl.tasks.base.DecisionTask.options`. Returns None without options, and for an empty response.

    The response's own token stands for the option that it is said to name, as in any decision. The others keep their
    tokens, unless the response's own is one of them: then it names that one, whatever the grade."""
    if not options or not sample.response_ids:
        return None
    toss = _tossed(seed, sample.example_id, number)
    position = int.from_bytes(toss[1:5]) % len(sample.response_ids)
    own = sample.response_ids[position]
    named = [label for label, token in options.items() if token == own]
    fitting = [label for label in options if (label in right) == sample.correct] or list(options)
    chosen = named[0] if named else fitting[int.from_bytes(toss[5:9]) % len(fitting)]
    return Decision(position, chosen, {**options, chosen: own}, tuple(right))


def toss(groups: Sequence[Group], seed: int) -> None:
    """Replaces the outcomes of graded groups, in place, so that half of the samples are right.

    Where the coin says right, outcome and vote become those of a right answer. Where it says wrong, the grade stays,
    except that a right answer becomes a wrong one without a vote. INVALID always stays: it is a fault of the grading,
    which a rehearsal should find.
    """
    for group in groups:
        for number, sample in enumerate(group.samples):
            if sample.outcome is Outcome.INVALID:
                continue
            right = group.example.gold if sample.answerable else ABSTENTION
            if heads(seed, group.example.id, number):
                sample.outcome = Outcome.CORRECT if sample.answerable else Outcome.ABSTAINED
                sample.answer, sample.reason = right, ""
            elif sample.correct or sample.answer == right:
                sample.outcome, sample.answer = Outcome.WRONG, None


def tossed_span(response_ids: Sequence[int]) -> AnswerSpan | None:
    """Takes the last token of a response for its answer, without a mark. None for one of fewer than two tokens."""
    tokens = len(response_ids)
    return AnswerSpan(tokens - 1, tokens - 1, tokens) if tokens > 1 else None


STEP_TOKENS = 4  # of a step of random tokens


@dataclass(frozen=True)
class EveryFew:
    """Cuts a response after every few tokens; a :class:`carerl.records.splitting.Splitter`."""

    def walk(self) -> Walker:
        seen = 0

        def ends(token: int) -> bool:
            nonlocal seen
            seen += 1
            return seen % STEP_TOKENS == 0

        return ends

    def split(self, token_ids: Sequence[int]) -> tuple[int, ...]:
        return tuple(sorted({*range(STEP_TOKENS, len(token_ids), STEP_TOKENS), len(token_ids)} - {0}))


def tossed_labels(seed: int, example_id: str, response_ids: Sequence[int], ends: Sequence[int]) -> list[bool | None]:
    """Returns a label for each step of a response: whether it is right, None after the first wrong one. ``ends``: where
    the steps end. A toss is for the tokens up to there, so that equal beginnings have equal labels.

    >>> tossed_labels(100, "a", (5, 7, 9, 8), (2, 3, 4))
    [True, False, None]
    """
    found: list[bool | None] = []
    for end in ends:
        tokens = "_".join(map(str, response_ids[:end]))
        found.append(heads(seed, f"{example_id} {tokens}", 0) if all(found) else None)
    return found
