r"""Reads a normal form into the kinds that :mod:`~carerl.grading.math.equivalence` compares: lists, sets, intervals,
matrices, relations, quantities, text. Anything else is an expression; nothing is evaluated here."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from carerl.grading.base import LimitError

from .normal_form import MAX_DIGITS, rational
from .units import multiplier, unit_of
from .words import NUMBER_WORDS, number_in_words

MAX_PARTS = 60
MAX_CELLS = 120
_MAX_LEVEL = 12

_OPEN, _CLOSE = "([{", ")]}"
_BRACKETS = {"(": ")", "[": "]", r"\{": r"\}", r"\langle": r"\rangle"}
_RELATION = re.compile(r"\\(?:le|ge|ne|in|approx|equiv|sim)(?![a-zA-Z])|[<>=]")
_CONJUNCTION = re.compile(
    r"\\text\{(?:,? ?and|,? ?or|;|,)\}|(?<![a-zA-Z\\])(?:and|or)(?![a-zA-Z])|\\(?:lor|vee|land|wedge)(?![a-zA-Z])"
)
_ALTERNATIVE = re.compile(r"\\text\{,? ?or\}|(?<![a-zA-Z\\])or(?![a-zA-Z])|\\(?:lor|vee)(?![a-zA-Z])")
NAME = re.compile(r"^\\?[a-zA-Z]+(?:_\{\w+\})?'?(?:\([a-zA-Z](?:,[a-zA-Z])*\))?$|^\((?:[a-zA-Z],)+[a-zA-Z]\)$")
_CONSTANTS = frozenset({r"\pi", r"\infty", "e", "i"})
_BUILDER = re.compile(r"^[a-zA-Z](?:\\in\\mathbb\{R\})?(?:\||:|\\mid ?|\\colon ?)(.+)$")
_BASED = re.compile(r"^(-?)(?:\\text\{)?([0-9A-Za-z.]+)\}?_\{(?:\\text\{)?(\w+)\}?\}$", re.ASCII)
_BASE_WORD = re.compile(r"^(-?[0-9A-Za-z.]+)(?:\\text\{)?,? ?\(?(?:in )?base ?(\w+)\)?\}?$", re.ASCII)
_MATRIX = re.compile(
    r"^(?P<factor>[^&]*?)(?:\\cdot ?)?(?P<open>[\[(|]?)\\begin\{(?P<name>[pbBvV]?matrix|array|smallmatrix)\}"
    r"(?:\{[clr|]*\})?(?P<rows>.*)\\end\{(?P=name)\}(?P<close>[\])|]?)(?P<turned>\^\{(?:T|\\top|t)\})?$"
)
SCALAR = ("number", "expression")  # kinds that may have a value
TRIGONOMETRIC = r"\\(?:sin|cos|tan|cot|sec|csc)"
GREEK = r"\\(?:pi|theta|alpha|beta|phi|lambda|omega)"
CONSTANT_ADDED = re.compile(r"^(?:(.+)\+([cCkK])|([cCkK])\+(.+))$")  # of an antiderivative
TIME = re.compile(r"^\d+(?::\d+)+")
_WORD_UNIT = re.compile(
    r"^(?P<value>.*?)(?:(?<=[\d})!a-zA-Z.]) ?\\text\{ ?(?P<words>[^{}\d]*?)\.?\}"
    r"|(?:(?<=[\d})!.])|(?<=\\pi) )(?P<bare>[a-zA-Z]{2,}(?:/[a-zA-Z]+)?(?: [a-zA-Z]+){0,7}))"
    r"(?:\^\{(?P<power>[23])\})?$",
    re.ASCII,
)
TEXT_ONLY = re.compile(r"\\text\{([^{}]*)\}")

_UNIT_QUOTIENT = re.compile(
    r"\\frac\{\\text\{([a-zA-Z ]+)\}\}\{\\text\{([a-zA-Z ]+)\}(?:\^\{([23])\})?\}$"
    r"|\\text\{([a-zA-Z ]+)\}/\\text\{([a-zA-Z ]+)\}(?:\^\{([23])\})?$"
    r"|/\\text\{([a-zA-Z ]+)\}$|(?<=\d)/([a-z]{3,})$"
)
_TEMPERATURE = re.compile(r"^(.*?)\\degree ?(?:\\text\{ ?([CFK]|celsius|fahrenheit)\}|([CFK]))$")
_COORDINATES = re.compile(r"[A-Z]{2,}")


@dataclass(frozen=True, slots=True)
class Answer:
    """Holds a final answer as it was read. ``parts`` are Answers (of a matrix: rows of them). ``mark`` is a group's
    brackets, a quantity's unit, a number's base, or a relation's operators."""

    kind: str
    text: str
    parts: tuple[Any, ...] = ()
    mark: str = ""


