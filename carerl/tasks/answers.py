r"""Finds the tokens in which a response says its answer, and the mark in front of them.

Only sampled ids are used, and no text is encoded again: ``12}`` may be one token, and the mark ``\boxed{`` several.
What is looked for in the text leads to the tokens that hold it: the mark is from the token with its first character to
the one before the answer, and the answer is every token that holds a character of it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from carerl.grading.places import Place


@dataclass(frozen=True, slots=True)
class AnswerSpan:
    """Says where a response's answer is: tokens ``start`` to ``end - 1``, and its mark from ``mark`` to ``start - 1``.
    ``mark`` and ``start`` may be equal: then nothing marks it."""

    mark: int
    start: int
    end: int


def token_span(token_ids: Sequence[int], decode: Callable[[Sequence[int]], str], place: Place) -> AnswerSpan:
    """Returns the tokens of an answer whose place in the text of a response of token ids is known. ``decode`` must give
    for a beginning of the response the beginning of its text, broken characters aside."""

    def token_at(character: int) -> int:
        """Returns the token that holds a character: those up to it are the first whose text reaches beyond it."""
        lengths = range(len(token_ids) + 1)
        return bisect_right(lengths, character, key=lambda n: len(decode(token_ids[:n]))) - 1

    mark, start, end = place
    return AnswerSpan(token_at(mark), token_at(start), token_at(end - 1) + 1)
