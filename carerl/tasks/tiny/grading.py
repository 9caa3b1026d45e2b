"""Reads the answer of a tiny response."""

from __future__ import annotations

from collections.abc import Sequence

from carerl.types import Outcome

from . import tokenizer as tk

ABSTENTION = "?"


def answer_position(response_ids: Sequence[int]) -> int | None:
    """Returns the index of the answer token, or None.

    The answer is the token right after the first ``A``, if it is a digit or "?". What follows the answer does not
    matter: a policy trained on questions of one length can lose the habit of ending its answers about names (measured),
    which does not change what it says. Nothing after the first ``<eos>`` is part of the response.
    """
    for position, token in enumerate(response_ids[:-1]):
        if token == tk.EOS:
            return None
        if token == tk.ANSWER:
            following = response_ids[position + 1]
            is_answer = following == tk.UNKNOWN or tk.DIGIT <= following < tk.LETTER
            return position + 1 if is_answer else None
    return None


def grade(gold: str, response_ids: Sequence[int], truncated: bool) -> tuple[Outcome, str | None]:
    """Returns CORRECT iff the answer equals ``gold``; ABSTAINED for "?", whatever the gold answer is.

    The steps of a chain are not graded. Without an answer the response is TRUNCATED or UNPARSED.
    """
    position = answer_position(response_ids)
    if position is None:
        return (Outcome.TRUNCATED if truncated else Outcome.UNPARSED), None
    answer = tk.TOKENS[response_ids[position]]
    if answer == ABSTENTION:
        return Outcome.ABSTAINED, answer
    return (Outcome.CORRECT if answer == gold else Outcome.WRONG), answer
