r"""Compares sets of real numbers, however they are written, as sets of sympy: ``[0,1) \cup (2,3)``, ``-2 < x < 7``,
``|x-1| \le 2``, ``x \ne 3``, ``\mathbb{R} \setminus \{3\}``, ``x < 2 \text{ or } x > 3``."""

from __future__ import annotations

import re
from typing import Any

from .structure import SCALAR, Answer, is_variable

ORDERS = {"<", ">", r"\le", r"\ge", r"\ne", r"\in"}
_DISTANCE = re.compile(r"^\|([^|]+)\|$")


def describes_a_set(answer: Answer) -> bool:
    """Returns True if an answer's form alone makes it a set of real numbers; an interval such as (1,2) may be a
    point."""
    if answer.kind == "relation":
        return set(answer.mark.split()) <= ORDERS
    if answer.kind == "list":
        return all(part.kind == "relation" and describes_a_set(part) for part in answer.parts)
    return answer.kind in ("union", "difference")


def same_reals(a: Answer, g: Answer) -> bool | None:
    """Returns True if two answers describe the same set of real numbers, of one variable; None if one describes
    none."""
    names = [variables(answer) for answer in (a, g)]
    if any(len(name) > 1 for name in names) or (all(names) and names[0] != names[1]):
        return False
    try:
        one, other = _set(a), _set(g)
        return bool(one == other)
    except (ValueError, TypeError, NotImplementedError):  # the last is sympy's, of ends that it cannot order
        return None


def variables(answer: Answer) -> set[str]:
    """Returns the names that stand alone on a side of a relation, or within the bars of an absolute value."""
    if answer.kind == "list":
        return set().union(*map(variables, answer.parts))
    if answer.kind != "relation":
        return set()
    found = {side.text for side in answer.parts if is_variable(side.text)}
    for side in answer.parts:
        if distance := _DISTANCE.match(side.text):
            found |= set(re.findall(r"(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])", distance[1]))
    return found


def _set(answer: Answer) -> Any:
    import sympy

    if answer.kind == "union":
        return sympy.Union(*map(_set, answer.parts))
    if answer.kind == "difference":
        whole, without = map(_set, answer.parts)
        return whole - without
    if answer.kind == "relation":
        return _of_relation(answer)
    if answer.kind == "list" and answer.parts:
        parts = [_set(part) for part in answer.parts]
        if answer.mark == "or" or all(part.kind == "group" for part in answer.parts):
            return sympy.Union(*parts)
        if answer.mark == "and" or all(part.mark == r"\ne" for part in answer.parts):
            return sympy.Intersection(*parts)
        both = sympy.Intersection(*parts)
        return both if both is not sympy.S.EmptySet else sympy.Union(*parts)
    if answer.kind == "set":
        return sympy.FiniteSet(*map(_real, answer.parts))
    if answer.kind == "group" and len(answer.parts) == 2:
        low, high = map(_real, answer.parts)
        if (low < high) is not sympy.true:
            raise ValueError(answer.text)
        return sympy.Interval(low, high, answer.mark[0] == "(", answer.mark[1] == ")")
    raise ValueError(answer.text)


def _real(answer: Answer) -> Any:
    from .expressions import parse

    value = parse(answer.text) if answer.kind in SCALAR else None
    if value is None or not value.is_extended_real:
        raise ValueError(answer.text)
    return value


def _of_relation(relation: Answer) -> Any:
    """Returns the numbers that a relation allows its variable."""
    import sympy

    operators, sides = oriented(relation)
    if operators == [r"\in"] and is_variable(sides[0].text):
        return _set(sides[1])
    if set(operators) - {"<", r"\le", r"\ne"}:
        raise ValueError(relation.text)
    if len(sides) == 2:
        distance = [_DISTANCE.match(side.text) for side in sides]
        if (distance[0] is None) != (distance[1] is None):
            return _of_distance(distance[0] or distance[1], sides, operators[0], inside=distance[0] is not None)
        if operators == [r"\ne"]:
            value = sides[1] if is_variable(sides[0].text) else sides[0]
            return sympy.Complement(sympy.Reals, sympy.FiniteSet(_real(value)))
        if is_variable(sides[0].text):
            return sympy.Interval(-sympy.oo, _real(sides[1]), True, operators == ["<"])
        if is_variable(sides[1].text):
            return sympy.Interval(_real(sides[0]), sympy.oo, operators == ["<"], True)
    if len(sides) == 3 and is_variable(sides[1].text) and r"\ne" not in operators:
        low, high = _real(sides[0]), _real(sides[2])
        if (low < high) is not sympy.true:
            raise ValueError(relation.text)
        return sympy.Interval(low, high, operators[0] == "<", operators[1] == "<")
    raise ValueError(relation.text)


def _of_distance(match: Any, sides: tuple[Answer, ...], operator: str, inside: bool) -> Any:
    """Returns the set of ``|ax + b| < c`` or ``c < |ax + b|``."""
    import sympy

    from .expressions import parse

    inner = parse(match[1])
    bound = _real(sides[1] if inside else sides[0])
    if inner is None or len(inner.free_symbols) != 1 or operator == r"\ne" or (bound > 0) is not sympy.true:
        raise ValueError(match[0])
    symbol = next(iter(inner.free_symbols))
    slope, at_zero = sympy.expand(inner).coeff(symbol, 1), inner.subs(symbol, 0)
    if not slope.is_real or slope.is_zero or sympy.expand(inner - slope * symbol - at_zero) != 0:
        raise ValueError(match[0])
    ends = sorted(((bound - at_zero) / slope, (-bound - at_zero) / slope))
    ball = sympy.Interval(*ends, operator == "<", operator == "<")
    return ball if inside else sympy.Complement(sympy.Reals, sympy.Interval(*ends, operator != "<", operator != "<"))


_FLIPPED = {">": "<", r"\ge": r"\le"}


def oriented(relation: Answer) -> tuple[list[str], tuple[Answer, ...]]:
    """Returns operators and sides, with every "greater" turned around."""
    operators = relation.mark.split()
    if all(o in _FLIPPED for o in operators):
        return [_FLIPPED[o] for o in reversed(operators)], relation.parts[::-1]
    return operators, relation.parts
