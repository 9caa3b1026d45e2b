r"""Whether two final answers mean the same: structure first, then the value of each part.

An answer is read into one of these kinds, and kinds are not mixed unless the table says so:

=========== ============================== ==============================================================
kind        written                        equal when
=========== ============================== ==============================================================
number      ``7/4  1,234  3\frac12``       same rational
expression  ``2\pi - 4``                   same value (:mod:`~carerl.tasks.grading.expressions`)
quantity    ``10\text{ cm}  50\%  \$5``    same unit, or one of them without a unit, and same value
based       ``52_8``                       same digits and same base; never a number without a base
list        ``-2, 2   1 \text{ or } 3``    same members in any order, as often as they occur
set         ``\{1, 2\}``                   same members in any order; a list may stand for a set
group       ``(1,2)  [0,1)``               same brackets, same parts in order; ``1,2`` may stand for ``(1,2)``
union       ``[0,1) \cup (2,3)``           same set of real numbers
matrix      ``\begin{pmatrix}...``         same shape, same entries; the kind of brackets does not matter
relation    ``y = 2x+3   x < 5``           same relation up to a factor; ``x = 5`` may stand for ``5``
text        ``\text{Monday}  8:34 p.m.``   same words but for case, articles and punctuation
=========== ============================== ==============================================================

[ours] Decisions where usage is divided:

- Percent: ``50\%``, ``50`` and ``0.5`` are accepted for the gold answer ``50\%``; ``50\%`` for the gold answers ``50``
  and ``0.5``. Golds of MATH and GSM8K for "what percent" come with and without the sign (47 of MATH's 12,500 with it).
- A unit may be left out or added, never exchanged: ``5`` for ``5`` cm, not ``5`` m nor ``5`` cm².
- Decimals are exact: 0.333 is not 1/3, 3.14 is not pi. ``A \approx B`` is A or B where the two agree to 1 %.
- ``x = 5`` is not ``y = 5``. Brackets count: ``[0,1)`` is not ``[0,1]``, ``(1,2)`` not ``(2,1)``, not ``\{1,2\}``.
- An inequality equals an interval only where the interval cannot be taken for a point (``(1,2)`` can).
- A ``\pm`` is a list of both. An alternative such as ``5 \text{ or } 7`` is a list, so it is not 5.
- Any spelling of an equal value is right: ``2\cdot 5`` for 10, an unfactored polynomial for a factored one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from .base import LimitError
from .normal_form import MAX_ANSWER, normalise, rational

MAX_PARTS = 60
_MAX_LEVEL = 12

_LISTED = re.compile(r"^\d{1,3}(?:[,;]\d{3})+$", re.ASCII)
_OPEN, _CLOSE = "([{", ")]}"
_BRACKETS = {"(": ")", "[": "]", r"\{": r"\}", r"\langle": r"\rangle"}
_RELATION = re.compile(r"\\(?:le|ge|ne|in|approx|equiv|sim)(?![a-zA-Z])|[<>=]")
_CONJUNCTION = re.compile(
    r"\\text\{(?:,? ?and|,? ?or|;|,)\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])|\\(?:lor|vee|land|wedge)(?![a-zA-Z])"
)
_NAME = re.compile(r"^\\?[a-zA-Z]+(?:_\{\w+\})?'?(?:\([a-zA-Z](?:,[a-zA-Z])*\))?$")
_BASED = re.compile(r"^(-?)(?:\\text\{)?([0-9A-Za-z.]+)\}?_\{(?:\\text\{)?(\w+)\}?\}$", re.ASCII)
_BASE_WORD = re.compile(r"^(-?[0-9A-Za-z.]+)(?:\\text\{)?,? ?\(?(?:in )?base ?(\w+)\)?\}?$", re.ASCII)
_MATRIX = re.compile(r"^\\begin\{([pbBvV]?matrix|array|smallmatrix)\}(?:\{[clr|]*\})?(.*)\\end\{\1\}$")
_TIME = re.compile(r"^\d+(?::\d+)+")
_WORD_UNIT = re.compile(
    r"^(.*?[\d})!a-z])(?:\\text\{ ?([^{}\d]*?)\.?\}|(?<![a-zA-Z])([a-zA-Z]{2,}(?: [a-zA-Z]+){0,3}))(?:\^\{([23])\})?$",
    re.ASCII,
)
_TEXT_ONLY = re.compile(r"\\text\{([^{}]*)\}")

_NUMBERS = "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen"
_NUMBER_WORDS = {word: str(k) for k, word in enumerate(_NUMBERS.split(" "))}
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
_SHORT_UNITS = {"cm", "m", "km", "mm", "ft", "mi", "yd", "s", "min", "h", "kg", "lb", "oz", "g", "l", "mph", "hr"}
_NO_UNITS = frozenset({
    "is", "are", "was", "be", "not", "no", "isn't", "or", "and", "nor", "if", "than", "then", "less", "more",
    "fewer", "greater", "least", "most", "at", "to", "of", "from", "between", "negative", "minus", "plus",
    "times", "over", "divided", "by", "squared", "cubed", "half", "halves", "third", "thirds", "quarter",
    "quarters", "fourth", "fourths", "fifth", "fifths", "tenth", "tenths", "factorial", "root", "roots",
    "square-root", "pi", "but", "else", "either", "mod", "modulo", "maybe", "perhaps", "possibly", "wrong",
    "incorrect", "e", "i",
})  # fmt: skip
_ARTICLES = re.compile(r"\b(?:the|a|an)\b ?")


@dataclass(frozen=True, slots=True)
class Answer:
    """A final answer as it was read. ``parts`` are Answers (a matrix: rows of them); ``mark`` is a group's brackets,
    a quantity's unit, a number's base, a relation's operators."""

    kind: str
    text: str
    parts: tuple[Any, ...] = ()
    mark: str = ""


