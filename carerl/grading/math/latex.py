r"""Prepares a normal form for the LaTeX parser: bounded, decimals as fractions, plain functions as macros, and products
written out where the parser would read something else. String work only."""

from __future__ import annotations

import re
from fractions import Fraction

from carerl.grading.base import LimitError

from .normal_form import MAX_ANSWER
from .structure import GREEK

MAX_DEPTH = 20  # of brackets
MAX_BARS = 16  # of absolute values: the parser tries every way to pair them
MAX_SCRIPTS = 40
MAX_CALLS = 60  # of functions, roots and fractions

_FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln"
_PLAIN_FUNCTION = re.compile(rf"(?<![a-zA-Z\\])(?:{_FUNCTIONS}|pi|theta|infinity)(?![a-zA-Z])")
_PLAIN_ROOT = re.compile(r"(?<![a-zA-Z\\])sqrt\s*(\(|\{)")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\overline\{(\d+)\}", re.ASCII)
_DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)(?![\d.])", re.ASCII)
_MIXED = re.compile(r"(?<![\d.^_])(\d+)\\frac\{(\d+)\}\{(\d+)\}", re.ASCII)
_JUXTAPOSED = re.compile(
    r"(?<=[\d)])(?=\()|(?<=\d)(?=\\(?:frac|binom|sqrt))|(?<=\))(?=\d|\\frac)"
)  # it reads 3(4) as 3 + 4
_PLAIN_QUOTIENT = re.compile(
    r"(?<![\d./}^_)\]a-zA-Z|!])(\d+)/(\d+)(?=[a-zA-Z(]|\\(?!cdot|times|div|pm|mp|ldots|right|[,;:!]))", re.ASCII
)
_LETTER_TIMES = re.compile(rf"({GREEK}) ?(?=\()|(?<![a-zA-Z\\])([a-ei-or-zA-EI-OQ-Z])(?=\()")
_CALLED = re.compile(r"\\(?:frac|sqrt|binom|left|begin|sum|prod|int|lim|[a-zA-Z]{3,})(?![a-zA-Z])|[a-zA-Z]\(")
_LONG_EXPONENT = re.compile(r"\^\{?-?\d{7,}", re.ASCII)
_BINOMIAL = re.compile(r"\\[dt]?binom\{(\d+)\}\{(\d+)\}", re.ASCII)
_WITH_CIRCLE = re.compile(r"(\d+(?:\.\d+)?)\\degree", re.ASCII)
_UNREADABLE = re.compile(
    r"\^\{T\}|\\text|\\begin|\\dollar|\\underline|\\pmod|\\dots|\\ldots|\\cdots|%|\"|&|\.\.\.|[?#@;:'`]"
)


def prepared(text: str) -> str | None:
    """Returns a normal form as the parser wants it, with decimals as fractions and plain functions as macros; None if
    it cannot read it. Raises LimitError."""
    if not text or len(text) > 2 * MAX_ANSWER or not text.isprintable() or _UNREADABLE.search(text):
        return None
    if _LONG_EXPONENT.search(text):
        raise LimitError("an exponent of more than six digits")
    depth = deepest = 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        deepest = max(deepest, depth)
        if depth < 0:
            return None
    if deepest > MAX_DEPTH:
        raise LimitError("brackets too deep")
    if depth:
        return None
    if text.count("|") > MAX_BARS or text.count("_{") > MAX_SCRIPTS or _nested(text, "[", "]") > 3:
        raise LimitError("too many bars, indices or square brackets")
    if len(_CALLED.findall(text)) > MAX_CALLS:
        raise LimitError("too many functions")
    if any(int(m[1]) > 10_000 for m in _BINOMIAL.finditer(text)):
        raise LimitError("a binomial coefficient too large")
    text = _MIXED.sub(_mixed, text)
    text = _WITH_CIRCLE.sub(r"(\1\\cdot\\frac{\\pi}{180})", text)
    text = _PLAIN_FUNCTION.sub(lambda m: {"infinity": r"\infty "}.get(m[0], "\\" + m[0] + " "), text)
    text = _plain_roots(text)
    text = _REPEATING.sub(lambda m: _fraction(_repeating(m[1], m[2], m[3])), text)
    text = _DECIMAL.sub(lambda m: _fraction(Fraction(f"{m[1] or 0}.{m[2]}")), text)
    text = _PLAIN_QUOTIENT.sub(r"\\frac{\1}{\2}", text)  # 1/2x is a half of x
    text = _LETTER_TIMES.sub(r"\g<0>\\cdot ", text)
    text = _JUXTAPOSED.sub(r"\\cdot ", text)
    return text.replace("*", r"\cdot ")


def _nested(text: str, opening: str, closing: str) -> int:
    depth = deepest = 0
    for character in text:
        depth += (character == opening) - (character == closing)
        deepest = max(deepest, depth)
    return deepest


def _mixed(match: re.Match[str]) -> str:
    if int(match[2]) >= int(match[3]):
        return match[0]  # no mixed number but a product
    return rf"({match[1]}+\frac{{{match[2]}}}{{{match[3]}}})"


def _fraction(value: Fraction) -> str:
    return rf"(\frac{{{value.numerator}}}{{{value.denominator}}})"


def _repeating(whole: str, fixed: str, period: str) -> Fraction:
    """Returns the value of a decimal such as 0.1\\overline{6}, whose period repeats for ever.

    >>> _repeating("0", "1", "6")
    Fraction(1, 6)
    """
    scale = 10 ** len(fixed)
    return Fraction(int(f"{whole or 0}{fixed}"), scale) + Fraction(int(period), scale * (10 ** len(period) - 1))


def _plain_roots(text: str) -> str:
    r"""Rewrites ``sqrt(3)`` as ``\sqrt{3}``."""
    for _ in range(20):
        match = _PLAIN_ROOT.search(text)
        if match is None:
            break
        start, depth = match.end(1) - 1, 0
        for end in range(start, len(text)):
            depth += (text[end] in "({") - (text[end] in ")}")
            if depth == 0:
                break
        else:
            break
        text = rf"{text[: match.start()]}\sqrt{{{text[start + 1 : end]}}}{text[end + 1 :]}"
    return text
