r"""Recognises decimals of a computer's arithmetic: 15 to 17 digits that are those of the exact value, or of the nearest
double.

>>> [is_double_of(t, Fraction(1, 12)) for t in ("0.08333333333333333", "0.0833333333333333", "0.083333333")]
[True, True, False]
"""

from __future__ import annotations

import re
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

LEAST, MOST = 15, 17  # digits that a double is sure to keep, and that tell it from every other
SHORTEST = 12  # digits of a double in its shortest form, which may need less than 15
_DECIMAL = re.compile(r"^[-+]?(\d*)\.(\d+)(?:[eE][-+]?\d{1,3})?$", re.ASCII)


def digits(text: str) -> int:
    """Counts the digits of a decimal from the first that is not 0, as written; 0 for a text that is no decimal."""
    match = _DECIMAL.match(text) if len(text) > SHORTEST and "." in text else None
    return len((match[1] + match[2]).lstrip("0")) if match else 0


def is_double_of(text: str, value: Fraction) -> bool:
    """Returns True if a decimal is the value, or the double nearest to it, rounded to as many digits as the decimal
    has.

    More than 17 digits must be the double's own; fewer than 15 must be its shortest form, as computers print it.
    """
    count = digits(text)
    if not SHORTEST <= count <= 800:
        return False
    written = Decimal(text)
    context = Context(prec=count, rounding=ROUND_HALF_EVEN)
    try:
        nearest = float(value)
    except OverflowError:
        return False
    if count < LEAST:
        return written == Decimal(repr(nearest))
    if written == context.plus(Decimal(nearest)):
        return True
    exact = context.divide(Decimal(value.numerator), Decimal(value.denominator))
    return count <= MOST and written == exact
