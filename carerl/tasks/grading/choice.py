"""Multiple choice: which option a response names."""

from __future__ import annotations

import re

from .normal_form import MAX_ANSWER, normalise

_TEXT = re.compile(r"\\(?:text|mbox|textbf|mathrm|mathbf|textit)\s*\{([^{}]*)\}")
WORDY = re.compile(r"^(?:the )?(?:correct )?(?:answer|option|choice)\b[ :]*(?:is\b)?[ :]*", re.IGNORECASE)
_DENIES = re.compile(r"\b(?:not|never|neither|nor|except|incorrect|wrong|false|anything but)\b|n't\b", re.IGNORECASE)
_MARKED = re.compile(r"\(\s*([A-Za-z0-9]{1,2})\s*\)|\b(?:option|choice|answer)\s+\(?([A-Z])\b")


def plain(text: str) -> str:
    """Option text without case, punctuation at its ends, and runs of spaces."""
    return " ".join(_TEXT.sub(r"\1", text).casefold().split()).strip(" .,;:!?\"'`*$")


def chosen(answer: str, choices: tuple[tuple[str, str], ...]) -> tuple[str | None, bool]:
    """The label of the option that an answer names, and whether it names more than one.

    An option is named by its label (``B``, ``b``, ``(B)``, ``B.``), by label and text (``B) Paris``), or by its exact
    text if no other option has the same. A label beside another option's text names two, and so does ``A or B``; an
    answer that denies one names none, and counts as if it named several.

    >>> chosen("(B) Paris.", (("A", "London"), ("B", "Paris")))
    ('B', False)
    """
    answer = _TEXT.sub(r"\1", answer[:MAX_ANSWER]).replace("$", "").strip().strip("*_` ").strip()
    answer = WORDY.sub("", answer).strip()
    labels = {label.casefold(): label for label, _ in choices}
    by_text: dict[str, set[str]] = {}
    for label, text in choices:
        by_text.setdefault(plain(text), set()).add(label)
    for spelled in (plain(answer), plain(normalise(answer))):
        if spelled in by_text:  # before labels: an option's text may be a letter
            named = by_text[spelled] | ({labels[spelled]} if spelled in labels else set())
            return (next(iter(named)), False) if len(named) == 1 else (None, True)
    bare = re.fullmatch(r"[(\[{]?\s*(\w+)\s*[)\]}]?\s*[.:,]?", answer)
    if bare and bare[1].casefold() in labels:
        return labels[bare[1].casefold()], False
    led = re.match(r"[(\[]?(\w+)[)\].:,]\s*[-–:.]?\s*(.+)$", answer, re.DOTALL) or re.match(
        r"(\w+)\s+[-–—]\s+(.+)$", answer
    )
    if led and led[1].casefold() in labels and (led[1] in labels.values() or answer[0] in "(["):
        label, rest = labels[led[1].casefold()], led[2]
        others = (_named(rest, choices) | by_text.get(plain(rest), set())) - {label}
        own = any(plain(text).startswith(plain(rest)) for option, text in choices if option == label)
        if not others or own:
            return label, False
        return None, True
    if _DENIES.search(answer):  # beside the text of an option, which may hold such a word itself
        return None, True
    named = _named(answer, choices)
    if len(named) == 1:
        return named.pop(), False
    return None, len(named) > 1


def _named(text: str, choices: tuple[tuple[str, str], ...]) -> set[str]:
    """Labels that stand in a text by themselves: capital letters but for the words A and I in a sentence."""
    labels = {label for label, _ in choices}
    found = {m for groups in _MARKED.findall(text) for m in groups if m in labels}
    words = re.findall(r"(?<![\w'])([A-Z]|\d{1,2})(?![\w'])", text)
    sure = {w for w in words if w in labels and w not in ("A", "I")}
    if (
        re.search(
            r"(?<![\w'])A(?![\w'])(?=\s*(?:$|[,./&)]|and\b|or\b|nor\b))|\b(?:and|or)\s+A\b(?=\s*(?:$|[.,)]))", text
        )
        and "A" in labels
    ):
        sure.add("A")
    return found | sure
