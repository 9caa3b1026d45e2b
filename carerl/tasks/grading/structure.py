r"""Reads a normal form into the kinds that :mod:`~carerl.tasks.grading.equivalence` compares: lists, sets, intervals,
matrices, relations, quantities, text. What is nothing else is an expression; nothing is evaluated here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .base import LimitError
from .normal_form import rational

MAX_PARTS = 60
_MAX_LEVEL = 12

_OPEN, _CLOSE = "([{", ")]}"
_BRACKETS = {"(": ")", "[": "]", r"\{": r"\}", r"\langle": r"\rangle"}
_RELATION = re.compile(r"\\(?:le|ge|ne|in|approx|equiv|sim)(?![a-zA-Z])|[<>=]")
_CONJUNCTION = re.compile(
    r"\\text\{(?:,? ?and|,? ?or|;|,)\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])|\\(?:lor|vee|land|wedge)(?![a-zA-Z])"
)
NAME = re.compile(r"^\\?[a-zA-Z]+(?:_\{\w+\})?'?(?:\([a-zA-Z](?:,[a-zA-Z])*\))?$|^\((?:[a-zA-Z],)+[a-zA-Z]\)$")
_BUILDER = re.compile(r"^[a-zA-Z](?:\\in\\mathbb\{R\})?(?:\||:|\\mid ?|\\colon ?)(.+)$")
_BASED = re.compile(r"^(-?)(?:\\text\{)?([0-9A-Za-z.]+)\}?_\{(?:\\text\{)?(\w+)\}?\}$", re.ASCII)
_BASE_WORD = re.compile(r"^(-?[0-9A-Za-z.]+)(?:\\text\{)?,? ?\(?(?:in )?base ?(\w+)\)?\}?$", re.ASCII)
_MATRIX = re.compile(r"^\\begin\{([pbBvV]?matrix|array|smallmatrix)\}(?:\{[clr|]*\})?(.*)\\end\{\1\}$")
TIME = re.compile(r"^\d+(?::\d+)+")
_WORD_UNIT = re.compile(
    r"^(.*?[\d})!a-z])(?:\\text\{ ?([^{}\d]*?)\.?\}|(?<![a-zA-Z])([a-zA-Z]{2,}(?: [a-zA-Z]+){0,3}))(?:\^\{([23])\})?$",
    re.ASCII,
)
TEXT_ONLY = re.compile(r"\\text\{([^{}]*)\}")

_RATE = re.compile(r"(?:per|a|an|each|every)\b|/")
_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
NUMBER_WORDS = {word: str(k) for k, word in enumerate(_NUMBERS.split(" "))}
_MULTIPLIERS = {"hundred": 100, "thousand": 1000, "million": 10**6, "billion": 10**9, "trillion": 10**12, "dozen": 12}
_UNIT_NAMES = {
    "centimeters": "cm", "centimeter": "cm", "centimetres": "cm", "centimetre": "cm", "cms": "cm",
    "meters": "m", "meter": "m", "metres": "m", "metre": "m", "kilometers": "km", "kilometer": "km", "kilometres": "km",
    "millimeters": "mm", "millimeter": "mm", "inches": "in", "inch": "in", "feet": "ft", "foot": "ft", "miles": "mi",
    "mile": "mi", "yards": "yd", "yard": "yd", "seconds": "s", "second": "s", "sec": "s", "secs": "s", "minutes": "min",
    "minute": "min", "mins": "min", "hours": "h", "hour": "h", "hr": "h", "hrs": "h", "grams": "g", "gram": "g",
    "kilograms": "kg", "kilogram": "kg", "pounds": "lb", "pound": "lb", "lbs": "lb", "ounces": "oz", "ounce": "oz",
    "liters": "l", "liter": "l", "litres": "l", "litre": "l", "degrees": "degree", "degree": "degree", "deg": "degree",
    "percent": "%", "percents": "%", "percentage": "%", "pct": "%", "dollars": "$", "dollar": "$",
    "usd": "$", "bucks": "$",
    "cents": "cent", "radians": "rad", "radian": "rad", "mph": "mi/h", "miles per hour": "mi/h", "km/h": "km/h",
    "kilometers per hour": "km/h", "units": "", "unit": "",
}  # fmt: skip
_SHORT_UNITS = {
    "cm",
    "m",
    "km",
    "mm",
    "ft",
    "mi",
    "yd",
    "s",
    "min",
    "h",
    "kg",
    "lb",
    "oz",
    "g",
    "l",
    "mph",
    "hr",
    "cup",
}
_NO_UNITS = frozenset({
    "is", "are", "was", "be", "not", "no", "isn't", "or", "and", "nor", "if", "than", "then", "less", "more",
    "fewer", "greater", "least", "most", "at", "to", "of", "from", "between", "negative", "minus", "plus",
    "times", "over", "divided", "by", "squared", "cubed", "half", "halves", "third", "thirds", "quarter",
    "quarters", "fourth", "fourths", "fifth", "fifths", "tenth", "tenths", "factorial", "root", "roots",
    "square-root", "pi", "but", "else", "either", "mod", "modulo", "maybe", "perhaps", "possibly", "wrong",
    "incorrect", "e", "i",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Answer:
    """A final answer as it was read. ``parts`` are Answers (a matrix: rows of them); ``mark`` is a group's brackets,
    a quantity's unit, a number's base, a relation's operators."""

    kind: str
    text: str
    parts: tuple[Any, ...] = ()
    mark: str = ""


