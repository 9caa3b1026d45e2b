# ruff: noqa: E501 (tables, a case a line)
r"""Rewrites of answers whose truth is known by construction: nothing here asks the grader.

Values are read by the regular expressions below into :class:`~fractions.Fraction` (an answer they do not match is not
rewritten by that class), or built with sympy from the answer's own structure. ``SAME`` keep the meaning, ``MISSES`` change
it, each by a rule that cannot do otherwise. A rewrite returns None where it does not apply.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from decimal import Context, Decimal
from fractions import Fraction

Rewrite = Callable[[str], str | None]

_INTEGER = re.compile(r"^-?\d{1,12}$")
_FRACTION = re.compile(r"^(-?)\\[dt]?frac\{(\d+)\}\{(\d+)\}$")
_PAIR = re.compile(r"^\((-?[\w/]+),\s*(-?[\w/]+)(?:,\s*(-?[\w/]+))?\)$")
_LIST = re.compile(r"^-?\d+(?:,\s*-?(?!\d{3}(?!\d))\d+)+$")  # 81,256 may be a number
_INTERVAL = re.compile(r"^([\[(])(-?\d+),\s*(-?\d+)([\])])$")
_RAY = re.compile(r"^([\[(])(-?\d+),\s*\\infty\)$")
_BASED = re.compile(r"^(\d+)_\{?(\d+)\}?$")
_WORD = re.compile(r"^\\text\{([A-Z][a-z]{3,})\}$")
_LETTER = re.compile(r"^\\text\{\(?([A-Z])\)?\}$")
_UNIT = re.compile(r"^(\d+(?:\.\d+)?)\s*\\(?:text|mbox)\{ ?(feet|inches|miles|cm|units|dollars|hours|days)\}$")
_DEGREE = re.compile(r"^(\d+)\^\{?\\circ\}?$")
_PERCENT = re.compile(r"^(\d+)\s*\\%$")
_CURRENCY = re.compile(r"^\\\$\s?(\d+(?:\.\d\d)?)$")
_SURD = re.compile(r"^(\d+)\\sqrt\{(\d+)\}$")
_PI = re.compile(r"^(\d+)\s*\\pi$")
_MATRIX = re.compile(r"^\\begin\{pmatrix\}\s*(-?\d+)\s*\\\\\s*(-?\d+)\s*(?:\\\\\s*(-?\d+)\s*)?\\end\{pmatrix\}$")
_LINE = re.compile(r"^y\s*=\s*(-?\d*)x\s*([-+])\s*(\d+)$")
_LINEAR = re.compile(r"^(-?\d*)([a-z])\s*([-+])\s*(\d+)$")
_COMPLEX = re.compile(r"^(-?\d+)\s*([-+])\s*(\d+)i$")
_POWER = re.compile(r"^(\d+)\^\{?(\d{1,3})\}?$")
_ASSIGNED = re.compile(r"^([a-z])\s*=\s*(-?\d+)$")
_EXPRESSION = re.compile(
    r"^(?=.*[a-z\\])(?!.*(?:\\text|\\mbox|=|,|\\begin|\\cup|_|%|\\\$|circ|<|>|\\le|\\ge|:|\\pm|\\infty|\\approx|\\in)).+$"
)


_WITHOUT_NAME = re.compile(r"^[^=<>,\\]*[a-z][^=<>,\\]*[-+][^=<>,]*=\s*(-?\d+)$")  # x + y = 13, x^2 + y^2 = 13
_WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


def integer(answer: str) -> int | None:
    return int(answer) if _INTEGER.match(answer) else None


def fraction(answer: str) -> Fraction | None:
    match = _FRACTION.match(answer)
    if match is None or int(match[3]) == 0:
        return None
    return Fraction(int(match[1] + match[2]), int(match[3]))


def tex(value: Fraction) -> str:
    sign = "-" if value < 0 else ""
    return rf"{sign}\frac{{{abs(value.numerator)}}}{{{value.denominator}}}"


def decimal(value: Fraction) -> str | None:
    """The exact decimal, if it ends."""
    rest = value.denominator
    for prime in (2, 5):
        while rest % prime == 0:
            rest //= prime
    if rest != 1:
        return None
    digits = next(k for k in range(60) if (value * 10**k).denominator == 1)
    text = str(abs(value.numerator * 10**digits // value.denominator)).rjust(digits + 1, "0")
    body = f"{text[:-digits]}.{text[-digits:]}" if digits else text
    return f"-{body}" if value < 0 else body


def on(pattern: re.Pattern[str], build: Callable[[re.Match[str]], str | None]) -> Rewrite:
    def rewrite(answer: str) -> str | None:
        match = pattern.match(answer)
        return build(match) if match else None

    return rewrite


def on_integer(build: Callable[[int], str | None]) -> Rewrite:
    return lambda answer: None if (value := integer(answer)) is None else build(value)


def on_fraction(build: Callable[[Fraction], str | None]) -> Rewrite:
    return lambda answer: None if (value := fraction(answer)) is None else build(value)


def numbers(match: re.Match[str]) -> list[str]:
    return [g for g in match.groups() if g is not None]


def members(match: re.Match[str]) -> list[str]:
    return re.split(r",\s*", match[0])


def mixed(value: Fraction) -> str | None:
    whole, rest = divmod(abs(value), 1)
    if not whole or not rest:
        return None
    return f"{'-' if value < 0 else ''}{whole}{tex(rest)}"


def decimal_of(value: Fraction, digits: int) -> str:
    """The value rounded to so many digits that count, without an exponent."""
    found = Context(prec=digits).divide(Decimal(value.numerator), Decimal(value.denominator))
    return format(found, "f")


def coarse(value: Fraction, digits: int) -> str | None:
    """As :func:`decimal_of`; None where a double's shortest form has no more digits."""
    text = decimal_of(value, digits)
    return None if float(text) == float(value) else text


