r"""Recognises a left side that only names the value: ``f(2) = 5``, ``m\angle A = 30^\circ``, ``a + b = 5``,
``x = 1, y = 2``. The left side of an equation to solve (``2x = 5``, ``x^2 = 5``) names no value."""

from __future__ import annotations

import re

from .structure import NAME, TRIGONOMETRIC, Answer
from .words import changes_a_value

_POINTS = r"[A-Z](?:'|_\{\w+\})?"
_LETTER = r"(?:\\?[a-zA-Z]+|\\(?:vec|mathbf|bar|hat|overline)\{\w+\})"
_SCRIPT = r"(?:'|_\{[^{}]*(?:\{[^{}]*\})?\}|\^\{(?:-1|\(\w+\)|\*|'+)\})*"
_FUNCTION = (
    r"(?:[f-hpqA-HJ-Z]|\\(?:phi|varphi|psi|sigma|tau|mu|Phi|Gamma|gcd|deg|max|min)|[a-z]{3,}"
    r"|\([a-zA-Z](?:[-+]|\\circ ?)[a-zA-Z]\))"
)
_LABELS = (
    r"(?:m ?)?\\(?:angle|triangle|measuredangle|overline|overarc|widehat|overrightarrow"
    r"|vec) ?(?:\{[A-Za-z]{1,4}\}|[A-Za-z]{1,4})",
    rf"(?:{_POINTS}){{2,4}}(?:\^\{{2\}})?",
    rf"\\?\|(?:\\(?:vec|mathbf|overline|overrightarrow)\{{\w+\}}|[zvwu]|{_POINTS}{_POINTS})\\?\|",
    rf"\[{_POINTS}{_POINTS}{_POINTS}(?:{_POINTS})?\]",
    rf"{TRIGONOMETRIC}(?:\^\{{2\}})? ?(?:\\(?:alpha|beta|gamma|theta|phi)|[A-Za-z]|\(?\\angle ?[A-Z]{{1,3}}\)?"
    rf"|\([A-Za-z]\))",
    rf"{_LETTER}_\{{[^{{}}]*(?:\{{[^{{}}]*\}})?\}}",
    r"\\(?:vec|mathbf|bar|hat|overline)\{\w+\}",
)
_LABEL = re.compile("|".join(rf"(?:{label})" for label in _LABELS))
_CALL = re.compile(rf"{_FUNCTION}{_SCRIPT}\((.*)\)")
_RATIO = re.compile(rf"{_LETTER}{_SCRIPT}(?::{_LETTER}{_SCRIPT})+")
_COMBINED = re.compile(r"[-+]?(?:[a-zA-Z](?:_\{\w\}|\^\{\d\})?(?:\+|-|/|\\cdot ?)?)+")
_FRACTION = re.compile(r"\\frac\{([^{}]*)\}\{([^{}]*)\}")
_NAMES = re.compile(r"\\(?!sin|cos|tan|cot|sec|csc|frac|sqrt|angle)[a-z]+|(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])")
_WORDS = re.compile(r"\\text\{([^{}]*)\}(?:_\{[^{}]*\}|\([A-Z, ]*\)|[A-Z]{1,4}|\\triangle ?[A-Z]{3})?")
# In the name of what is asked for these change nothing.
_OF_BASE = re.compile(r"\b(?:base|least|greatest|root|roots|and)\b")


def is_label(side: Answer) -> bool:
    """Returns True if a left side names a value and asks for nothing.

    >>> [is_label(Answer("expression", t)) for t in ("f(2)", "AB", "a+b", "2x", "x^{2}", "x(x+1)")]
    [True, True, True, False, False, False]
    """
    text = side.text
    if len(text) > 120:
        return False
    if side.kind == "text":
        return not changes_a_value(_OF_BASE.sub("", text))
    if NAME.match(text) or _LABEL.fullmatch(text) or _RATIO.fullmatch(text):
        return True
    if call := _CALL.fullmatch(text):
        return _balanced(call[1])
    if words := _WORDS.fullmatch(text):
        return not changes_a_value(_OF_BASE.sub("", words[1]))
    plain = _FRACTION.sub(r"\1/\2", text)
    if _COMBINED.fullmatch(plain) and plain[-1] not in "+-/ ":
        return len(set(re.findall(r"[a-zA-Z]", re.sub(r"\\cdot|_\{\w\}", "", plain)))) >= 2
    return False


def is_single_name(side: Answer, value: Answer) -> bool:
    r"""Returns True if a left side names one value: ``x``, ``f(2)``, ``AB`` or the ratio ``a:b``. Not ``a+b`` or
    ``xy``, whose equation says something about the names in it, nor ``\tan t`` before a value that holds t."""
    text = side.text
    if re.match(TRIGONOMETRIC, text) and set(_NAMES.findall(text)) & set(_NAMES.findall(value.text)) - {r"\pi"}:
        return False
    plain = _FRACTION.sub(r"\1/\2", text)
    product = re.fullmatch(r"[a-z]{2}", text) is not None
    combined = _COMBINED.fullmatch(plain) is not None and not NAME.match(text) and not _LABEL.fullmatch(text)
    return is_label(side) and not combined and not product


def _balanced(text: str) -> bool:
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth < 0:
            return False
    return depth == 0


def assigned(answer: Answer) -> tuple[tuple[str, ...], tuple[Answer, ...]] | None:
    """Returns the names and values of ``x=1, y=2`` or ``(x,y)=(1,2)``; None for anything else, for a name that comes
    twice, and for alternatives separated by "or"."""
    names: list[str] = []
    values: list[Answer] = []
    if answer.kind == "relation" and answer.mark == "=" and answer.parts[1].kind == "group":
        left, right = answer.parts
        if left.kind == "group" and left.mark == right.mark == "()" and all(NAME.match(p.text) for p in left.parts):
            names, values = [p.text for p in left.parts], list(right.parts)
    elif answer.kind == "list" and answer.mark != "or":
        for part in answer.parts:
            if part.kind != "relation" or part.mark != "=" or not NAME.match(part.parts[0].text):
                return None
            names.append(part.parts[0].text)
            values.append(part.parts[1])
    if len(names) < 2 or len(names) != len(values) or len(set(names)) < len(names):
        return None
    return tuple(names), tuple(values)


def in_order_of_names(names: tuple[str, ...], values: tuple[Answer, ...]) -> tuple[Answer, ...]:
    """Orders values as a point has them: by their names if these are neighbours in the alphabet (x, y, z), else as
    written (r, theta)."""
    codes = sorted(map(ord, names)) if all(len(name) == 1 for name in names) else []
    if codes and codes == list(range(codes[0], codes[0] + len(codes))):
        return tuple(value for _, value in sorted(zip(names, values, strict=True), key=lambda pair: pair[0]))
    return values
