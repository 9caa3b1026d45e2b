r"""Reads and compares final answers of mathematics. Pure string work in bounded time: nothing is evaluated.

Two answers are the same if their normal forms are equal as strings, or if both are numbers of the same
rational value (``0.5``, ``\frac12``, ``1/2``, ``50/100``). That is less than mathematical equality:
``2\pi - 4`` and ``-4 + 2\pi`` differ here, as do sets and tuples written in another order. A fuller
equivalence, in killable processes, comes in a later version; until then some right answers count as wrong,
and none the other way round beyond what the normal form forgives (units, percent and currency signs,
degrees, an ``x =`` in front).
"""

from __future__ import annotations

import re
from fractions import Fraction

MAX_ANSWER = 500  # characters of a boxed answer; a longer one is no answer
MAX_DIGITS = 40  # of each integer in a number
MAX_BOXES = 20  # boxes looked at, from the end

_BOX = re.compile(r"\\f?boxed(?![a-zA-Z])|\\fbox(?![a-zA-Z])")
_BARE_BOX = re.compile(r"\s*([-+]?\d[\d.,/]*)")

_DELETED = re.compile(r"\\left(?![a-zA-Z])|\\right(?![a-zA-Z])|(?<!\\)\\[!,;: ]|\\q?quad(?![a-zA-Z])|\\displaystyle|~")
_UNIT = re.compile(r"(?<=[\d}])\s*\\(?:text|mbox|textrm|mathrm|textnormal)\s*\{\s*[a-zA-Z ]+\}(?:\^(?:\d|\{\d\}))?$")
_TEXT = re.compile(r"\\(?:text|mbox|textrm|textbf|mathrm|mathbf|textnormal|emph)\s*\{([^{}]*)\}")
_DEGREES = re.compile(r"\^\s*(?:\{\s*\\circ\s*\}|\\circ)|\\degree|°")
_SHORT_FRACTION = re.compile(r"\\frac(?:\{([^{}]*)\}|(\d))(?:\{([^{}]*)\}|(\w))")
_SHORT_ROOT = re.compile(r"\\sqrt(\w)")
_SHORT_SCRIPT = re.compile(r"([_^])\{(-?\w)\}")
_DEFINED = re.compile(r"^[a-zA-Z](?:\([a-zA-Z]\))?(?:=|\\in(?![a-zA-Z]))")
_THOUSANDS = re.compile(r"^([-+]?\d{1,3}(?:,\d{3})+)(\.\d+)?$")

_DECIMAL = r"(?:\d+(?:\.\d*)?|\.\d+)"
_NUMBER = re.compile(rf"^([-+]?)({_DECIMAL})$")
_RATIO = re.compile(rf"^([-+]?)({_DECIMAL})/({_DECIMAL})$")
_LATEX_RATIO = re.compile(rf"^([-+]?)(\d*)\\frac\{{([-+]?)({_DECIMAL})\}}\{{([-+]?)({_DECIMAL})\}}$")


def extract_boxed(text: str) -> str | None:
    r"""Content of the last complete ``\boxed{...}`` or ``\fbox{...}``, stripped; None if there is none.

    Escaped braces are not counted. ``\boxed 5`` is read for plain numbers. An unfinished last box gives way
    to the one before it. A content longer than 500 characters is no answer.
    """
    matches = list(_BOX.finditer(text))
    for match in reversed(matches[-MAX_BOXES:]):
        content = _content(text, match.end())
        if content is not None:
            return content
    return None


def _content(text: str, start: int) -> str | None:
    bare = _BARE_BOX.match(text, start, start + MAX_ANSWER)
    if bare:
        return bare.group(1).rstrip(".,")
    while start < len(text) and text[start].isspace():
        start += 1
    if start >= len(text) or text[start] != "{":
        return None
    depth, i = 0, start
    end = min(len(text), start + MAX_ANSWER + 2)
    while i < end:
        if text[i] == "\\":
            i += 2
            continue
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start + 1 : i].strip() or None
        i += 1
    return None


def normalise(answer: str) -> str:
    r"""A normal form in which notations of no mathematical meaning are gone.

    >>> normalise(r"$\left( 3, \dfrac{\pi}2 \right)$.")
    '(3,\\frac{\\pi}{2})'
    """
    text = answer[: 2 * MAX_ANSWER].strip().rstrip(".").strip()
    for opening, closing in (("$", "$"), (r"\(", r"\)"), (r"\[", r"\]")):
        if text.startswith(opening) and text.endswith(closing) and len(text) > len(opening + closing):
            text = text[len(opening) : -len(closing)]
    text = _DELETED.sub("", text).replace("{,}", ",")
    text = text.replace(r"\dfrac", r"\frac").replace(r"\tfrac", r"\frac").replace(r"\cfrac", r"\frac")
    text = _UNIT.sub("", text.strip())
    text = _TEXT.sub(r"\1", text)
    text = _DEGREES.sub("", text)
    text = text.replace(r"\$", "").replace(r"\%", "").replace("%", "").replace("$", "")
    text = re.sub(r"\s+", "", text)
    text = _SHORT_ROOT.sub(r"\\sqrt{\1}", text)
    text = _SHORT_SCRIPT.sub(r"\1\2", text)
    text = _SHORT_FRACTION.sub(lambda m: rf"\frac{{{m[1] or m[2] or ''}}}{{{m[3] or m[4] or ''}}}", text)
    text = _DEFINED.sub("", text)
    thousands = _THOUSANDS.match(text)
    return text.replace(",", "") if thousands else text


def _integer(digits: str) -> Fraction | None:
    return Fraction(digits) if len(digits) <= MAX_DIGITS else None


def rational(text: str) -> Fraction | None:
    r"""Exact value of a normal form that is a number, else None.

    Numbers are ``-3``, ``.25``, ``7/4``, ``\frac{-7}{4}`` and the mixed ``3\frac{1}{2}``. One with more than
    40 digits in a row or with a zero denominator is none.
    """
    if number := _NUMBER.match(text):
        value = _integer(number[2].rstrip("."))
        sign = number[1]
    elif ratio := _RATIO.match(text):
        value = _quotient(ratio[2], ratio[3])
        sign = ratio[1]
    elif latex := _LATEX_RATIO.match(text):
        value = _quotient(latex[4], latex[6])
        sign = latex[1]
        inner = (latex[3] == "-") != (latex[5] == "-")
        if value is not None and latex[2]:
            whole = None if inner else _integer(latex[2])
            value = None if whole is None else whole + value
        elif value is not None and inner:
            value = -value
    else:
        return None
    return None if value is None else (-value if sign == "-" else value)


def _quotient(numerator: str, denominator: str) -> Fraction | None:
    above, below = _integer(numerator.rstrip(".")), _integer(denominator.rstrip("."))
    return above / below if above is not None and below else None


def canonical(answer: str) -> str:
    """One string for all spellings of the same answer: the reduced fraction, or the normal form."""
    text = normalise(answer)
    value = rational(text)
    return text if value is None else str(value)


def equivalent(answer: str, gold: str) -> bool:
    """Whether two answers count as the same."""
    return canonical(answer) == canonical(gold)