def is_variable(text: str) -> bool:
    """Returns True if a text is a name, and not the name of a number."""
    return NAME.match(text) is not None and text not in _CONSTANTS


def read(text: str, level: int = 0) -> Answer:
    """Reads a normal form as an Answer. Anything that has no other kind is an expression. Raises LimitError."""
    if level > _MAX_LEVEL:
        raise LimitError("brackets too deep")
    if rational(text) is not None:
        return Answer("number", text)
    if "\\dollar" in text and rational(text.replace("\\dollar", "", 1).strip()) is not None:
        return _read_quantity(text, level) or Answer("expression", text)  # before its commas make a list of it
    if text == r"\emptyset":
        return Answer("set", text)
    if text == r"\mathbb{R}":
        text = r"(-\infty,\infty)"
    if (matrix := _read_matrix(text, level)) is not None:
        return matrix
    if TIME.match(text) and not ("," in text or ";" in text or _CONJUNCTION.search(text)):
        return Answer("text", text)
    if (based := _read_based(text)) is not None:
        return based
    pieces = split(text, r"\cup")
    if len(pieces) > 1:
        return Answer("union", text, tuple(read(piece, level + 1) for piece in pieces))
    pieces = split(text, r"\setminus")
    if len(pieces) == 2 and all(piece.strip() for piece in pieces):
        return Answer("difference", text, tuple(read(piece.strip(), level + 1) for piece in pieces))
    if (several := _read_solutions(text, level)) is not None:
        return several
    pieces, conjunction = _members(text)
    if len(pieces) > 1:
        parts = tuple(part for piece in pieces for part in _plus_minus(piece, level))
        return Answer("list", text, _all_named(parts), conjunction)
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


def _read_based(text: str) -> Answer | None:
    """Reads digits with their base: ``52_8``, ``1010 base 2``, ``ABC_{16}``.

    Letters alone are digits if there are at least two, they are capitals or in a text macro (or of base 16), and each
    is a digit of the base: ``a_{11}`` is a member of a sequence.
    """
    based = _BASED.match(text) or _BASE_WORD.match(text)
    if based is None:
        return None
    digits, base = (based[1] + based[2], based[3]) if len(based.groups()) == 3 else (based[1], based[2])
    base = str(NUMBER_WORDS.get(base, base))
    if not base.isdigit() or len(digits) >= MAX_DIGITS:
        return None
    if not any(c.isdigit() for c in digits):
        written = r"\text{" in text or digits.isupper() or int(base) == 16
        if not (written and 2 <= int(base) <= 36 and re.fullmatch("[a-zA-Z]{2,}", digits)):
            return None
        if any(int(c, 36) >= int(base) for c in digits):
            return None
    return Answer("based", digits.lower().lstrip("0") or "0", mark=base)


def split(text: str, separator: str) -> list[str]:
    """Splits a text at separators outside of brackets and environments; interval brackets of either kind match."""
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


