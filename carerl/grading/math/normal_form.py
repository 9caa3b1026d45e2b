r"""Brings a final answer to a normal form: notations without mathematical meaning go, everything else stays.

Pure string work in bounded time; only rational numbers are evaluated. ``normalise`` keeps what may matter (units,
percent and degree signs, ``x =``, the kind of brackets). ``canonical`` also drops units and definitions and reduces
fractions, so that the votes for one answer are one string. Equality of meaning is decided in
:mod:`~carerl.grading.math.equivalence`.
"""

from __future__ import annotations

import re
from fractions import Fraction

from .characters import ascii_signs
from .notation import opening_brace, plain_notation, rules, substituted, unwrapped, without_lead
from .ornaments import without_marks, without_ornaments
from .unit_notation import full_hour, money_signs, plain_units

MAX_ANSWER = 500  # characters of an answer; a longer one is no answer
MAX_DIGITS = 500  # of each integer in a number

_A = re.ASCII  # other alphabets' digits are not read as numbers
_MATH_MODE = re.compile(r"\\\(|\\\)|\\\[(?![\d.]+\s*(?:pt|em|ex|mm|cm)\])|(?<!\\)\\\]|(?<!\\)\$")
_THIN = re.compile(r"(?<!\\)\\(?:[,:;!> ]|q?quad(?![a-zA-Z]))|(?<!\\)~")
_SIZE = re.compile(r"\\(?:left|right|[bB]igg?[lrm]?|displaystyle|textstyle|limits)(?![a-zA-Z])\.?")
_PHANTOM = re.compile(r"\\[hv]?phantom\s*(?:\{[^{}]*\}|-|\w)|\\hspace\*?\{[^{}]*\}")
_GROUPED = re.compile(r"(?<=\d)(?:\{,\}|,\s*\\!)\s*(?=\d{3}(?!\d))|(?<=\d)\\[,!]\s*(?=\d{3}(?!\d))", _A)
_LISTED = re.compile(r"(?<=\d),(?:\s|\\[;: ])+(?=\d{3}(?!\d))", _A)  # "81, 256" is a list, "81,256" a number
_BESIDE = re.compile(  # x=1 \quad x=2
    r"(?<=[\w)}\]])\s*(?:\\q?quad(?![a-zA-Z])|\\\\)\s*(?=\([^()]+,[^()]+\)|[a-zA-Z](?:_\{?\w\}?)?\s*=)(?!.*\\end)"
)
_TEXT = re.compile(r"\\(?:text|mbox|hbox|textrm|textbf|textit|texttt|mathrm|mathbf|mathit|textnormal|emph|operatorname)"
                   r"\s*\{([^{}]*)\}")  # fmt: skip
_FONT = re.compile(
    r"\\(?:text[a-z]*|math[a-z]{2}|mbox|bold(?:symbol)?)\s*\{\s*([-+]?[\d.,/]+)\s*\}", _A
)  # a font for a number
_FRACTION_NAMES = re.compile(r"\\[dtc]frac(?![a-zA-Z])")
_SHORT_ROOT = re.compile(r"\\sqrt\s*(\d+|[a-zA-Z])", _A)  # of all its digits: nobody writes a root of 1 before a 4
_ROOT_SIGN = re.compile(r"√\s*(?:(\d+(?:\.\d+)?|[a-zA-Z])|\(([^()]*)\))", _A)
_PLAIN_EXPONENT = re.compile(r"\^\s*(-?\d+|\((-?\d+)\))", _A)
_SHORT_SCRIPT = re.compile(r"([_^])\s*(\w|\\circ(?![a-zA-Z]))", _A)
_DEGREES = re.compile(r"\^\s*\{\s*\\circ\s*\}|\^\s*\\circ(?![a-zA-Z])|\\degrees?(?![a-zA-Z])")
_MIXED = re.compile(r"(?<![\d./^_}])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d/])", _A)
_BETWEEN_DIGITS = re.compile(r"(?<=[\d.])\s+(?=[\d.])", _A)
_SPACED_THOUSANDS = re.compile(r"^[-+]?\d{1,3}(?: \d{3})+(?:\.\d+)?$", _A)
_THOUSANDS = re.compile(r"^(?:[-+]?\d{1,3}(?:,\d{3})+)(?:\.\d+)?$", _A)
_THOUSANDS_OF = re.compile(r"^[-+]?\d{1,3}(?:,\d{3})+(?:\.\d+)?(?=\s*(?:\\text|\\%|%|[a-zA-Z]{2})[^,;]*$)", _A)
_DEFINED = re.compile(r"^\\?[a-zA-Z]+(?:\([a-zA-Z]\))?(?:=|\\in(?![a-zA-Z]))")
_FUNCTIONS = re.compile(
    r"\\(?:operatorname|mathrm|text)\s*\{\s*(sin|cos|tan|cot|sec|csc|log|ln|arcsin|arccos|arctan|gcd|lcm|max|min)\s*\}"
)

