r"""Countdown: an arithmetic expression that uses each given number exactly once and has the target's value.

Only the parser below reads an expression. It knows digits, ``+ - * /``, brackets and a leading sign, but no power, no
name and no call. Values are exact fractions; length and depth are bounded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from carerl.grading.math.characters import half_width
from carerl.grading.math.normal_form import braced_fractions
from carerl.grading.math.ornaments import without_ornaments

from .base import LimitError

MAX_LENGTH = 500
MAX_DEPTH = 20
MAX_DIGITS = 20
MAX_SIDES = 8

_NOTATION = (
    (re.compile(r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|,|;|!|:| )"), ""),
    (re.compile(r"\\(?:times|cdot|ast|star)(?![a-zA-Z])|[×·⋅∗∙•✕✖⨯]"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])|[÷∕]"), "/"),
    (re.compile(r"[−–]"), "-"),
    (re.compile(r"\$|\\[()\[\]]|`|\*\*(?=[.\s]*$)|^\*\*"), ""),
    (re.compile(r"\\?[\[{]"), "("),
    (re.compile(r"\\?[\]}]"), ")"),
    (re.compile(r"(?<=[\d)])\s*[xX]\s*(?=[\d(])", re.ASCII), "*"),
    (re.compile(r"(?<=[\d)])\s*(?=\()|(?<=\))\s*(?=\d)", re.ASCII), "*"),  # 3(3+5)
)
_FONT = re.compile(r"^\\(?:text|textbf|mathrm|mathbf|boldsymbol|mbox)\s*\{([^{}]*)\}$")
_FRACTION = re.compile(r"\\frac\{([^{}]*)\}\{([^{}]*)\}")
_TOKEN = re.compile(r"\s*(\d+|[-+*/()])", re.ASCII)


def evaluate(expression: str) -> tuple[Fraction, list[int]] | None:
    """Returns the value and the numbers used, in order; None for a text that is no expression or divides by zero.
    Raises LimitError.

    >>> evaluate("(3 + 5) / 2")
    (Fraction(4, 1), [3, 5, 2])
    """
    if len(expression) > MAX_LENGTH:
        raise LimitError("an expression too long")
    expression = _plain(expression)
    tokens, position = [], 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            return None
        if len(match[1]) > MAX_DIGITS:
            raise LimitError("a number of too many digits")
        tokens.append(match[1])
        position = match.end()
    parser = _Parser(tokens)
    try:
        value = parser.sum(0)
    except (ValueError, ZeroDivisionError) as error:
        if isinstance(error, LimitError):
            raise
        return None
    return (value, parser.numbers) if parser.at == len(tokens) else None


def _plain(expression: str) -> str:
    """Rewrites signs and brackets to one notation, and fractions as quotients, from the innermost outwards."""
    expression = re.sub(r"\\[dtc]frac(?![a-zA-Z])", r"\\frac", half_width(expression))
    if r"\frac" in expression:
        expression = braced_fractions(expression.replace(r"\{", "(").replace(r"\}", ")"))
        for _ in range(MAX_DEPTH):
            expression, count = _FRACTION.subn(r"((\1)/(\2))", expression)
            if not count:
                break
    for pattern, written in _NOTATION:
        expression = pattern.sub(written, expression)
    return expression.strip()


class _Parser:
    """Parses by recursive descent: a sum of products of signed atoms."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = tokens
        self.at = 0
        self.numbers: list[int] = []

    def next(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def sum(self, depth: int) -> Fraction:
        if depth > MAX_DEPTH:
            raise LimitError("brackets too deep")
        value = self.product(depth)
        while self.next() in ("+", "-"):
            sign = 1 if self.tokens[self.at] == "+" else -1
            self.at += 1
            value += sign * self.product(depth)
        return value

    def product(self, depth: int) -> Fraction:
        value = self.atom(depth)
        while self.next() in ("*", "/"):
            operator = self.tokens[self.at]
            self.at += 1
            factor = self.atom(depth)
            value = value * factor if operator == "*" else value / factor
        return value

    def atom(self, depth: int) -> Fraction:
        sign = 1
        if self.next() in ("+", "-"):
            sign = 1 if self.tokens[self.at] == "+" else -1
            self.at += 1
        token = self.next()
        self.at += 1
        if token == "(":
            value = self.sum(depth + 1)
            if self.next() != ")":
                raise ValueError("a bracket is not closed")
            self.at += 1
            return sign * value
        if not token.isdigit():
            raise ValueError(f"no number: {token!r}")
        self.numbers.append(int(token))
        return sign * Fraction(int(token))


def _unwrapped(answer: str) -> str:
    """Removes dollar signs, environment, fonts and ornaments around the whole answer."""
    for _ in range(3):
        before, answer = answer, without_ornaments(answer.strip(" .,;`*$\n"))
        answer = _FONT.sub(r"\1", answer)
        if answer == before:
            break
    return answer


def solves(answer: str, numbers: Sequence[int], target: int) -> bool:
    """Returns True if an answer is right. In a chain of equal signs (``expression = 8*3 = 24``, ``24 = expression``)
    every side must have the target's value, and the first side that is not the target itself must use the numbers."""
    answer = _unwrapped(answer)
    sides = [side.strip(" \t\n*`") for side in re.split(r"=|\\approx", answer.rstrip(" .,;`*$\n"))]
    if len(sides) > MAX_SIDES:
        raise LimitError("too many equal signs")
    results = [evaluate(side) for side in sides]
    found = [result for result in results if result is not None]
    if len(found) < len(sides) or any(value != target for value, _ in found):
        return False
    used = next((used for _, used in found if used != [target]), [target])
    return Counter(used) == Counter(numbers)