def _read_matrix(text: str, level: int) -> Answer | None:
    """Reads a matrix with any brackets, with a factor before it or turned by ``^T``; a determinant is another kind."""
    if r"\begin" not in text or (matrix := _MATRIX.match(text)) is None or r"\begin" in matrix["rows"]:
        return None
    factor = matrix["factor"]
    if re.search(r"[=<>,;+]|\\(?:in|text|begin)(?![a-zA-Z])|.-$", factor) or factor.count("(") != factor.count(")"):
        return None
    before = f"({factor})" if len(factor) > 1 else factor
    rows = tuple(
        tuple(read(f"{before}({cell.strip()})" if factor else cell, level + 1) for cell in split(row, "&"))
        for row in split(matrix["rows"], r"\\")
        if row.strip(r"\hline ")
    )
    if sum(map(len, rows)) > MAX_CELLS:
        raise LimitError("a matrix of too many entries")
    if matrix["turned"]:
        if len(set(map(len, rows))) != 1:
            return None
        rows = tuple(zip(*rows, strict=True))
    kind = "determinant" if matrix["name"].startswith(("v", "V")) or matrix["open"] == "|" else "matrix"
    return Answer(kind, text, rows)


def _read_solutions(text: str, level: int) -> Answer | None:
    r"""Reads alternatives of several values each, ``a=1, b=2 \text{ or } a=2, b=1``: a list of lists."""
    if text.count("=") < 4 or not ("or" in text or ";" in text or r"\vee" in text):
        return None
    text = re.sub(r",?\x00,?", ";", _ALTERNATIVE.sub("\x00", text))
    pieces = [piece.strip() for piece in split(text, ";") if piece.strip()]
    if len(pieces) < 2 or not all("=" in piece and "," in piece for piece in pieces):
        return None
    parts = [read(piece, level + 1) for piece in pieces]
    for part in parts:
        if part.kind != "list" or any(value.kind != "relation" or value.mark != "=" for value in part.parts):
            return None
        if len({value.parts[0].text for value in part.parts}) < len(part.parts):
            return None
    return Answer("list", text, tuple(parts), "or")


def _all_named(parts: tuple[Answer, ...]) -> tuple[Answer, ...]:
    """Reads ``x=1, 2`` as ``x=1, x=2``: a name before the first of several values belongs to all."""
    first, *others = parts
    if first.kind != "relation" or first.mark != "=" or not NAME.match(first.parts[0].text):
        return parts
    if not all(part.kind in ("number", "expression", "group", "quantity") for part in others):
        return parts
    name = first.parts[0]
    return (first, *(Answer("relation", f"{name.text}={part.text}", (name, part), "=") for part in others))


def _members(text: str) -> tuple[list[str], str]:
    """Splits at commas, semicolons, "and" and "or". Also returns "or" or "and" if one of them separates the members."""
    conjunction = ""
    if found := " ".join(match[0] for match in _CONJUNCTION.finditer(text)):
        conjunction = "or" if re.search("or|vee", found) else "and" if re.search("and|wedge", found) else ""
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
        return [rf"\text{{{w}}}" for w in words if w], "or" if re.search(r"\bor\b", match[1]) else ""
    return [piece for piece in pieces if piece] or [text], conjunction


_PLUS_MINUS = re.compile(r"\\(pm|mp) ?(?![a-zA-Z])")


def _plus_minus(text: str, level: int) -> tuple[Answer, ...]:
    r"""Returns both readings of a text that holds a ``\pm``, or the one reading of any other."""
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
    if opening == r"\{" and not _BUILDER.match(inner):
        inner = re.sub(r",?\x00,?", ",", _CONJUNCTION.sub("\x00", inner))
    pieces = [piece for part in split(inner, ";") for piece in split(part, ",")]
    if len(pieces) > MAX_PARTS:
        raise LimitError("a group of too many parts")
    if not all(piece.strip() for piece in pieces):
        return None
    if opening == r"\{" and (builder := _BUILDER.match(inner)):
        return read(builder[1], level + 1)
    if opening == r"\{":
        return Answer("set", text, tuple(part for piece in pieces for part in _plus_minus(piece.strip(), level + 1)))
    if len(pieces) == 1 and opening + closing in ("()", r"\langle\rangle"):
        return read(inner, level + 1)  # [5] is a list of one, or a floor: not 5
    brackets = "()" if opening == r"\langle" else opening + closing
    return Answer("group", text, tuple(read(piece.strip(), level + 1) for piece in pieces), brackets)