_DECIMAL = r"(?:\d+(?:\.\d*)?|\.\d+)"
_NUMBER = re.compile(rf"^([-+]?)({_DECIMAL})$", _A)
_SCIENTIFIC = re.compile(rf"^([-+]?)({_DECIMAL})[eE]([-+]?\d{{1,2}})$", _A)  # of programs; 3e2 is no product with e
_RATIO = re.compile(rf"^([-+]?)({_DECIMAL})/({_DECIMAL})$", _A)
_LATEX_RATIO = re.compile(rf"^([-+]?)(\d*)\\frac\{{([-+]?)({_DECIMAL})\}}\{{([-+]?)({_DECIMAL})\}}$", _A)
_PLAIN_NUMBER = re.compile(r"^-?(?:0|[1-9]\d*)$", _A)


def normalise(answer: str) -> str:
    r"""Returns the normal form; idempotent. Text stays in ``\text{...}`` (lower case except single letters, no spaces).

    >>> normalise(r"$\left( 3, \dfrac{\pi}2 \right)$.")
    '(3,\\frac{\\pi}{2})'
    """
    text = answer[: 2 * MAX_ANSWER].strip()
    if _PLAIN_NUMBER.match(text):
        return text
    for _ in range(4):  # a step may lay bare what an earlier one treats: $\text{5.}$
        before, text = text, _once(text)
        if text == before:
            break
    return text


def _once(text: str) -> str:
    text = without_ornaments(text.strip())
    if "\\" in text:
        text = money_signs(text)
    if not text.isascii():
        text = ascii_signs(_ROOT_SIGN.sub(lambda m: rf"\sqrt{{{m[1] or m[2]}}}", text)).strip()
    text = without_ornaments(text.strip("`* \t\r\n"))
    if (brace := opening_brace(text)) >= 0:
        text = unwrapped(text, closing_brace(text, brace))
    text = plain_units(plain_notation(text))
    text = text.replace(r"\$", r"\dollar ")
    plain = "\\" not in text
    if not plain or ("$" in text and not (text.startswith("$") and text.count("$") == 1)):
        text = _MATH_MODE.sub("", text)
    if text.startswith("$"):
        text = r"\dollar " + text[1:]
    text = text.strip("`* \t\r\n")
    if text.endswith(("m", "M", "m.", "M.")):
        text = _CLOCK.sub(lambda m: rf"\text{{{m[1].lower()}m}}", text)
    while text.endswith((".", ",", ";")) and not text.endswith(("\\,", "\\;", "...")):
        text = without_marks(text[:-1])
    text = substituted(text, _SPELLINGS).lstrip("=")
    text = substituted(without_lead(substituted(text, _WORDS)), _SPACED)
    if plain and "^" in text:
        text = _PLAIN_EXPONENT.sub(lambda m: f"^{{{m[2] or m[1]}}}", text)
    if not plain:
        text = braced_fractions(_SHORT_ROOT.sub(r"\\sqrt{\1}", text))
    text = substituted(text, _SCRIPTS)
    if " " in text or not text.isprintable():
        text = _spaces(_BETWEEN_DIGITS.sub("\x01", text)).replace("\x01", " ")
        if _SPACED_THOUSANDS.match(text):
            text = text.replace(" ", "")
    while len(text) > 1 and text[0] == "{" and closing_brace(text, 0) == len(text) - 1:
        text = text[1:-1]
    text = full_hour(_MEANT.get(text.lower(), text))
    return text.removeprefix("+") if _NUMBER.match(text) else text


