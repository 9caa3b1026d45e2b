"""Decides what a graded answer votes for: one string for each class of equivalent answers.

[ours] All right answers to a question vote together, under the spelling of the accepted answer that they mean, and no
wrong answer votes with them. Wrong answers vote by a normal form. Where they are few, short and cheap to compare, they
also vote by the grader's equivalence: :func:`contested` selects them, :func:`same` judges a pair, and :func:`merge`
gives one vote to those that mean the same.

:func:`contested` and :func:`merge` are string work in bounded time. :func:`vote` and :func:`same` are not: they belong
in the processes of :mod:`carerl.grading.pool`. A pair that could not be judged there counts as different.

=============== ==========================================================================================
grader          normal form
=============== ==========================================================================================
math, gsm8k     :func:`~carerl.grading.canonical`
choice          the label
countdown       the value and the numbers used: every right expression is one answer
selfaware       words without case, articles and punctuation; ``?`` for every abstention
=============== ==========================================================================================

An answer that could not be judged (INVALID) does not vote.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Sequence

from carerl.grading.choice.options import plain
from carerl.types import Outcome

from . import Gold, LimitError, Verdict, canonical, equivalent, normalise, rational
from .abstention import alias_form
from .base import MATHEMATICAL, VOTED
from .countdown import evaluate

ABSTENTION = "?"
COMPARED = 6  # different wrong answers to a question that are compared with each other, the most frequent
# Answers that are not compared by value. The pool bounds what is left; this spares it what would run into the limit.
COSTLY = re.compile(r"\d{10}|\^\{?-?\d{2}|[eE][-+]?\d{3}|!|\^.*\^|.{61}", re.DOTALL)


def vote(grader: str, verdict: Verdict, gold: Gold) -> str | None:
    """Returns the vote of one graded response; None if it has none. May raise LimitError, and take long."""
    if verdict.extracted is None or verdict.outcome not in VOTED:
        return None
    if verdict.outcome is Outcome.ABSTAINED:
        return ABSTENTION
    form = _form(grader, verdict.extracted)
    accepted = _right_forms(grader, gold)
    if verdict.outcome is Outcome.CORRECT:
        if grader == "selfaware":
            return accepted[0]  # the others are its aliases
        if form in accepted or not accepted:
            return form
        if len(accepted) == 1 or grader not in MATHEMATICAL:
            return accepted[0]
        return next((a for a in accepted if _means(verdict.extracted, a)), accepted[0])
    # wrong although its form is a right answer's: of another unit, say
    return f"{normalise(verdict.extracted)} (wrong)" if form in accepted else form


def _form(grader: str, answer: str) -> str:
    if grader in MATHEMATICAL:
        return canonical(answer)
    if grader == "countdown":
        result = evaluate(answer.split("=")[0])
        return _reached(*result) if result else plain(answer)
    return alias_form(answer) if grader == "selfaware" else answer.strip()


def _reached(value: object, numbers: Sequence[int]) -> str:
    return f"{value} from {', '.join(map(str, sorted(numbers)))}"


def _right_forms(grader: str, gold: Gold) -> list[str]:
    """Returns the forms of all accepted answers, each once, the gold answer first. An unanswerable question has
    none."""
    if grader == "countdown":
        return [_reached(gold.target, gold.numbers)]
    return list(dict.fromkeys(_form(grader, answer) for answer in gold.accepted)) if gold.answerable else []


def contested(grader: str, votes: Sequence[str | None], outcomes: Sequence[Outcome | None]) -> list[str]:
    """Selects the wrong votes of one question's samples that are worth comparing, the most frequent first. The order of
    the samples does not matter."""
    if grader not in MATHEMATICAL:
        return []
    wrong = Counter(v for v, o in zip(votes, outcomes, strict=True) if v is not None and o is Outcome.WRONG)
    ordered = sorted(wrong, key=lambda form: (-wrong[form], form))
    return [form for form in ordered if rational(form) is None and not COSTLY.search(form)][:COMPARED]


def same(one: str, other: str) -> bool:
    """Returns True if two votes mean the same, whichever of them is taken as the gold answer. May raise LimitError, and
    take long."""
    return equivalent(one, other) and equivalent(other, one)


def merge(
    votes: Sequence[str | None],
    outcomes: Sequence[Outcome | None],
    compared: Sequence[str],
    equal: Collection[tuple[str, str]],
) -> list[str | None]:
    """Returns the votes of one question's samples. Wrong votes that mean the same get the most frequent of their
    spellings. ``compared``: of :func:`contested`. ``equal``: the pairs of them, in that order, that mean the same."""
    spelled: dict[str, str] = {}
    for i, form in enumerate(compared):
        kept = (earlier for earlier in compared[:i] if spelled[earlier] == earlier)
        spelled[form] = next((earlier for earlier in kept if (earlier, form) in equal), form)
    return [
        spelled.get(v, v) if v is not None and o is Outcome.WRONG else v for v, o in zip(votes, outcomes, strict=True)
    ]


def _means(one: str, other: str) -> bool:
    try:
        return equivalent(one, other)
    except (LimitError, RecursionError):
        return False