def read(text: str, level: int = 0) -> Answer:
    """A normal form as an Answer. What is nothing else is an expression."""
    if level > _MAX_LEVEL:
        raise LimitError("brackets too deep")
    if rational(text) is not None:
        return Answer("number", text)
    if "\\dollar" in text and rational(text.replace("\\dollar", "", 1).strip()) is not None:
        return _read_quantity(text, level) or Answer("expression", text)  # before its commas make a list of it
    if text == r"\mathbb{R}":
        text = r"(-\infty,\infty)"
    if matrix := _MATRIX.match(text):
        rows = tuple(
            tuple(read(cell, level + 1) for cell in split(row, "&"))
            for row in split(matrix[2], r"\\")
            if row.strip(r"\hline ")
        )
        kind = "determinant" if matrix[1].startswith(("v", "V")) else "matrix"
        return Answer(kind, text, rows)
    if TIME.match(text):
        return Answer("text", text)
    if based := _BASED.match(text) or _BASE_WORD.match(text):
        digits, base = (based[1] + based[2], based[3]) if len(based.groups()) == 3 else (based[1], based[2])
        base = str(NUMBER_WORDS.get(base, base))
        if base.isdigit() and any(c.isdigit() for c in digits + "A"):
            return Answer("based", digits.lower().lstrip("0") or "0", mark=base)
    pieces = split(text, r"\cup")
    if len(pieces) > 1:
        return Answer("union", text, tuple(read(piece, level + 1) for piece in pieces))
    pieces = _members(text)
    if len(pieces) > 1:
        return Answer("list", text, tuple(part for piece in pieces for part in _plus_minus(piece, level)))
    relation = _read_relation(text, level)
    if relation is not None:
        return relation
    group = _read_group(text, level)
    if group is not None:
        return group
    words = _read_text(text)
    if words is not None:
        return words
    quantity = _read_quantity(text, level)
    if quantity is not None:
        return quantity
    if _PLUS_MINUS.search(text):
        return Answer("list", text, _plus_minus(text, level))
    return Answer("expression", text)