_SPELLINGS = rules(
    (r"quad \\", _BESIDE, "; "),
    (r"\ {,}", _GROUPED, ""),
    (",", _THOUSANDS_OF, lambda m: m[0].replace(",", "")),
    (",", _LISTED, ";"),
    ("\\", _SIZE, ""),
    ("phantom hspace", _PHANTOM, ""),
    (r"\operatorname \mathrm \text", _FUNCTIONS, r"\\\1 "),
    ("frac", _FRACTION_NAMES, r"\\frac"),
    (r"\circ \degree", _DEGREES, r"\\degree "),
    ("/", _MIXED, r"\1\\frac{\2}{\3}"),
    (r"\text \math \mbox \bold", _FONT, r"\1"),
)
_WORDS = rules(("\\", _TEXT, lambda m: rf"\text{{{_word(m[1])}}}" if m[1].strip() else " "))
_SPACED = rules((r"\ ~", _THIN, " "))
_SCRIPTS = rules(
    ("_ ^", _SHORT_SCRIPT, r"\1{\2}"),
    (r"\%", re.compile(r"\\%"), "%"),
    (r"\&", re.compile(r"\\&"), "&"),
    (r"\_", re.compile(r"\\_"), "_"),
)
_MEANT = {  # by words what has a sign of its own
    **dict.fromkeys((r"\text{infinity}", "infinity", r"\text{positive infinity}"), r"\infty"),
    **dict.fromkeys((r"\text{negative infinity}", r"-\text{infinity}"), r"-\infty"),
    **dict.fromkeys((r"\{\}", r"\text{empty set}", r"\text{the empty set}", r"\text{null set}"), r"\emptyset"),
    **{
        form.format(words): r"\mathbb{R}"
        for words in ("all real numbers", "all reals", "all real values", "any real number", "the real numbers")
        for form in ("{}", r"\text{{{}}}")
    },
}


def _word(text: str) -> str:
    """Converts words to lower case. A single letter keeps its case (A is not a); ``p.m.`` becomes ``pm``."""
    text = _MERIDIEM.sub(lambda m: f"{m[1].lower()}m", text)
    return " ".join(_LETTERS.sub(lambda m: m[0].lower(), text).split())


_FRACTION = re.compile(r"\\frac(?![a-zA-Z])")
_ARGUMENT = re.compile(r"\s*(?:([0-9a-zA-Z])|(\\[a-zA-Z]+))")


def braced_fractions(text: str) -> str:
    r"""Puts both arguments of every ``\frac`` into braces, as TeX reads it: ``\frac12`` is a half."""
    parts, start = [], 0
    for match in _FRACTION.finditer(text):
        if match.start() < start:
            continue  # inside an argument, which the next round treats
        i = match.end()
        arguments: list[str] = []
        while len(arguments) < 2:
            while i < len(text) and text[i].isspace():
                i += 1
            single = _ARGUMENT.match(text, i)
            end = closing_brace(text, i) if text[i : i + 1] == "{" else -1
            if end > i:
                arguments.append(text[i + 1 : end])
                i = end + 1
            elif single and not (single[2] and text[single.end() : single.end() + 1] == "{"):
                arguments.append(single[1] or single[2])
                i = single.end()
            else:
                break
        if len(arguments) == 2:
            above, below = map(braced_fractions, arguments)
            parts += [text[start : match.start()], f"\\frac{{{above}}}{{{below}}}"]
            start = i
    return "".join([*parts, text[start:]])