def _read_text(text: str) -> Answer | None:
    """Reads a text that is nothing but words. A number in words is a number; other bare words count from four letters
    on, and capitals in a row are points ("CD" is not "DC")."""
    inside = TEXT_ONLY.sub(r"\1", text)
    if (number := _number_in_words(inside)) is not None:
        return number
    if "\\text{" in text and "\\" not in inside and "{" not in inside and (not inside[:1].isdigit() or "_" in inside):
        return Answer("text", inside)
    if _COORDINATES.fullmatch(text):
        return Answer("text", text)
    if re.fullmatch(r"[A-Za-z][A-Za-z ,.'!-]*", text) and re.search(r"[A-Za-z]{4}", text):
        return Answer("text", text)
    return None


def _number_in_words(text: str) -> Answer | None:
    if not re.fullmatch(r"[A-Za-z][A-Za-z -]{1,80}", text):
        return None
    words = text.lower().removeprefix("negative ")
    value = number_in_words(words)
    return None if value is None else Answer("number", str(-value if words != text.lower() else value))


def _read_quantity(text: str, level: int) -> Answer | None:
    """Reads a value with a unit (:mod:`~carerl.grading.math.units`)."""
    if "\\dollar" in text:
        value = text.replace("\\dollar", "", 1).strip()
        rate = _RATE.search(value)
        inner = read(value[: rate.start()] if rate else value, level + 1)
        if inner.kind == "quantity" and inner.mark != "$":
            return None
        return Answer("quantity", text, (inner.parts[0] if inner.kind == "quantity" else inner,), "$")
    if text.endswith("%"):
        return Answer("quantity", text, (read(text.removesuffix("%").strip(), level + 1),), "%")
    if temperature := _TEMPERATURE.match(text):
        name = (temperature[2] or temperature[3])[0].upper()
        return Answer("quantity", text, (read(temperature[1].strip(), level + 1),), f"degree {name}")
    if text.endswith(r"\degree") and not re.search(TRIGONOMETRIC, text):
        return Answer("quantity", text, (read(text.removesuffix(r"\degree").strip(), level + 1),), "degree")
    text = _UNIT_QUOTIENT.sub(_quotient_in_words, text)
    match = _WORD_UNIT.match(text)
    if match is None:
        return None
    value, words, power = match["value"].strip(), match["words"], match["power"] or ""
    bare = words is None
    words = (match["bare"] if bare else words).strip(" .,")
    words = words.lower() if len(words) > 1 else words
    if bare and re.search(r"\b(?:pi|sqrt|sin|cos|tan|log|ln|frac|theta|infty)\b", words):
        return None
    if re.search(r"\\[a-zA-Z]*$", value) and not re.search(GREEK + "$", value):
        return None
    exact = rational(value)
    first, _, rest = words.partition(" ")
    if exact is not None and (factor := multiplier(first)) is not None and not power:
        product = Answer("number", str(exact * factor))
        unit = unit_of(rest.removeprefix("of ")) if rest else None
        if unit is None:
            return None if rest else product
        return Answer("quantity", text, (product,), unit)
    unit = unit_of(words, power, single=exact is not None and abs(exact) <= 1)
    return None if unit is None else Answer("quantity", text, (read(value, level + 1),), unit)


_RATE = re.compile(r"(?:/|\\text\{ ?(?:per|a|an|each|every) )[^\d]*$|(?<=\d)(?:per|each|every|an?) [a-z ]+$")


def _quotient_in_words(match: re.Match[str]) -> str:
    groups = [g for g in match.groups() if g is not None]
    if len(groups) == 1:  # /day
        return rf"\text{{per {groups[0]}}}"
    power = f"^{{{groups[2]}}}" if len(groups) > 2 else ""
    return rf"\text{{{groups[0].strip()}/{groups[1].strip()}}}{power}"