def equivalent(answer: str, gold: str) -> bool:
    """Whether ``answer`` means what ``gold`` means. Raises LimitError if that would take too large a computation.

    Not symmetric where the gold answer says more than the answer must: see the table above for what may stand for what.
    """
    one, other = normalise(answer), normalise(gold)
    if not one or not other:
        return False
    if one == other:
        return True
    left, right = rational(one), rational(other)
    if left is not None and right is not None:
        return left == right or _alternative_reading(one, other)
    if len(one) > 2 * MAX_ANSWER or len(other) > 2 * MAX_ANSWER:
        raise LimitError("an answer too long")
    return _same(read(one), read(other)) or _alternative_reading(one, other)


def _alternative_reading(one: str, other: str) -> bool:
    """``100,200`` is a number with a thousands separator; beside ``100, 200`` it is a list."""
    if not _LISTED.match(one) or not _LISTED.match(other):
        return False
    lists = [re.split("[,;]", text) for text in (one, other)]
    return len(lists[0]) == len(lists[1]) > 1 and sorted(lists[0]) == sorted(lists[1])


# ---------------------------------------------------------------------------------------------------- reading


def read(text: str, level: int = 0) -> Answer:
    """A normal form as an Answer. What is nothing else is an expression."""
    if level > _MAX_LEVEL:
        raise LimitError("brackets too deep")
    if rational(text) is not None:
        return Answer("number", text)
    if matrix := _MATRIX.match(text):
        rows = tuple(
            tuple(read(cell, level + 1) for cell in split(row, "&"))
            for row in split(matrix[2], r"\\")
            if row.strip(r"\hline ")
        )
        kind = "determinant" if matrix[1].startswith(("v", "V")) else "matrix"
        return Answer(kind, text, rows)
    if _TIME.match(text):
        return Answer("text", text)
    if based := _BASED.match(text) or _BASE_WORD.match(text):
        digits, base = (based[1] + based[2], based[3]) if len(based.groups()) == 3 else (based[1], based[2])
        base = str(_NUMBER_WORDS.get(base, base))
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
    if opening == r"\{":
        return Answer("set", text, tuple(part for piece in pieces for part in _plus_minus(piece.strip(), level + 1)))
    if len(pieces) == 1:
        return read(inner, level + 1) if opening + closing == "()" else None
    brackets = "()" if opening == r"\langle" else opening + closing
    return Answer("group", text, tuple(read(piece.strip(), level + 1) for piece in pieces), brackets)


def _read_text(text: str) -> Answer | None:
    """Words, if there is nothing but words; a bare word counts from four letters on."""
    inside = _TEXT_ONLY.sub(r"\1", text)
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
        if inner.kind == "quantity" and inner.mark != "$":
            return None
        return Answer("quantity", text, (inner.parts[0] if inner.kind == "quantity" else inner,), "$")
    for sign, unit in (("%", "%"), (r"\degree", "degree")):
        if text.endswith(sign) and not re.search(r"\\(?:sin|cos|tan|cot|sec|csc)", text):
            return Answer("quantity", text, (read(text.removesuffix(sign).strip(), level + 1),), unit)
    match = _WORD_UNIT.match(text)
    if match is None:
        return None
    words = (match[2] if match[2] is not None else match[3]).lower().strip(" .,")
    if match[2] is None and not (words in _UNIT_NAMES or words in _SHORT_UNITS or re.search(r"[a-z]{4}", words)):
        return None
    if match[2] is None and re.search(r"(?:pi|sqrt|sin|cos|tan|log|frac|theta)", words):
        return None
    if re.search(r"\\[a-zA-Z]*$", match[1]):
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


