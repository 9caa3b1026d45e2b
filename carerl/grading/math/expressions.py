r"""Compares mathematical expressions: parsed by math-verify's parser (latex2sympy2_extended), compared here.

math-verify's own comparison is not used: it rounds to six decimals (0.333333 counts as 1/3), chops differences below
1e-15 (``1/2^{98}`` counts as ``1/2^{99}``), unpacks relations by their last side and pairs sets of unequal sizes (its
issues 14 and 60), and its limits are signals that neither threads nor native code obey (issues 63 and 65).

Here numbers are exact. Expressions are compared by their values at fixed rational points of their variables, to 60
digits more than the longest number in them has, so that no decimal passes for a root; their difference is computed to
1,500 digits. Two different elementary expressions that agree so far at every point do not occur by accident. The error
that is left is on the other side, where a function is not defined at the points. Where logarithms of variables occur,
the variables are positive.
"""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import lru_cache
from typing import Any

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy

from carerl.grading.base import LimitError

from .latex import prepared
from .normal_form import rational

MAX_BITS = 30_000  # of any integer that evaluation may make
MAX_NODES = 2_000  # of the parsed tree
MAX_TERMS = 400  # of a sum or product, those within it multiplied
_DIGITS = 60
_FINE = 1_500  # digits of the difference of two values that agree to all those digits

_CONFIG = ConversionConfig(interpret_as_mixed_fractions=False, lowercase_symbols=False)
_UNIT_I = sympy.Symbol("i")  # the imaginary unit, as the answers of MATH have it


