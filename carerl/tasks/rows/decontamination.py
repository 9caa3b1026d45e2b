"""Finds training questions that are also evaluation questions, or share much of their text.

A text is compared as its words: letters and digits without case, and the signs that carry meaning in a formula. Two
questions overlap if their words are the same, or if they share 13 words in a row, as in GPT-3 (arXiv 2005.14165, app.
C); a shorter text is one run. [ours] A run that occurs in more than 10 training questions is a phrase of the data set
("where m and n are relatively prime positive integers, find m + n") and proves nothing, unless it is a whole question;
GPT-3 has the same bound. Options belong to a question: the same stem with other options is another question.
Countdown's questions differ only in their numbers, and are compared by those alone.
"""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from .questions import Question

WORDS = 13
SHOWN = 3  # overlaps that a message names
PHRASE = 10  # training questions; what stands in more of them is a phrase
_SIGNS = r"\-+*/^=<>|"
_LEFT_OUT = re.compile(rf"[^\w{_SIGNS}!%]|_")
_WORD = re.compile(rf"(?:[{_SIGNS}]\s*)*\w+[!%]*")  # a word keeps its signs: 13 words are 13 words


@dataclass(frozen=True, slots=True)
class Overlap:
    """Names a training question and an evaluation question that it overlaps. ``exact``: their words are the same."""

    train_id: str
    evaluation_id: str
    exact: bool


def words(question: Question) -> tuple[str, ...]:
    """Returns the words by which a question is compared."""
    if question.grader == "countdown":
        return tuple(map(str, (*sorted(question.gold.numbers), "=", question.gold.target)))
    shown = " ".join([question.text, *(text for _, text in question.choices)])
    plain = _LEFT_OUT.sub(" ", unicodedata.normalize("NFKC", shown).casefold())
    return tuple("".join(word.split()) for word in _WORD.findall(plain))


def runs(found: Sequence[str]) -> set[str]:
    """Returns all runs of 13 words; the whole text if it is shorter."""
    return {" ".join(found[i : i + WORDS]) for i in range(max(1, len(found) - WORDS + 1))}


def overlaps(train: Sequence[Question], evaluation: Sequence[Question]) -> list[Overlap]:
    """Returns an :class:`Overlap` for each training question that has one, in order. A question with the same words
    comes first, then the first that shares a run. Takes time linear in the length of the texts."""
    whole: dict[str, str] = {}
    shared: dict[str, str] = {}
    for question in evaluation:
        text = words(question)
        whole.setdefault(" ".join(text), question.id)
        for run in runs(text):
            shared.setdefault(run, question.id)
    texts = [words(question) for question in train]
    common = [[run for run in runs(text) if run in shared] for text in texts]
    counts = Counter(run for found in common for run in found)
    result = []
    for question, text, found in zip(train, texts, common, strict=True):
        if (same := whole.get(" ".join(text))) is not None:
            result.append(Overlap(question.id, same, True))
        elif telling := [run for run in found if counts[run] <= PHRASE]:
            result.append(Overlap(question.id, min(shared[run] for run in telling), False))
    return result


def without_overlaps(
    name: str, train: list[Question], evaluation: Sequence[Question], refuse: bool
) -> tuple[list[Question], tuple[Overlap, ...]]:
    """Returns the questions of data set ``name`` that overlap no evaluation prompt, and the overlaps of the others.
    Warns of them; with ``refuse`` raises ValueError instead."""
    found = overlaps(train, evaluation)
    if not found:
        return train, ()
    exact = sum(overlap.exact for overlap in found)
    pairs = ", ".join(
        f"{o.train_id} = {o.evaluation_id}" if o.exact else f"{o.train_id} ~ {o.evaluation_id}"
        for o in sorted(found, key=lambda o: not o.exact)[:SHOWN]
    )
    message = (
        f"{name}: {len(found)} of {len(train)} training questions overlap an evaluation prompt, "
        f"{exact} of them word by word ({pairs}{', ...' if len(found) > SHOWN else ''})"
    )
    if refuse:
        raise ValueError(f"{message}; write task.decontaminate=drop to leave them out")
    warnings.warn(f"{message}: left out", stacklevel=2)
    dropped = {overlap.train_id for overlap in found}
    return [question for question in train if question.id not in dropped], tuple(found)