# --------------------------------------------------------------------------------------------------- comparing


def _same(a: Answer, g: Answer) -> bool:
    if a.kind == g.kind == "number":
        return rational(a.text) == rational(g.text)
    if "relation" in (a.kind, g.kind):
        return _same_relation(a, g)
    if "quantity" in (a.kind, g.kind):
        return _same_quantity(a, g)
    if "text" in (a.kind, g.kind):
        return _words(a) == _words(g) != ""
    if "based" in (a.kind, g.kind):
        return a.kind == g.kind and (a.text, a.mark) == (g.text, g.mark)
    if "union" in (a.kind, g.kind):
        return _same_union(a, g)
    if {a.kind, g.kind} <= {"list", "set"}:
        return _same_members(a, g)
    if a.kind == g.kind == "group":
        return a.mark == g.mark and _in_order(a.parts, g.parts)
    if a.kind == "list" and g.kind == "group":
        return g.mark == "()" and r"\infty" not in g.text and _in_order(a.parts, g.parts)
    if "matrix" in (a.kind, g.kind):
        return a.kind == g.kind and len(a.parts) == len(g.parts) and all(map(_in_order, a.parts, g.parts))
    if {a.kind, g.kind} <= {"number", "expression"}:
        return _same_value(a, g)
    return False


def _in_order(a: tuple[Answer, ...], g: tuple[Answer, ...]) -> bool:
    return len(a) == len(g) and all(map(_same, a, g))


def _same_value(a: Answer, g: Answer) -> bool:
    from .expressions import parse, same  # sympy takes seconds to load; most answers do without

    return same(parse(a.text), parse(g.text))


def _same_members(a: Answer, g: Answer) -> bool:
    """One to one. Where one of them is a set, equal members count once. Words in a row have an order."""
    left, right = list(a.parts), list(g.parts)
    if a.kind == g.kind == "list" and all(p.kind == "text" and len(p.text) > 1 for p in left + right):
        return _in_order(a.parts, g.parts)
    if "set" in (a.kind, g.kind):
        left, right = _distinct(left), _distinct(right)
    if len(left) != len(right):
        return False
    for member in left:
        match = next((k for k, other in enumerate(right) if _same(member, other)), None)
        if match is None:
            return False
        del right[match]
    return True


def _distinct(parts: list[Answer]) -> list[Answer]:
    found: list[Answer] = []
    for part in parts:
        if not any(_same(part, other) for other in found):
            found.append(part)
    return found


def _same_quantity(a: Answer, g: Answer) -> bool:
    (left, one), (right, other) = ((x.parts[0], x.mark) if x.kind == "quantity" else (x, "") for x in (a, g))
    if one and other:
        return one == other and _same(left, right)
    if _same(left, right):
        return True
    if "%" in (one, other):
        hundredth = Answer("expression", rf"\frac{{{left.text if one else right.text}}}{{100}}")
        return (
            _same_value(hundredth, right if one else left) if left.kind in _SCALAR and right.kind in _SCALAR else False
        )
    return False


_SCALAR = ("number", "expression")


def _words(answer: Answer) -> str:
    r"""Text without case, articles and punctuation; "" for what holds mathematics."""
    text = _TEXT_ONLY.sub(r"\1", answer.text)
    if answer.kind not in ("text", "number", "expression") or "\\" in text:
        return ""
    if _TIME.match(text):
        return re.sub(r"(?<!\d)0+(?=\d:)", "", text.lower()).replace(" ", "")
    letters = text.strip(" ().,")
    if len(letters) == 1:
        return letters
    text = re.sub(r"[().,!'\"]", "", text.lower())
    text = _ARTICLES.sub("", text) if " " in text else text
    text = "".join(text.split())
    return str(_NUMBER_WORDS.get(text, text))


def _same_relation(a: Answer, g: Answer) -> bool:
    if a.kind == g.kind == "relation":
        return _same_relations(a, g)
    relation, other = (a, g) if a.kind == "relation" else (g, a)
    operators = relation.mark.split()
    first, last = relation.parts[0], relation.parts[-1]
    if set(operators) == {r"\in"} and len(operators) == 1:
        return _NAME.match(first.text) is not None and other.kind in ("group", "set", "union") and _same(last, other)
    if set(operators) <= {"=", r"\approx"}:
        sides = list(relation.parts[1:] if _NAME.match(first.text) else relation.parts)
        if not _consistent(sides, operators[-(len(sides) - 1) :] if len(sides) > 1 else []):
            return False
        if _NAME.match(first.text) is None and any(_symbols(side) for side in sides):
            return False
        return any(_same(side, other) if relation is a else _same(other, side) for side in sides)
    if other.kind in ("group", "union"):
        interval = _interval(relation)
        return interval is not None and _certain_interval(other) and _same(interval, other)
    return False