def _points(count: int) -> list[list[sympy.Rational]]:
    """Returns rational values, some of them negative, of ``count`` variables at six points."""

    def coordinate(i: int, p: int) -> sympy.Rational:
        return sympy.Rational((37 * (i + 2) * (p + 3)) % 101 + 13, 29 + 4 * ((i + p) % 5)) * (-1) ** (p * (i + 1) // 2)

    return [[coordinate(i, p) for i in range(count)] for p in range(6)]


@lru_cache(maxsize=512)
def parse(text: str) -> Any:
    """Returns the sympy expression of a normal form; None if it cannot be read as one. Raises LimitError."""
    value = rational(text)
    if value is not None:
        return sympy.Rational(value.numerator, value.denominator)
    latex = prepared(text)
    if latex is None:
        return None
    try:
        tree = latex2sympy(latex, conversion_config=_CONFIG)
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
    """Raises LimitError if evaluating the tree would make an integer of more than 30,000 bits."""
    nodes = 0
    for nodes, _ in enumerate(sympy.preorder_traversal(tree)):
        if nodes > MAX_NODES:
            raise LimitError("an expression of too many parts")
    _bits(tree)


def _bits(e: Any) -> float:
    """Returns an upper bound of log2 of a number's numerator and denominator; 1 for anything but a number."""
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
        if _terms(e) > MAX_TERMS:
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


def _terms(e: Any) -> float:
    """Counts the terms of a sum or product, including those of the sums within it."""
    terms = 1.0
    for part in e.args[1:]:
        for limit in part.args[1:]:
            if limit.is_finite is not False:
                terms *= max(1.0, _size(limit, _bits(limit)))
    return terms * max([_terms(inner) for inner in e.args[0].atoms(sympy.Sum, sympy.Product)], default=1.0)


def _size(e: Any, bits: float) -> float:
    """Returns an upper bound of a number's absolute value; 1 if it holds variables."""
    if e.free_symbols:
        return float(sum(_size(n, _bits(n)) for n in e.atoms(sympy.Rational))) or 1.0
    if isinstance(e, sympy.Rational):
        return float(abs(e)) if bits < 64 else _too_large()
    return 2.0**bits if bits < 20 else _too_large()


def _too_large() -> float:
    raise LimitError("an exponent too large")


def same(one: Any, other: Any) -> bool:
    """Returns True if two parsed expressions have the same value wherever both have one."""
    if one is None or other is None:
        return False
    if isinstance(one, sympy.Rational) and isinstance(other, sympy.Rational):
        return bool(one == other)
    if one == other:
        return one is not sympy.nan and not one.has(sympy.zoo)
    if one.has(sympy.oo, sympy.zoo, sympy.nan) or other.has(sympy.oo, sympy.zoo, sympy.nan):
        return False
    digits = _digits(one, other)
    points = 0
    for a, b in _values(one, other, digits):
        if not _close(a, b, digits):
            return False
        points += 1
    return points >= (3 if one.free_symbols or other.free_symbols else 1) and not _differ_slightly(one, other)


def real(value: Any) -> Fraction | None:
    """Returns a parsed number to 60 digits, exact if it is rational; None if it is no real number."""
    if value is None or value.free_symbols or value.has(sympy.oo, sympy.zoo, sympy.nan):
        return None
    if isinstance(value, sympy.Rational):
        return Fraction(int(value.p), int(value.q))
    number = value.evalf(_DIGITS)
    return Fraction(str(number)) if isinstance(number, sympy.Float) else None


def proportional(one: Any, other: Any, positive: bool) -> bool:
    """Returns True if one is a constant other than 0 times the other (a positive one if asked for): then ``one = 0``
    and ``other = 0`` are the same equation."""
    if one is None or other is None or not one.free_symbols or one.free_symbols != other.free_symbols:
        return False
    digits = _digits(one, other)
    values = list(_values(one, other, digits))
    ratios = [a / b for a, b in values if not _is_zero(b)]
    if len(ratios) < 2 or _is_zero(ratios[0]) or len(ratios) != len(values):
        return False
    if positive and not (ratios[0].is_real and ratios[0] > 0):
        return False
    return all(_close(ratios[0], r, digits) for r in ratios[1:])


def _digits(one: Any, other: Any) -> int:
    """Returns 60 more than the number of digits of the longest number in either."""
    longest = max((max(abs(n.p), n.q).bit_length() for e in (one, other) for n in e.atoms(sympy.Rational)), default=0)
    return _DIGITS + longest * 3 // 10


def _values(one: Any, other: Any, digits: int) -> Iterator[tuple[Any, Any]]:
    """Yields the values of both at one point after the other, where both have one. Where only one has a value they
    differ, and a pair of unequal values is yielded."""
    for at in _places(one, other):
        a, b = _number(one, at, digits), _number(other, at, digits)
        if a is not None and b is not None:
            yield a, b
        elif (a is None) != (b is None):
            yield sympy.Float(0), sympy.Float(1)


def _places(one: Any, other: Any) -> list[dict[Any, Any]]:
    symbols = sorted(one.free_symbols | other.free_symbols, key=str)
    if not symbols:
        return [{}]
    points = _points(len(symbols))
    if any(log.free_symbols for e in (one, other) for log in e.atoms(sympy.log)):
        points = [[abs(x) for x in point] for point in points]
    if one.has(sympy.floor, sympy.ceiling) or other.has(sympy.floor, sympy.ceiling):
        points += [[sympy.Integer(k + i) for i in range(len(symbols))] for k in (2, -3)]
    return [dict(zip(symbols, point, strict=True)) for point in points]


def _number(e: Any, at: dict[Any, Any], digits: int) -> Any:
    """Evaluates an expression to a complex number of so many digits; None if that fails."""
    value = e.subs(at) if at else e
    _check(value)
    value = value.evalf(digits, maxn=2 * digits)
    return value if value.is_number and value.is_finite and not value.has(sympy.Function) and _plain(value) else None


def _plain(value: Any) -> bool:
    real, imaginary = value.as_real_imag()
    return all(isinstance(part, sympy.Float | sympy.Rational) for part in (real, imaginary))


def _is_zero(value: Any) -> bool:
    """Returns True if nothing but rounding is left of a number: sympy then gives it a precision of a few bits."""
    return all(part == 0 or (isinstance(part, sympy.Float) and part._prec <= 8) for part in value.as_real_imag())


def _close(a: Any, b: Any, digits: int) -> bool:
    if _is_zero(a) or _is_zero(b):
        return _is_zero(a) and _is_zero(b)
    return bool(abs(a - b) <= sympy.Float(10, 15) ** (10 - digits) * max(abs(a), abs(b)))


def _differ_slightly(one: Any, other: Any) -> bool:
    """Returns True if the difference, at one point and to 1,500 digits, is not 0: 1 + e^{-1000} is not 1."""
    try:
        difference = (one - other).subs(_places(one, other)[0])
        if difference == 0 or not difference.is_number:
            return False
        value = difference.evalf(5, maxn=_FINE)
        return bool(value.is_number and _plain(value) and not _is_zero(value))
    except (ValueError, TypeError, ArithmeticError):
        return False