def endless(value: Fraction) -> bool:
    return decimal(value) is None


def root(match: re.Match[str]) -> Fraction | None:
    """m times the square root of n to 60 digits; None where it is a whole number."""
    value = int(match[1]) * Context(prec=60).sqrt(Decimal(int(match[2])))
    return None if value == value.to_integral_value() else Fraction(value)


def last_digit_changed(text: str) -> str:
    """A decimal with a last digit that is at least three away."""
    return text[:-1] + str((int(text[-1]) + 3) % 10)


def digit_changed(answer: str) -> str | None:
    """Another last digit of an answer that has one and no zero factor or exponent to hide it."""
    match = re.search(r"\d(?=\D*$)", answer)
    if match is None or re.search(r"\\text|\\mbox|_|\^\{?\\circ|1\^|\\pm|\\cup|infty", answer):
        return None
    return answer[: match.start()] + str((int(match[0]) + 1) % 10) + answer[match.end() :]


def sign_turned(answer: str) -> str | None:
    """Another sign between the first two terms."""
    match = re.search(r"(?<=[\w)}])\s*([-+])\s*(?=[\w(\\])", answer)
    if match is None or re.search(r"\\(?:text|pm|mbox)", answer):
        return None
    return answer[: match.start(1)] + ("+" if match[1] == "-" else "-") + answer[match.end(1) :]


def plain_values(answer: str) -> bool:
    """Whether an answer is no text, and no comment behind it is part of it."""
    return "text" not in answer and "mbox" not in answer