def _symbols(side: Answer) -> bool:
    from .expressions import parse

    if side.kind == "quantity":
        side = side.parts[0]
    if side.kind == "number":
        return False
    if side.kind != "expression":
        return True
    value = parse(side.text)
    return value is None or bool(value.free_symbols)


def _consistent(sides: list[Answer], operators: list[str]) -> bool:
    """Whether a chain of equal signs claims nothing false: ``5 = 7`` is no way to say both."""
    from .expressions import parse

    for one, other, operator in zip(sides, sides[1:], operators, strict=False):
        if operator == "=":
            if not _same(one, other):
                return False
            continue
        values = [parse((s.parts[0] if s.kind == "quantity" else s).text) for s in (one, other)]
        if any(v is None or v.free_symbols for v in values):
            return False
        near = [complex(v.evalf(30)) for v in values]
        if abs(near[0] - near[1]) > 0.01 * max(abs(near[0]), abs(near[1])):
            return False
    return True


_FLIPPED = {">": "<", r"\ge": r"\le"}


def _same_relations(a: Answer, g: Answer) -> bool:
    (left, one), (right, other) = _oriented(a), _oriented(g)
    if left == right and len(one) == len(other):
        if _NAME.match(one[0].text) and _NAME.match(other[0].text) and left[0] in ("=", r"\in"):
            if one[0].text == other[0].text:
                return _in_order(one[1:], other[1:]) or (left[0] == "=" and _same(one[-1], other[-1]))
        elif _in_order(one, other) or (left == ["="] and _in_order(one, other[::-1])):
            return True
        if len(left) == 1 and left[0] in ("=", r"\ne", "<", r"\le") and all(p.kind in _SCALAR for p in one + other):
            from .expressions import parse, proportional

            values = [parse(p.text) for p in (*one, *other)]
            if None in values:
                return False
            return proportional(values[0] - values[1], values[2] - values[3], left[0] in ("<", r"\le"))
    elif set(left) == set(right) == {"="} and one[0].text == other[0].text:
        return _same(one[-1], other[-1])
    return False


def _oriented(relation: Answer) -> tuple[list[str], tuple[Answer, ...]]:
    operators = relation.mark.split()
    if all(o in _FLIPPED for o in operators):
        return [_FLIPPED[o] for o in reversed(operators)], relation.parts[::-1]
    return operators, relation.parts


def _interval(relation: Answer) -> Answer | None:
    """``1 < x \\le 2`` as ``(1,2]``."""
    operators, sides = _oriented(relation)
    infinity = Answer("expression", r"\infty")
    if set(operators) - {"<", r"\le"}:
        return None
    if len(sides) == 3 and _NAME.match(sides[1].text):
        mark = ("(" if operators[0] == "<" else "[") + (")" if operators[1] == "<" else "]")
        return Answer("group", relation.text, (sides[0], sides[2]), mark)
    if len(sides) == 2 and _NAME.match(sides[0].text):
        return Answer(
            "group", relation.text, (Answer("expression", r"-\infty"), sides[1]), "()" if operators == ["<"] else "(]"
        )
    if len(sides) == 2 and _NAME.match(sides[1].text):
        return Answer("group", relation.text, (sides[0], infinity), "()" if operators == ["<"] else "[)")
    return None


def _certain_interval(answer: Answer) -> bool:
    return answer.kind == "union" or answer.mark != "()" or r"\infty" in answer.text


def _same_union(a: Answer, g: Answer) -> bool:
    """As sets of real numbers."""
    import sympy

    from .expressions import parse

    def subset(answer: Answer) -> Any:
        if answer.kind == "union":
            return sympy.Union(*map(subset, answer.parts))
        if answer.kind not in ("group", "set"):
            raise ValueError(answer.text)
        members = [parse(p.text) for p in answer.parts if p.kind in _SCALAR]
        if len(members) != len(answer.parts) or any(m is None or not m.is_extended_real for m in members):
            raise ValueError(answer.text)
        if answer.kind == "set":
            return sympy.FiniteSet(*members)
        if len(members) != 2:
            raise ValueError(answer.text)
        return sympy.Interval(*members, answer.mark[0] == "(", answer.mark[1] == ")")

    try:
        return bool(subset(a) == subset(g))
    except (ValueError, TypeError, NotImplementedError):
        left, right = (x.parts if x.kind == "union" else (x,) for x in (a, g))
        return _same_members(Answer("set", "", left), Answer("set", "", right))