def split(text: str, separator: str) -> list[str]:
    """Parts between separators outside of brackets and environments; interval brackets of either kind match."""
    parts, depth, start, i = [], 0, 0, 0
    while i < len(text):
        if depth == 0 and text.startswith(separator, i):
            following = text[i + len(separator) : i + len(separator) + 1]
            if not (separator[0] == "\\" and separator[-1].isalpha() and following.isalpha()):
                parts.append(text[start:i])
                start = i = i + len(separator)
                continue
        if text.startswith((r"\begin", r"\{", r"\langle", r"\lfloor", r"\lceil"), i):
            depth += 1
            i += 2
        elif text.startswith((r"\end", r"\}", r"\rangle", r"\rfloor", r"\rceil"), i):
            depth -= 1
            i += 2
        elif text[i] == "\\":
            i += 2
        else:
            depth += (text[i] in _OPEN) - (text[i] in _CLOSE)
            i += 1
    return [*parts, text[start:]] if depth == 0 else [text]


def _members(text: str) -> list[str]:
    """What stands between commas, semicolons, "and" and "or"."""
    if _CONJUNCTION.search(text):
        text = re.sub(r",?\x00,?", ",", _CONJUNCTION.sub("\x00", text))
    pieces = [piece.strip() for part in split(text, ";") for piece in split(part, ",")]
    if len(pieces) > MAX_PARTS:
        raise LimitError("a list of too many members")
    if (
        len(pieces) == 1
        and (match := re.match(r"^\\text\{([^{}]*)\}$", text))
        and re.search(r",|\band\b|\bor\b", match[1])
    ):
        words = [w.strip() for w in re.split(r",(?: and| or)?|\band\b|\bor\b", match[1])]
        return [rf"\text{{{w}}}" for w in words if w]
    return [piece for piece in pieces if piece] or [text]


_PLUS_MINUS = re.compile(r"\\(pm|mp) ?(?![a-zA-Z])")


def _plus_minus(text: str, level: int) -> tuple[Answer, ...]:
    """Both readings of what holds a ``\\pm``; the one of what does not."""
    if not _PLUS_MINUS.search(text):
        return (read(text, level + 1),)
    readings = []
    for signs in ({"pm": "+", "mp": "-"}, {"pm": "-", "mp": "+"}):
        one = "".join(signs.get(part, part) for part in _PLUS_MINUS.split(text))
        readings.append(read(one.removeprefix("+"), level + 1))
    return tuple(readings)


def _read_relation(text: str, level: int) -> Answer | None:
    operators: list[str] = []
    sides, depth, start, i = [], 0, 0, 0
    while i < len(text):
        if text.startswith((r"\{", r"\begin"), i):
            depth += 1
            i += 2
            continue
        if text.startswith((r"\}", r"\end"), i):
            depth -= 1
            i += 2
            continue
        match = _RELATION.match(text, i) if depth == 0 else None
        if match:
            operators.append(match[0])
            sides.append(text[start:i])
            start = i = match.end()
        else:
            depth += (text[i] in _OPEN) - (text[i] in _CLOSE)
            i += 2 if text[i] == "\\" else 1
    if not operators or depth or len(operators) > 6:
        return None
    sides.append(text[start:])
    if operators[0] == r"\approx" and not sides[0].strip():
        return read(sides[1].strip(), level + 1) if len(sides) == 2 else None
    if not all(side.strip() for side in sides):
        return None
    return Answer("relation", text, tuple(read(side.strip(), level + 1) for side in sides), " ".join(operators))


