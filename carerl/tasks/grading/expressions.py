r"""Equality of mathematical expressions: parsed by math-verify's parser (latex2sympy2_extended), compared here.

math-verify's own comparison is not used: it rounds to six decimals (0.333333 counts as 1/3), chops differences below
1e-15 (``1/2^{98}`` counts as ``1/2^{99}``), unpacks relations by their last side and pairs sets of unequal sizes
(its issues 14 and 60), and its limits are signals that neither threads nor native code obey (issues 63 and 65).

Here numbers are exact, and expressions are compared by their values: to 60 digits, relative to their size, at fixed
rational points of their variables. Two different elementary expressions that agree at every point to 60 digits do not
occur by accident; the error left is on the other side, where a function is not defined at the points.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy

from .base import LimitError
from .normal_form import MAX_ANSWER, rational

MAX_BITS = 30_000  # of any integer that evaluation may make
MAX_DEPTH = 60  # of brackets
MAX_NODES = 2_000  # of the parsed tree
_DIGITS = 60
_TOLERANCE = sympy.Float("1e-50", _DIGITS)

_FUNCTIONS = "arcsin|arccos|arctan|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln"
_PLAIN_FUNCTION = re.compile(rf"(?<![a-zA-Z\\])(?:{_FUNCTIONS}|pi|theta|infinity)(?![a-zA-Z])")
_PLAIN_ROOT = re.compile(r"(?<![a-zA-Z\\])sqrt\s*(\(|\{)")
_REPEATING = re.compile(r"(\d*)\.(\d*)\\overline\{(\d+)\}", re.ASCII)
_DECIMAL = re.compile(r"(?<![\d.])(\d*)\.(\d+)(?![\d.])", re.ASCII)
_MIXED = re.compile(r"(?<![\d.^_])(\d+)\\frac\{(\d+)\}\{(\d+)\}", re.ASCII)
_JUXTAPOSED = re.compile(
    r"(?<=[\d)])(?=\()|(?<=\d)(?=\\(?:frac|binom|sqrt))|(?<=\))(?=\d|\\frac)"
)  # it reads 3(4) as 3 + 4
_LONG_EXPONENT = re.compile(r"\^\{?-?\d{7,}", re.ASCII)
_BINOMIAL = re.compile(r"\\[dt]?binom\{(\d+)\}\{(\d+)\}", re.ASCII)
_WITH_CIRCLE = re.compile(r"(\d+(?:\.\d+)?)\\degree", re.ASCII)
_UNREADABLE = re.compile(r"\\text|\\begin|\\dollar|\\underline|\\pmod|\\dots|\\ldots|\\cdots|%|\"|&|\.\.\.|[?#@;:'`]")
_CONFIG = ConversionConfig(interpret_as_mixed_fractions=False, lowercase_symbols=False)
_UNIT_I = sympy.Symbol("i")  # the imaginary unit, as the answers of MATH have it


def _points(count: int) -> list[list[sympy.Rational]]:
    """Rational values, some negative, of ``count`` variables at six points."""

    def coordinate(i: int, p: int) -> sympy.Rational:
        return sympy.Rational((37 * (i + 2) * (p + 3)) % 101 + 13, 29 + 4 * ((i + p) % 5)) * (-1) ** (p * (i + 1) // 2)

    return [[coordinate(i, p) for i in range(count)] for p in range(6)]


def _prepared(text: str) -> str | None:
    """A normal form as the parser wants it: decimals as fractions, plain functions as macros."""
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
    if any(int(m[1]) > 10_000 for m in _BINOMIAL.finditer(text)):
        raise LimitError("a binomial coefficient too large")
    text = _MIXED.sub(_mixed, text)
    text = _WITH_CIRCLE.sub(r"(\1\\cdot\\frac{\\pi}{180})", text)
    text = _PLAIN_FUNCTION.sub(lambda m: {"infinity": r"\infty "}.get(m[0], "\\" + m[0] + " "), text)
    text = _plain_roots(text)
    text = _REPEATING.sub(lambda m: _fraction(_repeating(m[1], m[2], m[3])), text)
    text = _DECIMAL.sub(lambda m: _fraction(Fraction(f"{m[1] or 0}.{m[2]}")), text)
    text = _JUXTAPOSED.sub(r"\\cdot ", text)
    return text.replace("*", r"\cdot ")


def _mixed(match: re.Match[str]) -> str:
    if int(match[2]) >= int(match[3]):
        return match[0]  # no mixed number but a product
    return rf"({match[1]}+\frac{{{match[2]}}}{{{match[3]}}})"


def _fraction(value: Fraction) -> str:
    return rf"(\frac{{{value.numerator}}}{{{value.denominator}}})"


def _repeating(whole: str, fixed: str, period: str) -> Fraction:
    """0.1\\overline{6}: the period repeats for ever.

    >>> _repeating("0", "1", "6")
    Fraction(1, 6)
    """
    scale = 10 ** len(fixed)
    return Fraction(int(f"{whole or 0}{fixed}"), scale) + Fraction(int(period), scale * (10 ** len(period) - 1))


def _plain_roots(text: str) -> str:
    """``sqrt(3)`` as ``\\sqrt{3}``."""
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


@lru_cache(maxsize=512)
def parse(text: str) -> Any:
    """The sympy expression of a normal form; None if it cannot be read as one. Raises LimitError."""
    value = rational(text)
    if value is not None:
        return sympy.Rational(value.numerator, value.denominator)
    prepared = _prepared(text)
    if prepared is None:
        return None
    try:
        tree = latex2sympy(prepared, conversion_config=_CONFIG)
    except (RecursionError, MemoryError):
        raise
    except Exception:  # the parser raises plain Exception, and what its parts raise
        return None
    if not isinstance(tree, sympy.Expr):
        return None
    _check(tree)
    try:
        done = tree.doit()
        done = done.replace(lambda e: isinstance(e, sympy.UnevaluatedExpr), lambda e: e.args[0])
        return done.subs(_UNIT_I, sympy.I) if isinstance(done, sympy.Expr) else None
    except (RecursionError, MemoryError):
        raise
    except Exception:
        return None


def _check(tree: Any) -> None:
    """Raises LimitError where evaluating the tree would make an integer of more than 30,000 bits."""
    nodes = 0
    for nodes, _ in enumerate(sympy.preorder_traversal(tree)):
        if nodes > MAX_NODES:
            raise LimitError("an expression of too many parts")
    _bits(tree)


def _bits(e: Any) -> float:
    """An upper bound of log2 of a number's numerator and denominator, 1 for what is not a number."""
    if isinstance(e, sympy.Rational):
        bits = float(max(abs(e.p).bit_length(), e.q.bit_length()))
    elif isinstance(e, sympy.Pow):
        base, exponent = (_bits(a) for a in e.args)
        size = _size(e.args[1], exponent)
        bits = base * size if not e.args[0].free_symbols else size
    elif isinstance(e, sympy.factorial | sympy.factorial2 | sympy.binomial | sympy.gamma):
        size = _size(e.args[0], _bits(e.args[0]))
        bits = size * max(1.0, min(64.0, _bits(e.args[0])))
    elif isinstance(e, sympy.Sum | sympy.Product):
        bits = 0.0
        for part in e.args[1:]:
            for limit in part.args[1:]:
                if limit.is_finite is not False and _size(limit, _bits(limit)) > 1_000:
                    raise LimitError("a sum of too many terms")
        bits = max(_bits(e.args[0]), 64.0)
    elif isinstance(e, sympy.exp):
        _size(e.args[0], _bits(e.args[0]))
        bits = 64.0
    elif e.args:
        bits = sum(_bits(a) for a in e.args)
    else:
        bits = 1.0
    if bits > MAX_BITS:
        raise LimitError("a number of too many digits")
    return bits


