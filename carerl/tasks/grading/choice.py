"""Multiple choice: which option a response names."""

from __future__ import annotations

import re

from .characters import half_width
from .normal_form import MAX_ANSWER, normalise

_TEXT = re.compile(r"\\(?:text|mbox|textbf|mathrm|mathbf|textit)\s*\{([^{}]*)\}")
WORDY = re.compile(r"^(?:the )?(?:correct )?(?:answer|option|choice)\b[ :]*(?:is\b)?[ :]*", re.IGNORECASE)
_DENIES = re.compile(r"\b(?:not|never|neither|nor|except|incorrect|wrong|false|anything but)\b|n't\b", re.IGNORECASE)
_MARKED = re.compile(r"\(\s*([A-Za-z0-9]{1,2})\s*\)|\b(?:option|choice|answer)\s+\(?([A-Z])\b")


_VERDICT = re.compile(
    r"(?<![\w'])(?P<before>(?:if|and|or|nor|neither|not|that|whether|both)\s{1,3})?(?:[Oo]ption|[Cc]hoice|[Aa]nswer)?\s{0,3}\(?(?P<label>[A-Z])\)?"
    r"(?:[).:]\s[^.\n]{1,80}?)?,?\s{1,3}(?:is|seems|must be)\s{1,3}(?:clearly\s{1,3}|therefore\s{1,3}"
    r"|thus\s{1,3})?(?:the\s{1,3})?(?:most\s{1,3})?"
    r"(?:correct|right|best|accurate|true)\b(?!\s{0,3}\?)"
    r"|(?:\b[Mm]y (?:choice|pick|answer) is|\b[Ii]t's|\b[Ii]t is|\bmust be|\b(?:[Cc]hoose|[Pp]ick|[Ss]elect"
    r"|[Gg]o with|choosing|opt for))\s{1,3}(?:option\s{1,3}|choice\s{1,3}"
    r"|answer\s{1,3})?\(?(?P<picked>[B-Z]|A(?=\)|[.\s]{0,9}$))\)?(?=[\s.,;!]{0,9}$|[.,;)]?\s{1,3}(?!and\b|or\b)|[.,;)])(?!\w)"
)
_DENIED_AT_ONCE = re.compile(r"(?:is|are|was|seems)\s+(?:\w+\s+)?(?:not|wrong|incorrect|false)\b", re.IGNORECASE)
_NOT_BEFORE = re.compile(r"(?:\bnot|n't|\bnever|\bnor)\s+(?:\w+\s+)?$")
_REST_DENIED = re.compile(r"[\s,;(]+(?:and\s+)?(?:not|rather than|instead of)\s+(?P<what>[^,;]{1,80})$", re.IGNORECASE)
_LABEL_MARKS = r"(?:option|choice|answer)?\s*[(\[]?\b{}\b[)\]]?[.:,]?"


def verdict(text: str) -> str | None:
    """The label of the last "B is correct" or "I choose B", None if there is none or it is denied or one of several."""
    last = None
    for last in _VERDICT.finditer(text):  # noqa: B007
        pass
    if last is None or last["before"] or _NOT_BEFORE.search(text, max(0, last.start() - 12), last.start()):
        return None
    return last["label"] or last["picked"]


def plain(text: str) -> str:
    """Option text without case, punctuation at its ends, and runs of spaces."""
    return " ".join(_TEXT.sub(r"\1", half_width(text)).casefold().split()).strip(" .,;:!?\"'`*$")


def chosen(answer: str, choices: tuple[tuple[str, str], ...]) -> tuple[str | None, bool]:
    """The label of the option that an answer names, and whether it names more than one.

    An option is named by its label (``B``, ``b``, ``(B)``, ``B.``), by label and text (``B) Paris``), or by its exact
    text if no other option has the same. A label beside another option's text names two, and so does ``A or B``; an
    answer that denies one names none, and counts as if it named several.

    >>> chosen("(B) Paris.", (("A", "London"), ("B", "Paris")))
    ('B', False)
    """
    answer = _TEXT.sub(r"\1", answer[:MAX_ANSWER]).replace("$", "").strip().strip("*_` ").strip()
    answer = WORDY.sub("", answer.replace("**", "")).strip()
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
    if (denied := _REST_DENIED.search(answer)) and denied.start():
        kept, _ = chosen(answer[: denied.start()], choices)
        other, _ = chosen(denied["what"], choices)
        return (kept, False) if kept is not None and other != kept else (None, True)
    led = re.match(r"[(\[]?(\w+)[)\].:,]\s*[-–:.]?\s*(.+)$", answer, re.DOTALL) or re.match(
        r"(\w+)\s+[-–—]\s+(.+)$", answer
    )
    if led and led[1].casefold() in labels and (led[1] in labels.values() or answer[0] in "(["):
        label, rest = labels[led[1].casefold()], led[2]
        others = (_named(rest, choices) | by_text.get(plain(rest), set())) - {label}
        own = any(plain(text).startswith(plain(rest)) for option, text in choices if option == label)
        if not own and _DENIED_AT_ONCE.match(rest):
            return None, True
        if not others or own:
            return label, False
        return None, True
    if _DENIES.search(answer):  # beside the text of an option, which may hold such a word itself
        return None, True
    named = _named(answer, choices)
    if len(named) == 1:
        only = named.pop()
        rest = re.sub(_LABEL_MARKS.format(re.escape(only)), " ", answer, count=1, flags=re.IGNORECASE)
        beside = by_text.get(plain(plain(rest).strip("()[] ")), {only})
        return (only, False) if only in beside else (None, True)  # "London (B)" names two
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
