r"""Finds where in a response the answer stands that its grader reads.

A grader reads by the first finder of its policy that finds something (:mod:`carerl.grading.extraction`). What that
finder has found is looked for, and nothing else: where ``#### 72`` decides, a box before it is not the answer. Places
are known of answers in a box, in a tag and behind ``####``; of one that is read from a sentence there is none.
"""

from __future__ import annotations

from collections.abc import Callable

from carerl.grading.math.characters import half_width

from .extraction import BOX, END_OF_THINK, MAX_BOXES, box_content, clip, decisive, last_hashes, last_tag
from .graders import COUNTDOWN_POLICY, GSM8K_POLICY, MARKED_CHOICE, MATH_POLICY

Place = tuple[int, int, int]  # characters: where the mark begins, and where the answer begins and ends

# graders whose prompts ask for a mark; SelfAware's asks for words
POLICIES: dict[str, tuple[str, ...]] = {
    "math": MATH_POLICY,
    "gsm8k": GSM8K_POLICY,
    "choice": MARKED_CHOICE,
    "countdown": COUNTDOWN_POLICY,
}


def answer_place(text: str, grader: str, truncated: bool) -> Place | None:
    r"""Returns where the answer of a response stands. None for a response without a marked answer, for an answer whose
    place is not known, and for a grader that is not one of :data:`POLICIES`. The text is what the grader reads, of the
    same length as the response's (:func:`carerl.calibration.blanked_statement`).

    >>> text = r"so \boxed{ 12 }."
    >>> mark, start, end = answer_place(text, "math", False)
    >>> text[mark:start], text[start:end]
    ('\\boxed{ ', '12')
    """
    decided = decisive(clip(text), POLICIES.get(grader, ()), truncated)
    if decided is None or decided[0] not in _PLACES:
        return None
    name, found = decided
    place = _PLACES[name](text, found.text)
    return place if place is not None and half_width(text[place[1] : place[2]]) == found.text else None


def _boxed(text: str, answer: str) -> Place | None:
    """Returns the last complete box, if it holds something."""
    for match in reversed(list(BOX.finditer(text, _begin(text)))[-MAX_BOXES:]):
        complete, content = box_content(text, match.end())
        if complete:
            return None if content is None else _within(text, match.start(), match.end(), len(text), content)
    return None


def _tagged(text: str, answer: str) -> Place | None:
    match = last_tag(text)
    return None if match is None else _within(text, match.start(), *match.span(1), match[1].strip())


def _hashed(text: str, answer: str) -> Place | None:
    """Returns where the value stands behind the mark; None where the grader has read it in another form."""
    match = last_hashes(text)
    return None if match is None else _within(text, match.start(), *match.span(1), answer)


def _begin(text: str) -> int:
    return max(0, text.rfind(END_OF_THINK))


def _within(text: str, mark: int, start: int, end: int, answer: str) -> Place | None:
    """Returns the first place of a text that is not empty between ``start`` and ``end``; None where there is none."""
    found = text.find(answer, start, end) if answer else -1
    return None if found < 0 else (mark, found, found + len(answer))


_PLACES: dict[str, Callable[[str, str], Place | None]] = {"boxed": _boxed, "tag": _tagged, "hashes": _hashed}
