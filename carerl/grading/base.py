"""Defines a grader: it takes a response, a gold answer and whether the length limit cut the response; it returns a
verdict."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from carerl.types import Outcome

MATHEMATICAL = ("math", "gsm8k")  # graders whose answers are compared by value
VOTED = (Outcome.CORRECT, Outcome.WRONG, Outcome.ABSTAINED)  # outcomes whose answer takes part in a majority vote


class LimitError(ValueError):
    """Reports an answer too large to judge (digits, exponents, depth). Its outcome is INVALID, never WRONG."""


@dataclass(frozen=True, slots=True)
class Gold:
    r"""Says what is right. Each grader's docstring names the fields that it reads.

    ``accepted``: answers any one of which is right, the gold answer first; an answer in several parts is one string
    with commas (``1, 9``). ``choices``: (label, text) of every option. ``numbers`` and ``target``: Countdown's.
    ``answerable``: False for a question that nobody can answer; then ``accepted`` may be empty.

    >>> Gold((r"\frac{1}{2}",)).accepted[0]
    '\\frac{1}{2}'
    """

    accepted: tuple[str, ...] = ()
    choices: tuple[tuple[str, str], ...] = ()
    numbers: tuple[int, ...] = ()
    target: int | None = None
    answerable: bool = True

    def without_answer(self) -> Gold:
        """Returns what the question itself says: its options, or its numbers and target. Nothing says what is right, or
        whether anything is."""
        return Gold(choices=self.choices, numbers=self.numbers, target=self.target)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Holds an outcome, and the answer as it was read from the response (None if none was). ``reason`` explains
    INVALID."""

    outcome: Outcome
    extracted: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class GraderEntry:
    """Holds one line of the table. ``grade(response, gold, truncated)`` grades. ``requires`` names the fields of
    :class:`Gold` without which a question cannot be graded."""

    grade: Callable[[str, Gold, bool], Verdict]
    requires: tuple[str, ...]
    line: str