SAME: dict[str, Rewrite] = {
    "math mode": lambda a: f"${a}$",
    "display style": lambda a: a.replace(r"\frac", r"\dfrac") if r"\frac" in a else None,
    "full stop": lambda a: f"{a}.",
    "spaces": lambda a: f"  {a}\n",
    "left and right": on(_PAIR, lambda m: r"\left( " + r" ,\, ".join(numbers(m)) + r" \right)"),
    "integer with decimals": on_integer(lambda n: f"{n}.00"),
    "integer as a quotient": on_integer(lambda n: rf"\frac{{{6 * n}}}{{6}}"),
    "integer as a sum": on_integer(lambda n: f"{n - 17} + 17"),
    "integer as a product": on_integer(lambda n: rf"{n} \cdot 1"),
    "thousands": on_integer(lambda n: f"{n:,}" if abs(n) >= 1000 else None),
    "thousands in braces": on_integer(lambda n: f"{n:,}".replace(",", "{,}") if abs(n) >= 1000 else None),
    "thousands with space": on_integer(lambda n: f"{n:,}".replace(",", r",\!") if abs(n) >= 1000 else None),
    "integer defined": on_integer(lambda n: f"x = {n}"),
    "fraction scaled": on_fraction(lambda v: rf"\frac{{{v.numerator * 7}}}{{{v.denominator * 7}}}"),
    "fraction with a slash": on_fraction(lambda v: f"{v.numerator}/{v.denominator}"),
    "fraction as a decimal": on_fraction(decimal),
    "fraction as a mixed number": on_fraction(mixed),
    "fraction as a power": on_fraction(lambda v: rf"{v.numerator} \cdot {v.denominator}^{{-1}}"),
    "list in another order": on(_LIST, lambda m: ", ".join(reversed(members(m)))),
    "list as a set": on(_LIST, lambda m: rf"\{{{', '.join(members(m))}\}}" if len(set(members(m))) == len(members(m)) else None),
    "list with and": on(_LIST, lambda m: ", ".join(members(m)[:-1]) + rf" \text{{ and }} {members(m)[-1]}"),
    "interval as inequalities": on(
        _RAY, lambda m: rf"x {'>' if m[1] == '(' else chr(92) + 'ge'} {m[2]}"
    ),
    "base in braces": on(_BASED, lambda m: f"{m[1]}_{{{m[2]}}}"),
    "word without macro": on(_WORD, lambda m: m[1]),
    "word in capitals": on(_WORD, lambda m: rf"\text{{{m[1].upper()}}}"),
    "letter in brackets": on(_LETTER, lambda m: rf"\text{{({m[1]})}}"),
    "letter bare": on(_LETTER, lambda m: m[1]),
    "without its unit": on(_UNIT, lambda m: m[1]),
    "unit outside of math": on(_UNIT, lambda m: f"{m[1]} {m[2]}"),
    "degrees in words": on(_DEGREE, lambda m: rf"{m[1]} \text{{ degrees}}"),
    "degrees left out": on(_DEGREE, lambda m: m[1]),
    "percent in words": on(_PERCENT, lambda m: f"{m[1]} percent"),
    "percent as a fraction": on(_PERCENT, lambda m: tex(Fraction(int(m[1]), 100))),
    "currency left out": on(_CURRENCY, lambda m: m[1]),
    "currency in words": on(_CURRENCY, lambda m: f"{m[1]} dollars"),
    "surd under the root": on(_SURD, lambda m: rf"\sqrt{{{int(m[1]) ** 2 * int(m[2])}}}"),
    "surd as a power": on(_SURD, lambda m: rf"{m[1]} \cdot {m[2]}^{{1/2}}"),
    "pi first": on(_PI, lambda m: rf"\pi \cdot {m[1]}"),
    "pi as an arcsine": on(_PI, lambda m: rf"{int(m[1]) * 2} \arcsin 1"),
    "square brackets of a matrix": on(_MATRIX, lambda m: m[0].replace("pmatrix", "bmatrix")),
    "matrix with fractions": on(_MATRIX, lambda m: r"\begin{pmatrix}" + r" \\ ".join(tex(Fraction(int(n) * 3, 3)) if int(n) else "0" for n in numbers(m)) + r"\end{pmatrix}"),
    "line in standard form": on(_LINE, lambda m: f"2y - ({m[1] + '1' if m[1] in ('', '-') else m[1]}) \\cdot 2x = {m[2]}{2 * int(m[3])}"),
    "line without y": on(_LINE, lambda m: m[0].split("=")[1]),
    "terms in another order": on(_LINEAR, lambda m: f"{'-' if m[3] == '-' else ''}{m[4]} + {m[1] + '1' if m[1] in ('', '-') else m[1]} {m[2]}".replace("+ -", "- ")),
    "complex in another order": on(_COMPLEX, lambda m: f"{'-' if m[2] == '-' else ''}{m[3]}i + {m[1]}".replace("+ -", "- ")),
    "power written out": on(_POWER, lambda m: str(int(m[1]) ** int(m[2])) if int(m[2]) < 40 else None),
    "definition left out": on(_ASSIGNED, lambda m: m[2]),
    "definition turned": on(_ASSIGNED, lambda m: f"{m[2]} = {m[1]}"),
    "aligned": lambda a: rf"\begin{{aligned}} {a} \end{{aligned}}" if r"\begin" not in a else None,
    "equation over lines": lambda a: f"\\begin{{equation*}}\n{a}\n\\end{{equation*}}",
    "ticked": lambda a: rf"{a} \checkmark",
    "therefore": lambda a: rf"\therefore {a}",
    "implied": lambda a: rf"\implies {a}\ .",
    "in quotation marks": lambda a: f'"{a}"' if plain_values(a) else None,
    "with a strut": lambda a: rf"\rule{{0pt}}{{1em}} {a}" if not a.startswith(r"\text") else None,
    "bold": lambda a: rf"\pmb{{{a}}}" if plain_values(a) else None,
    "with a reason": lambda a: rf"{a} \text{{ (since }} 6\cdot 7=42)" if plain_values(a) else None,
    "with a comment": on_integer(lambda n: rf"{n}\,(\text{{exact}})"),
    "in words and digits": on_integer(lambda n: f"{_WORDS[n]} ({n})" if 0 < n <= 12 else None),
    "full width": on_integer(lambda n: "".join(chr(ord(c) + 0xFEE0) for c in str(n))),
    "thousands defined": on_integer(lambda n: f"n = {n:,}" if abs(n) >= 1000 else None),
    "thousands as a sum": on_integer(lambda n: f"{n - 1:,} + 1" if abs(n) >= 1001 else None),
    "thousands in a pair": on(_PAIR, lambda m: "(" + ", ".join(f"{int(n):,}" if n.lstrip("-").isdigit() else n for n in numbers(m)) + ")"),
    "fraction as a double": on_fraction(lambda v: repr(float(v)) if endless(v) and abs(v) > Fraction(1, 1000) else None),
    "fraction to 15 digits": on_fraction(lambda v: decimal_of(v, 15) if endless(v) else None),
    "fraction to 17 digits": on_fraction(lambda v: decimal_of(v, 17) if endless(v) else None),
    "surd as a double": on(_SURD, lambda m: repr(float(v)) if (v := root(m)) is not None else None),
    "unit in square brackets": on(_UNIT, lambda m: f"{m[1]} [{m[2]}]" if m[2] != "units" else None),
    "degrees with an o": on(_DEGREE, lambda m: rf"{m[1]}^\text{{o}}"),
    "currency by its macro": on(_CURRENCY, lambda m: rf"\mathdollar {m[1]}"),
    "expression halved and doubled": on(_EXPRESSION, lambda m: rf"\frac{{2\left({m[0]}\right)}}{{2}}"),
    "expression plus and minus": on(_EXPRESSION, lambda m: rf"\left({m[0]}\right) + 11 - 11"),
}  # fmt: skip