_MERIDIEM = re.compile(r"\b([aApP])\.?\s?[mM]\b\.?")
_LETTERS = re.compile(r"[A-Za-z]{2,}")
_CLOCK = re.compile(r"(?<=\d)\s*([aApP])\.?\s?[mM]\.?$", _A)
_SPACE = re.compile(r"(\\[a-zA-Z]+)\s+(?=[a-zA-Z])|(?<=[a-zA-Z])(\s+)(?=[a-zA-Z])|\s+")


def _spaces(text: str) -> str:
    """Removes all spaces but those that separate a macro or a word from the letters after it."""
    return _SPACE.sub(lambda m: f"{m[1]} " if m[1] else (" " if m[2] else ""), text).strip()


def closing_brace(text: str, start: int) -> int:
    """Returns the index of the brace that closes the one at ``start``; -1 if none does."""
    depth, i = 0, start
    while i < len(text):
        if text[i] == "\\":
            i += 2
            continue
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return i
        i += 1
    return -1


def rational(text: str) -> Fraction | None:
    r"""Returns the exact value of a normal form that is a number, else None.

    Numbers are ``-3``, ``.25``, ``1,234``, ``1e3``, ``7/4``, ``\frac{-7}{4}`` and the mixed ``3\frac{1}{2}``
    (``3\frac{3}{2}`` is a product, and not read here). A text with more than 500 digits in a row or with a zero
    denominator is no number.
    """
    if _THOUSANDS.match(text):
        text = text.replace(",", "")
    if number := _NUMBER.match(text):
        value = _integer(number[2].rstrip("."))
        sign = number[1]
    elif scientific := _SCIENTIFIC.match(text):
        value = _integer(scientific[2].rstrip("."))
        value = None if value is None else value * Fraction(10) ** int(scientific[3])
        sign = scientific[1]
    elif ratio := _RATIO.match(text):
        value = _quotient(ratio[2], ratio[3])
        sign = ratio[1]
    elif latex := _LATEX_RATIO.match(text):
        value = _quotient(latex[4], latex[6])
        sign = latex[1]
        inner = (latex[3] == "-") != (latex[5] == "-")
        if value is not None and latex[2]:
            proper = "." not in latex[4] + latex[6] and 0 <= value < 1 and not inner
            whole = _integer(latex[2]) if proper else None
            value = None if whole is None else whole + value
        elif value is not None and inner:
            value = -value
    else:
        return None
    return None if value is None else (-value if sign == "-" else value)


def _integer(digits: str) -> Fraction | None:
    return Fraction(digits) if len(digits) <= MAX_DIGITS else None


def _quotient(numerator: str, denominator: str) -> Fraction | None:
    above, below = _integer(numerator.rstrip(".")), _integer(denominator.rstrip("."))
    return above / below if above is not None and below else None


_UNIT = re.compile(r"(?<=[\d}])(?:\\text\{[^{}]*\}(?:\^\{\d\})?|\\degree|%|[a-zA-Z]{2,}(?: [a-zA-Z]+)*)$", _A)


def canonical(answer: str) -> str:
    """Returns one string for most spellings of the same answer: the reduced fraction, or the normal form without unit,
    currency and definition. Two answers with one canonical string may still differ (``x = 5``, ``y = 5``): it is for
    counting votes, not for grading."""
    text = normalise(answer)
    text = _DEFINED.sub("", text)
    if "matrix" not in text and ":" not in text:
        text = _UNIT.sub("", text).replace("\\dollar", "")
    text = re.sub(r"\\text\{([^{}]*)\}", r"\1", text).strip()
    value = rational(text)
    return text if value is None else str(value)
