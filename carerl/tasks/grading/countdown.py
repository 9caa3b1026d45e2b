r"""Countdown: an arithmetic expression that uses each given number exactly once and has the target's value.

The parser below is all that ever reads an expression: digits, ``+ - * /``, brackets and a leading sign. There is no
power, no name and no call, values are exact fractions, and length and depth are bounded.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction

from .base import LimitError

MAX_LENGTH = 500
MAX_DEPTH = 40
MAX_DIGITS = 20

_NOTATION = (
    (re.compile(r"\\(?:left|right|,|;|!|:| )"), ""),
    (re.compile(r"\\(?:times|cdot|ast)(?![a-zA-Z])|[×·⋅∗]"), "*"),
    (re.compile(r"\\div(?![a-zA-Z])|[÷∕]"), "/"),
    (re.compile(r"[−–]"), "-"),
    (re.compile(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}"), r"((\1)/(\2))"),
    (re.compile(r"\$|\\[()\[\]]|`|\*\*(?=$)|^\*\*"), ""),
    (re.compile(r"[\[{]"), "("),
    (re.compile(r"[\]}]"), ")"),
)
_TOKEN = re.compile(r"\s*(\d+|[-+*/()])", re.ASCII)


def evaluate(expression: str) -> tuple[Fraction, list[int]] | None:
    """Value and the numbers used, in order; None for what is no expression or divides by zero. Raises LimitError.

    >>> evaluate("(3 + 5) / 2")
    (Fraction(4, 1), [3, 5, 2])
    """
    if len(expression) > MAX_LENGTH:
        raise LimitError("an expression too long")
    for pattern, written in _NOTATION:
        expression = pattern.sub(written, expression)
    tokens, position = [], 0
    expression = expression.strip()
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


class _Parser:
    """Recursive descent: sum of products of signed atoms."""

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


def solves(answer: str, numbers: Sequence[int], target: int) -> bool:
    """Whether an answer is right. ``expression = value`` is read too, if the value is the target."""
    expression, *values = re.split(r"=|\\approx", answer)
    result = evaluate(expression)
    if result is None or len(values) > 1:
        return False
    if values:
        stated = evaluate(values[0])
        if stated is None or stated[0] != target:
            return False
    return result[0] == target and Counter(result[1]) == Counter(numbers)