def _read_group(text: str, level: int) -> Answer | None:
    for opening in _BRACKETS:
        if text.startswith(opening):
            break
    else:
        return None
    for closing in (r"\}", r"\rangle", ")", "]"):
        if text.endswith(closing) and len(text) >= len(opening) + len(closing):
            break
    else:
        return None
    if (opening in "([") != (closing in ")]") or (opening not in "([" and _BRACKETS[opening] != closing):
        return None
    inner = text[len(opening) : len(text) - len(closing)].strip()
    if not inner:
        return Answer("set", text) if opening == r"\{" else None
    depth = 0
    for character in re.sub(r"\\[{}]", "", inner):  # "(1+2)(3)" is no group
        depth += (character in _OPEN) - (character in _CLOSE)
        if depth < 0:
            return None
    pieces = [piece for part in split(inner, ";") for piece in split(part, ",")]
    if len(pieces) > MAX_PARTS:
        raise LimitError("a group of too many parts")
    if not all(piece.strip() for piece in pieces):
        return None
    if opening == r"\{" and (builder := _BUILDER.match(inner)):
        return read(builder[1], level + 1)
    if opening == r"\{":
        return Answer("set", text, tuple(part for piece in pieces for part in _plus_minus(piece.strip(), level + 1)))
    if len(pieces) == 1:
        return read(inner, level + 1) if opening + closing == "()" else None
    brackets = "()" if opening == r"\langle" else opening + closing
    return Answer("group", text, tuple(read(piece.strip(), level + 1) for piece in pieces), brackets)


def _read_text(text: str) -> Answer | None:
    """Words, if there is nothing but words; a bare word counts from four letters on."""
    inside = TEXT_ONLY.sub(r"\1", text)
    if "\\text{" in text and "\\" not in inside and "{" not in inside and (not inside[:1].isdigit() or "_" in inside):
        return Answer("text", inside)
    if re.fullmatch(r"[A-Za-z][A-Za-z ,.'!-]*", text) and re.search(r"[A-Za-z]{4}", text):
        return Answer("text", text)
    return None


def _read_quantity(text: str, level: int) -> Answer | None:
    """A value with a unit."""
    if "\\dollar" in text:
        value = text.replace("\\dollar", "", 1).strip()
        inner = read(value, level + 1)
        if inner.kind == "quantity" and inner.mark != "$" and not _RATE.match(inner.mark):
            return None
        return Answer("quantity", text, (inner.parts[0] if inner.kind == "quantity" else inner,), "$")
    for sign, unit in (("%", "%"), (r"\degree", "degree")):
        if text.endswith(sign) and not re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):
            return Answer("quantity", text, (read(text.removesuffix(sign).strip(), level + 1),), unit)
    match = _WORD_UNIT.match(text)
    if match is None:
        return None
    words = (match[2] if match[2] is not None else match[3]).lower().strip(" .,")
    if match[2] is None and not (words in _UNIT_NAMES or words in _SHORT_UNITS or re.search(r"[a-z]{4}|^per ", words)):
        return None
    if match[2] is None and re.search(r"(?:pi|sqrt|sin|cos|tan|log|frac|theta)", words):
        return None
    if re.search(r"\\[a-zA-Z]*$", match[1]) and not (match[2] is not None and match[1].endswith(r"\pi")):
        return None
    first, _, rest = words.partition(" ")
    if first in _MULTIPLIERS and rational(match[1]) is not None:
        product = Answer("number", str(Fraction(rational(match[1]) or 0) * _MULTIPLIERS[first]))
        return Answer("quantity", text, (product,), _unit(rest, match[4])) if rest else product
    if len(words.split()) > 4 or set(re.split(r"[\s/.]+", words)) & _NO_UNITS:
        return None
    return Answer("quantity", text, (read(match[1], level + 1),), _unit(words, match[4]))


def _unit(words: str, power: str | None) -> str:
    words = " ".join(words.replace(".", " ").split())
    for prefix, exponent in (("square ", "2"), ("sq ", "2"), ("cubic ", "3"), ("cu ", "3")):
        if words.startswith(prefix):
            words, power = words.removeprefix(prefix), exponent
    for suffix, exponent in ((" squared", "2"), (" cubed", "3")):
        if words.endswith(suffix):
            words, power = words.removesuffix(suffix), exponent
    name = _UNIT_NAMES.get(words, words)
    if name == words and len(name) > 3:
        name = name.removesuffix("s")
    return f"{name}^{power}" if power and name else name