def _size(e: Any, bits: float) -> float:
    """An upper bound of a number's absolute value; 1 if it holds variables."""
    if e.free_symbols:
        return float(sum(_size(n, _bits(n)) for n in e.atoms(sympy.Rational))) or 1.0
    if isinstance(e, sympy.Rational):
        return float(abs(e)) if bits < 64 else _too_large()
    return 2.0**bits if bits < 20 else _too_large()


def _too_large() -> float:
    raise LimitError("an exponent too large")


def same(one: Any, other: Any) -> bool:
    """Whether two parsed expressions have the same value, wherever both have one."""
    if one is None or other is None:
        return False
    if isinstance(one, sympy.Rational) and isinstance(other, sympy.Rational):
        return bool(one == other)
    if one == other:
        return one is not sympy.nan and not one.has(sympy.zoo)
    if one.has(sympy.oo, sympy.zoo, sympy.nan) or other.has(sympy.oo, sympy.zoo, sympy.nan):
        return False
    points = 0
    for a, b in _values(one, other):
        if not _close(a, b):
            return False
        points += 1
    return points >= (3 if one.free_symbols or other.free_symbols else 1)


def proportional(one: Any, other: Any, positive: bool) -> bool:
    """Whether one is a constant other than 0 times the other (a positive one if asked for): ``one = 0`` and
    ``other = 0`` are then the same equation."""
    if one is None or other is None or not one.free_symbols or one.free_symbols != other.free_symbols:
        return False
    values = list(_values(one, other))
    ratios = [a / b for a, b in values if b != 0 and abs(b) > _TOLERANCE]
    if len(ratios) < 2 or abs(ratios[0]) < _TOLERANCE or len(ratios) != len(values):
        return False
    if positive and not (ratios[0].is_real and ratios[0] > 0):
        return False
    return all(_close(ratios[0], r) for r in ratios[1:])


def _values(one: Any, other: Any) -> Iterator[tuple[Any, Any]]:
    """The values of both at six points, one after the other, where both have one. Where only one of them has, they
    differ: a pair of unequal values stands for it."""
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    for point in _points(len(symbols)) if symbols else [[]]:
        at = dict(zip(symbols, point, strict=True))
        a, b = _number(one, at), _number(other, at)
        if a is not None and b is not None:
            yield a, b
        elif (a is None) != (b is None):
            yield sympy.Float(0), sympy.Float(1)


def _number(e: Any, at: dict[Any, Any]) -> Any:
    """A complex number of 60 digits, or None."""
    value = e.subs(at) if at else e
    _check(value)
    value = value.evalf(_DIGITS)
    return value if value.is_number and value.is_finite and not value.has(sympy.Function) and _plain(value) else None


def _plain(value: Any) -> bool:
    real, imaginary = value.as_real_imag()
    return all(isinstance(part, sympy.Float | sympy.Rational) for part in (real, imaginary))


def _close(a: Any, b: Any) -> bool:
    size = max(abs(a), abs(b))
    if a == 0 or b == 0:
        return bool(size < _TOLERANCE)
    return bool(abs(a - b) <= _TOLERANCE * size) or bool(size < sympy.Float("1e-110", _DIGITS))
