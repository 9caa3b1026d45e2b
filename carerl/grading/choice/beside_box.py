"""Decides which option an answer names (:mod:`~carerl.grading.choice.statements`: which one a response states)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from carerl.grading.math.normal_form import MAX_ANSWER, normalise

from .options import Options, plain, without_text_macros

WORDY = re.compile(r"^(?:the )?(?:correct )?(?:answer|option|choice)\b[ :]*(?:is\b)?[ :]*", re.IGNORECASE)
_DENIES = re.compile(r"\b(?:not|never|neither|nor|except|incorrect|wrong|false|anything but)\b|n't\b", re.IGNORECASE)
_MARKED = re.compile(r"\(\s*([A-Za-z0-9]{1,2})\s*\)|\b(?:option|choice|answer)\s+\(?([A-Z])\b")
_DENIED_AT_ONCE = re.compile(r"(?:is|are|was|seems)\s+(?:\w+\s+)?(?:not|wrong|incorrect|false)\b", re.IGNORECASE)
_REST_DENIED = re.compile(
    r"(?<!is)(?<!are)(?<!was)[\s,;(]+(?:and\s+)?(?:not|rather than|instead of)\s+(?P<what>[^,;]{1,80})$", re.IGNORECASE
)
_LABEL_MARKS = r"(?:option|choice|answer)?\s*[(\[]?\b{}\b[)\]]?[.:,]?"
_SPACES = re.compile(r"\\(?:[ ,:;!~]|q?quad(?![a-zA-Z]))|~")
_MATHEMATICAL = re.compile(r"[\\^_{}\d=<>%]")
_FORMULA = re.compile(r"[=<>^+|*]|(?<![A-Za-z])[A-Za-z]\(|^-|^\W*[A-Z]'(?!\w)|\\[a-zA-Z]|_\{|[A-Za-z]_|\d[A-Za-z]")


def is_formula(answer: str) -> bool:
    r"""Returns True if an answer is mathematics rather than words, labels or a number: ``x = 3``, ``\Delta E``."""
    return _FORMULA.search(_SPACES.sub(" ", without_text_macros(answer)).strip("$*_` ")) is not None


def beside_box(text: str, content: str) -> Iterator[str]:
    r"""Yields what to read instead of the last box, where that holds working and no option: a formula, a number or a
    variable. First its line and all that follows, then, for a formula, the lines before it."""
    start = max(text.rfind(box) for box in (r"\boxed", r"\fbox"))
    end = text.find(content, start) + len(content)
    if start < 0 or not (is_formula(content) or re.fullmatch(r"[-+\d.,/ ]+|[a-z]", content.strip())):
        return
    line = text.rfind("\n", 0, start) + 1
    rest = re.sub(r"^[ \t}]*(?:\$|\\[)\]])?", "", text[end:], count=1)
    yield f"{text[line:start].rstrip('$')} x {rest}"
    if is_formula(content):
        yield text[:line]


def chosen(answer: str, options: Options) -> tuple[str | None, bool]:
    """Returns the label of the option that an answer names, and whether it names more than one.

    An option is named by its label (``B``, ``b``, ``(B)``, ``"B"``), by label and text (``B) Paris``), or by its exact
    text if no other option has the same. A label beside another option's text names two, and so does ``A or B``. An
    answer that denies an option names none, and counts as if it named several. A capital letter in a formula is no
    label.

    >>> from .options import read_options
    >>> chosen("(B) Paris.", read_options((("A", "London"), ("B", "Paris"))))
    ('B', False)
    """
    answer = _SPACES.sub(" ", without_text_macros(answer[:MAX_ANSWER])).replace("$", "").strip().strip("*_` ").strip()
    answer = WORDY.sub("", answer.replace("**", "")).strip()
    labels, by_text = options.by_label, options.by_text
    spellings = [plain(answer)] + ([plain(normalise(answer))] if _MATHEMATICAL.search(answer) else [])
    for spelled in spellings:
        if spelled in by_text:  # before labels: an option's text may be a letter
            named = by_text[spelled] | ({labels[spelled]} if spelled in labels else set())
            return (next(iter(named)), False) if len(named) == 1 else (None, True)
    bare = options.whole.fullmatch(answer)
    if bare:
        return labels[bare[1].casefold()], False
    if (denied := _REST_DENIED.search(answer)) and denied.start():
        kept, _ = chosen(answer[: denied.start()], options)
        other, _ = chosen(denied["what"], options)
        return (kept, False) if kept is not None and other != kept else (None, True)
    led = re.match(r"[(\[]?(\w+)[)\].:,]\s*[-–:.]?\s*(.+)$", answer, re.DOTALL) or re.match(
        r"(\w+)\s+[-–—]\s+(.+)$", answer
    )
    if led and led[1].casefold() in labels:
        label, rest = labels[led[1].casefold()], led[2]
        own = plain(rest) not in labels and any(
            label in named and text.startswith(plain(rest)) for text, named in by_text.items()
        )
        if own or led[1] in labels.values() or answer[0] in "([":
            others = (_named(rest, options) | by_text.get(plain(rest), frozenset())) - {label}
            if not own and _DENIED_AT_ONCE.match(rest):
                return None, True
            return (None, True) if others and not own else (label, False)
    if _DENIES.search(answer):  # beside the text of an option, which may hold such a word itself
        return None, True
    if is_formula(answer) or answer.endswith("?"):
        return None, False
    named = _named(answer, options)
    if len(named) == 1:
        only = next(iter(named))
        if not re.search(_PLACE.format(re.escape(only)), answer):
            return None, False  # "vitamin C"
        rest = re.sub(_LABEL_MARKS.format(re.escape(only)), " ", answer, count=1, flags=re.IGNORECASE)
        beside = by_text.get(plain(plain(rest).strip("()[] ")), {only})
        return (only, False) if only in beside else (None, True)  # "London (B)" names two
    return None, len(named) > 1


# Where a label can stand in an answer: at its start, in brackets, after what leads to one.
_PLACE = (
    r"(?i:^|[(\[,;:/&=]\s*|\b(?:option|choice|letter|answer|is|be|and|or|nor|either|both|only|clearly|definitely"
    r"|therefore|thus|with|likely|probably)\s+[\"'(]?)(?-i:{})(?!\w)"
)


def _named(text: str, options: Options) -> frozenset[str]:
    """Returns the labels that stand alone in a text: capital letters, except the words A and I in a sentence."""
    labels = set(options.labels)
    found = {m for groups in _MARKED.findall(text) for m in groups if m in labels}
    words = re.findall(r"(?<![\w'])([A-Z]|\d{1,2})(?![\w']|-\w)", text)
    sure = {w for w in words if w in labels and w not in ("A", "I")}
    sure |= {m for groups in _WORD_LABELS.findall(text) for m in groups if m in labels}
    return frozenset(found | sure)


_WORD_LABELS = re.compile(
    r"(?<![\w'])([AI])(?![\w'])(?=\s*(?:$|[,./&)]|and\b|or\b|nor\b))|\b(?:and|or)\s+([AI])\b(?=\s*(?:$|[.,)]))"
)