MISSES: dict[str, Rewrite] = {
    "one more": on_integer(lambda n: str(n + 1)),
    "one less": on_integer(lambda n: str(n - 1)),
    "other sign": on_integer(lambda n: str(-n) if n else None),
    "a zero more": on_integer(lambda n: f"{n}0" if n else None),
    "squared": on_integer(lambda n: f"{n}^2" if abs(n) > 1 else None),
    "almost": on_integer(lambda n: f"{n}.0000001"),
    "an alternative": on_integer(lambda n: rf"{n} \text{{ or }} {n + 1}"),
    "a second value": on_integer(lambda n: f"{n}, {n + 2}"),
    "denied": on_integer(lambda n: rf"\text{{not }} {n}"),
    "in thousands": on_integer(lambda n: f"{n} thousand" if n else None),
    "in a base": on_integer(lambda n: f"{n}_{{7}}"),
    "as an interval": on_integer(lambda n: f"({n - 1}, {n + 1})"),
    "as an inequality": on_integer(lambda n: rf"x \le {n}"),
    "a false equation": on_integer(lambda n: f"{n} = {n + 3}"),
    "inverted": on_fraction(lambda v: tex(1 / v) if v and abs(v) != 1 else None),
    "fraction of other sign": on_fraction(lambda v: tex(-v) if v else None),
    "rounded": on_fraction(lambda v: None if decimal(v) else f"{float(v):.6f}"),
    "digits joined": on_fraction(lambda v: f"{v.numerator}{v.denominator}"),
    "numerator alone": on_fraction(lambda v: str(v.numerator) if v.denominator != 1 and v else None),
    "swapped": on(_PAIR, lambda m: f"({', '.join(reversed(numbers(m)))})" if numbers(m) != numbers(m)[::-1] else None),
    "point as a set": on(_PAIR, lambda m: rf"\{{{', '.join(numbers(m))}\}}"),
    "point in square brackets": on(_PAIR, lambda m: f"[{', '.join(numbers(m))}]"),
    "a coordinate missing": on(_PAIR, lambda m: f"({', '.join(numbers(m)[:-1])})"),
    "a member missing": on(_LIST, lambda m: ", ".join(members(m)[:-1])),
    "a member more": on(_LIST, lambda m: m[0] + ", 98765"),
    "a member changed": on(_LIST, lambda m: ", ".join([*members(m)[:-1], "98765"])),
    "list as a tuple": on(_LIST, lambda m: f"({m[0]})"),
    "end closed or opened": on(_INTERVAL, lambda m: f"{'[' if m[1] == '(' else '('}{m[2]},{m[3]}{m[4]}"),
    "ray closed or opened": on(_RAY, lambda m: rf"{'[' if m[1] == '(' else '('}{m[2]}, \infty)"),
    "ray turned": on(_RAY, lambda m: rf"(-\infty, {m[2]}{']' if m[1] == '[' else ')'}"),
    "ray as a wrong inequality": on(_RAY, lambda m: rf"x {'<' if m[1] == '(' else chr(92) + 'le'} {m[2]}"),
    "base dropped": on(_BASED, lambda m: m[1]),
    "base changed": on(_BASED, lambda m: f"{m[1]}_{{{int(m[2]) + 1}}}"),
    "value in base ten": on(_BASED, lambda m: str(int(m[1], int(m[2]))) if int(m[2]) < 10 and m[1] != "1" else None),
    "another word": on(_WORD, lambda m: r"\text{Xylophone}"),
    "words with or": on(_WORD, lambda m: rf"\text{{{m[1]} or Xylophone}}"),
    "another letter": on(_LETTER, lambda m: rf"\text{{({chr(ord(m[1]) + 1)})}}"),
    "another unit": on(_UNIT, lambda m: rf"{m[1]}\text{{ kilograms}}" if m[2] != "units" else None),
    "another power of the unit": on(_UNIT, lambda m: rf"{m[1]}\text{{ {m[2]}}}^2" if m[2] not in ("units", "dollars", "hours", "days") else None),
    "degrees as radians": on(_DEGREE, lambda m: rf"{m[1]} \text{{ radians}}"),
    "percent of a percent": on(_PERCENT, lambda m: rf"0.{int(m[1]):02d}\%" if int(m[1]) < 100 else None),
    "cents for dollars": on(_CURRENCY, lambda m: f"{m[1]} cents"),
    "surd as a decimal": on(_SURD, lambda m: f"{int(m[1]) * int(m[2]) ** 0.5:.4f}" if int(int(m[2]) ** 0.5) ** 2 != int(m[2]) else None),
    "another radicand": on(_SURD, lambda m: rf"{m[1]}\sqrt{{{int(m[2]) + 1}}}"),
    "root dropped": on(_SURD, lambda m: f"{m[1]} \\cdot {m[2]}" if int(m[2]) > 1 else None),
    "pi as 3.14": on(_PI, lambda m: decimal(Fraction(314, 100) * int(m[1]))),
    "pi dropped": on(_PI, lambda m: m[1]),
    "entries turned": on(_MATRIX, lambda m: r"\begin{pmatrix}" + r" \\ ".join(reversed(numbers(m))) + r"\end{pmatrix}" if numbers(m) != numbers(m)[::-1] else None),
    "column as a row": on(_MATRIX, lambda m: r"\begin{pmatrix}" + " & ".join(numbers(m)) + r"\end{pmatrix}"),
    "line shifted": on(_LINE, lambda m: f"y = {m[1]}x {m[2]} {int(m[3]) + 1}"),
    "line of another variable": on(_LINE, lambda m: m[0].replace("x", "z")),
    "another variable": on(_LINEAR, lambda m: m[0].replace(m[2], "q" if m[2] != "q" else "r")),
    "constant of other sign": on(_LINEAR, lambda m: f"{m[1]}{m[2]} {'+' if m[3] == '-' else '-'} {m[4]}" if int(m[4]) else None),
    "conjugate": on(_COMPLEX, lambda m: f"{m[1]} {'+' if m[2] == '-' else '-'} {m[3]}i" if int(m[3]) else None),
    "exponent changed": on(_POWER, lambda m: f"{m[1]}^{{{int(m[2]) + 1}}}" if int(m[1]) > 1 else None),
    "exponent dropped": on(_POWER, lambda m: m[1] if int(m[1]) > 1 and int(m[2]) > 1 else None),
    "defined by another name": on(_ASSIGNED, lambda m: f"{'w' if m[1] != 'w' else 'u'} = {m[2]}"),
    "defined otherwise": on(_ASSIGNED, lambda m: f"{m[1]} = {int(m[2]) + 1}"),
    "aligned, one more": on_integer(lambda n: rf"\begin{{aligned}} {n + 1} \end{{aligned}}"),
    "therefore one more": on_integer(lambda n: rf"\therefore {n + 1} \checkmark"),
    "rejected": on_integer(lambda n: rf"{n}\ (\text{{rejected}})" if abs(n) > 1 else None),
    "or one more": on_integer(lambda n: rf"{n}\ (\text{{or }} {n + 1})"),
    "other words": on_integer(lambda n: f"{_WORDS[n - 1]} ({n})" if 0 < n <= 12 else None),
    "thousands of one more": on_integer(lambda n: f"n = {n + 1:,}" if abs(n) >= 1000 else None),
    "thousands in the wrong place": on_integer(lambda n: f"n = {str(n)[:-2]},{str(n)[-2:]}" if n >= 1000 else None),
    "a digit changed": digit_changed,
    "a sign turned": sign_turned,
    "to 14 digits": on_fraction(lambda v: coarse(v, 14) if endless(v) else None),
    "to 6 digits": on_fraction(lambda v: decimal_of(v, 6) if endless(v) else None),
    "the 15th digit changed": on_fraction(lambda v: last_digit_changed(decimal_of(v, 15)) if endless(v) else None),
    "the 16th digit changed": on_fraction(lambda v: last_digit_changed(decimal_of(v, 16)) if endless(v) else None),
    "to 25 digits": on_fraction(lambda v: decimal_of(v, 25) if endless(v) else None),
    "almost a double": on_integer(lambda n: f"{n}.{'0' * (15 - len(str(abs(n))))}1" if 0 < abs(n) < 10**9 else None),
    "surd to 14 digits": on(_SURD, lambda m: coarse(v, 14) if (v := root(m)) is not None else None),
    "surd, the 15th digit changed": on(_SURD, lambda m: last_digit_changed(decimal_of(v, 15)) if (v := root(m)) is not None else None),
    "right side of an equation": on(_WITHOUT_NAME, lambda m: m[1]),
    "another unit in brackets": on(_UNIT, lambda m: f"{m[1]} [kg]" if m[2] != "units" else None),
    "degrees of another number": on(_DEGREE, lambda m: rf"{int(m[1]) + 1}^\text{{o}}"),
    "expression negated": on(_EXPRESSION, lambda m: rf"-\left({m[0]}\right)"),
    "expression plus a trifle": on(_EXPRESSION, lambda m: rf"\left({m[0]}\right) + 10^{{-30}}"),
    "expression plus one": on(_EXPRESSION, lambda m: rf"\left({m[0]}\right) + 1"),
    "expression doubled": on(_EXPRESSION, lambda m: rf"2\left({m[0]}\right)"),
}  # fmt: skip
